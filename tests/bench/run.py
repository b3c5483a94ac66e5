"""One run of everything, as the document that is written to docs/benchmarks.json."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import redis
import services

from bench import ours, studies
from bench.environments import LOCKS, ROOT, TOOLS, version_of
from bench.load import LOAD_CORE, closed, opened, pinned
from bench.rounds import Measure, measure
from bench.servers import ECHO, MINIMAL, PEERS, Kind, Running, by_name
from bench.subject import FEATURES, Subject, boosting, matrix_chain
from bundles import make_keys

RATE = 1000
"""Requests a second of the open loop."""
SLOW_SECONDS = 0.02
CASES: dict[str, tuple[str, Measure]] = {
    **{f"1 row, {callers} callers": ("one", partial(closed, callers, 1)) for callers in (1, 16, 64)},
    **{f"100 rows, {callers} callers": ("many", partial(closed, callers, 1)) for callers in (1, 16, 64)},
    f"1 row, {RATE} requests/s": ("one", partial(opened, RATE, 2)),
}
_LOCKED = ("fastapi", "uvicorn", "pydantic", "msgspec", "orjson", "onnxruntime", "numpy", "redis")


def run(stack: ExitStack, folder: Path, rounds: int, only: Sequence[str] | None) -> dict[str, Any]:
    """Measure; with `only`, just the servers whose names hold one of these, and no studies."""
    begun = time.monotonic()
    _keep_priority()
    keys = make_keys(folder / "keys")
    subject = boosting(folder / "model", keys)
    url = stack.enter_context(services.redis(folder / "redis"))
    store = redis.Redis.from_url(url)
    store.config_set("appendonly", "no")  # the stream is not what is measured
    os.sched_setaffinity(int(store.info("server")["process_id"]), {LOAD_CORE})
    kinds = [
        ECHO,
        MINIMAL,
        ours.kind(url),
        ours.kind(url, name=f"{ours.NAME}, rows by name", batch=by_name),
        *PEERS,
    ]
    kinds = [kind for kind in kinds if only is None or any(part in kind.name for part in only)]
    found: dict[str, Any] = {
        "at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "rounds": rounds,
        "machine": _machine(),
        "versions": _versions(kinds),
        "peers": [kind.name for kind in kinds if kind.peer],
    }
    with ExitStack() as servers_stack:
        servers = studies.start(servers_stack, kinds, subject, folder / "servers")
        found["cases"] = {}
        for case, (kind, how) in CASES.items():
            _say(begun, case)
            measured = measure(servers, kind, how, rounds, folder)
            base = measured[MINIMAL.name]
            found["cases"][case] = {name: series.summary(base) for name, series in measured.items()}
        found["servers"] = {
            server.kind.name: {"ready_s": round(server.ready, 2), "memory_mb": round(server.memory(), 1)}
            for server in servers
        }
        found["log"] = _log(servers)
        for server in servers:
            server.check(subject)
    found["studies"] = {} if only is not None else _studies(url, subject, folder, rounds, keys, begun)
    found["seconds"] = round(time.monotonic() - begun)
    return found


def _studies(url: str, subject: Subject, folder: Path, rounds: int, keys: Any, begun: float) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    slow = matrix_chain(folder / "slow", keys, SLOW_SECONDS)
    many = Subject(slow, generator.uniform(0, 1, (4000, FEATURES)).round(4).tolist(), np.empty(0))
    found: dict[str, Any] = {}
    _say(begun, "binary tensors")
    found["binary"] = studies.binary(url, subject, folder / "binary", rounds)
    _say(begun, "features")
    found["features"] = studies.features(url, subject, folder / "features", rounds)
    _say(begun, "cache")
    few = min(rounds, 5)
    subjects = {"the same model": subject, "a model of 20 ms": many}
    found["cache"] = studies.cache(url, subjects, folder / "cache", few)
    _say(begun, "Redis lost")
    found["redis_lost"] = studies.redis_lost(url, many, folder / "cache", few)
    _say(begun, "processes")
    found["pods"] = studies.pods(url, subject, folder / "pods", few)
    _say(begun, "starts")
    found["start"] = studies.starts(url, subject, folder / "starts", few)
    _say(begun, "curves")
    curves = folder / "curves.json"
    subprocess.run(pinned(LOAD_CORE, [sys.executable, "-m", "bench.curves", curves]), check=True)
    found["curves"] = json.loads(curves.read_text())
    return found


def _keep_priority() -> None:
    """Let a nice value reach the servers: Linux may group processes by session and heed it within a group only."""
    own = Path("/proc/self/autogroup")
    if os.nice(0) < 0 and own.exists():
        own.write_text(str(os.nice(0)))


def _log(servers: Iterable[Running]) -> dict[str, float]:
    """How many predictions reached the log and how many found no place in its queue."""
    mine = [server for server in servers if server.kind.name.startswith(ours.NAME)]
    names = {"written": "serving_prediction_log_written_total", "dropped": "serving_prediction_log_dropped_total"}
    return {key: sum(studies.metric(server, name) for server in mine) for key, name in names.items()}


def _machine() -> dict[str, Any]:
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _versions(kinds: Sequence[Kind]) -> dict[str, str]:
    versions = {name: version_of(ROOT / "locks" / "serving.txt", name) for name in _LOCKED}
    for kind in kinds:
        if kind.version is not None:
            lock, package = kind.version
            versions[package] = version_of(LOCKS / f"{lock}.txt", package)
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    versions["wrk"] = (wrk.stdout + wrk.stderr).split()[1]
    go = (TOOLS / "go.mod").read_text()
    versions["vegeta"] = go.partition("github.com/tsenart/vegeta/v12 v")[2].split()[0]
    return versions


def _say(begun: float, what: str) -> None:
    print(f"» [{time.monotonic() - begun:4.0f} s] {what}", flush=True)
