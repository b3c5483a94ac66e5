"""One window of the log held against a reference: every kind of drift, with limits of one family."""

from datetime import timedelta

import numpy as np

from plumbline.monitoring.drift.blocks import Window
from plumbline.monitoring.drift.compare import Baseline, Limits, compare
from plumbline.monitoring.drift.data import Side
from plumbline.monitoring.drift.outcome import Outcome
from plumbline.monitoring.drift.report import Check
from plumbline.monitoring.policy import SCORE, Drift


def judge(before: Side, now: Side, policy: Drift, window: Window, version: str, limits: Limits | None = None) -> Check:
    """What a window shows whose rows are `now`; kinds that it has too little for are inconclusive.

    `limits` are those of another window as long that ended at the same hour.
    """
    baseline = Baseline.of(before.frame, policy, before.at, window, limits)
    alike = np.flatnonzero(window.like(before.at)) if before.at is not None else np.arange(before.rows)
    outcome = Outcome.of(before.answers, alike, baseline.limits.blocks, policy, window.tests)
    score = now.frame[SCORE].to_numpy(np.float64) if len(now.frame) else np.empty(0)
    return Check(
        policy.model, version, window.until - window.length, window.until, now.rows, now.labelled,
        compare(baseline, now.frame), outcome.performance(score), outcome.concept(now.answers, now.early),
        policy.quality,
    )  # fmt: skip


def windows(policy: Drift, hours: float | None) -> tuple[timedelta, ...]:
    """The policy's, shortest first, or the one that was asked for."""
    return tuple(timedelta(hours=length) for length in ([hours] if hours else sorted(policy.windows)))
