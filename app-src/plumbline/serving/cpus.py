"""How many CPUs this container may use: its cgroup's quota, not the node's count."""

import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def available_cpus(root: Path = _ROOT) -> float:
    """The smaller of the cgroup's quota (v2 `cpu.max`, v1 `cpu.cfs_quota_us`) and the CPUs of the affinity mask."""
    affinity = float(len(os.sched_getaffinity(0)))
    quota = _quota(root)
    return affinity if quota is None else min(affinity, quota)


def _quota(root: Path) -> float | None:
    try:
        limit, period = (root / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        micros = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return micros / period_us if micros > 0 and period_us > 0 else None
