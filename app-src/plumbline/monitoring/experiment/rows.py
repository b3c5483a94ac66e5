"""An experiment's rows from the log, and its verdict for people and machines."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import numpy as np
from psycopg import Connection

from plumbline.core.ids import instant
from plumbline.core.metrics.figures import TINY
from plumbline.monitoring.experiment.readout import finite
from plumbline.monitoring.experiment.verdict import ExperimentRows, Look, Result, Test
from plumbline.monitoring.log.queries import ROWS, window
from plumbline.monitoring.policy import Arm, Experiment

_METRICS = ("accuracy", "absolute_error", "value", "ms", "brier", "log_loss")
_OF_ARM: LiteralString = """
    FROM monitoring.predictions
    WHERE model = %(model)s AND id >= %(low)s AND (%(role)s::text IS NULL OR role = %(role)s)
    AND (%(arm)s::text IS NULL OR arm = %(arm)s)"""
_NEWEST: LiteralString = "SELECT version" + _OF_ARM + " AND version <> %(but)s ORDER BY id DESC LIMIT 1"
_FIRST: LiteralString = "SELECT id" + _OF_ARM + " AND version = %(version)s ORDER BY id LIMIT 1"
_ARMS: LiteralString = """
    , arms AS (
        SELECT *, CASE
            WHEN version = %(t_version)s AND (%(t_role)s::text IS NULL OR role = %(t_role)s)
                 AND (%(t_arm)s::text IS NULL OR arm = %(t_arm)s) THEN true
            WHEN version = %(c_version)s AND (%(c_role)s::text IS NULL OR role = %(c_role)s)
                 AND (%(c_arm)s::text IS NULL OR arm = %(c_arm)s) THEN false END AS treated
        FROM rows
    )"""
_CALLERS: LiteralString = """
    SELECT count(DISTINCT caller) FILTER (WHERE treated), count(DISTINCT caller) FILTER (WHERE NOT treated) FROM arms"""
_LABELLED: LiteralString = """
    SELECT treated, caller, accuracy, abs(error), value, ms, output -> 'probabilities', truth #>> '{}' FROM arms
    WHERE treated IS NOT NULL AND labelled_ms IS NOT NULL ORDER BY labelled_ms, id, row LIMIT %(limit)s"""


@dataclass(frozen=True, slots=True)
class Versions:
    """Which versions are compared, and since when; None where an arm has no predictions."""

    control: str | None
    treatment: str | None
    since: datetime | None


def read(connection: Connection[Any], policy: Experiment, since: datetime | None) -> tuple[ExperimentRows, Versions]:
    """The rows that the policy judges: treatment's newest version, and control's newest other one since it began.

    Versions of one arm are never mixed. At most as many rows leave the database as the last look asks for.
    """
    versions = _versions(connection, policy, since)
    values = {
        **window(policy.model, versions.since), **_named("t", policy.treatment, versions.treatment),
        **_named("c", policy.control, versions.control), "limit": policy.looks[-1],
    }  # fmt: skip
    callers = connection.execute(ROWS + _ARMS + _CALLERS, values).fetchone() or (0, 0)
    found = connection.execute(ROWS + _ARMS + _LABELLED, values).fetchall()
    rows = [(*row, *_scores(probabilities or {}, truth)) for *row, probabilities, truth in found]
    treated, caller, *metrics = zip(*rows, strict=True) if rows else ((),) * (2 + len(_METRICS))
    columns = {name: np.array(column, dtype=np.float64) for name, column in zip(_METRICS, metrics, strict=True)}
    _, numbers = np.unique(np.array(caller, dtype=np.str_), return_inverse=True)
    return ExperimentRows(np.array(treated, dtype=np.bool_), numbers, columns, *callers), versions


def _scores(probabilities: Mapping[str, float], truth: str) -> tuple[float, float]:
    """Brier score and log loss of one answer, as training has them; NaN where the truth is no label of its."""
    if truth not in probabilities:
        return float("nan"), float("nan")
    squares = sum((share - (label == truth)) ** 2 for label, share in probabilities.items())
    # Of two labels the positive one's alone: that of the other is the same.
    brier = squares / 2 if len(probabilities) == 2 else squares
    return brier, -float(np.log(np.clip(probabilities[truth], TINY, 1 - TINY)))


def _versions(connection: Connection[Any], policy: Experiment, since: datetime | None) -> Versions:
    def newest(arm: Arm, start: datetime | None, but: str = "") -> str | None:
        values = {**window(policy.model, start), "role": arm.role, "arm": arm.arm, "but": but}
        row = connection.execute(_NEWEST, values).fetchone()
        return row[0] if row else None

    treatment = newest(policy.treatment, since)
    if treatment is None:
        return Versions(newest(policy.control, since), None, since)
    if since is None:
        arm = policy.treatment
        values = {**window(policy.model, None), "role": arm.role, "arm": arm.arm, "version": treatment}
        first: tuple[UUID] | None = connection.execute(_FIRST, values).fetchone()
        since = instant(first[0]) if first else None
    # The same version on both sides is an A/A test; a canary that became stable is not its own control.
    control = newest(policy.control, since, but=treatment) or newest(policy.control, since)
    return Versions(control, treatment, since)


def _named(prefix: str, arm: Arm, version: str | None) -> dict[str, str | None]:
    return {f"{prefix}_version": version, f"{prefix}_role": arm.role, f"{prefix}_arm": arm.arm}


def as_json(result: Result, versions: Versions) -> dict[str, Any]:
    """The verdict and its numbers as plain values; what is not known is null, never NaN."""
    document = {**asdict(versions), **asdict(result)}
    return {key: _plain(value) for key, value in document.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return finite(float(value))
    return value.isoformat() if isinstance(value, datetime) else value


def as_text(result: Result, versions: Versions) -> str:
    """The verdict on the first line, then its reason and the numbers of every look."""
    since = f"since {versions.since:%Y-%m-%d %H:%M}Z" if versions.since else "of all time"
    lines = [
        result.verdict,
        f"  because: {result.reason}",
        f"  treatment {versions.treatment or 'none'} against control {versions.control or 'none'}, {since};"
        f" {result.rows} labelled rows; split p = {result.sample_ratio_p:.3g}",
    ]
    for look in result.looks:
        lines += _look(look)
    return "\n".join(lines)


def _look(look: Look) -> list[str]:
    if look.passed_over:
        return [f"  look at {look.rows} rows: passed over, {look.passed_over}"]
    return [f"  look at {look.rows} rows:", *(_test(test) for test in (*look.promote, *look.rollback))]


def _test(test: Test) -> str:
    mark = "holds" if test.holds else "open"
    arms = f"control {test.control.value:.4g}, treatment {test.treatment.value:.4g}, gain {test.gain:+.4g}"
    return f"    {test.rule}: {mark} (z {test.z:.3f}, bound {test.bound:.3f}; {arms})"
