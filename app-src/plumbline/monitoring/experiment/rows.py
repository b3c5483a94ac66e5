"""An experiment's rows from the log: which versions, whose callers, on which days, and what each row is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

import numpy as np
from psycopg import Connection

from plumbline.core.ids import instant
from plumbline.core.metrics.curve import Floats
from plumbline.core.metrics.names import Costs
from plumbline.core.metrics.rows import per_row
from plumbline.core.schema import Output
from plumbline.monitoring.experiment.evidence import collect
from plumbline.monitoring.experiment.policy import Arm, Experiment
from plumbline.monitoring.experiment.verdict import Data
from plumbline.monitoring.log.queries import ROWS, window

DAY = 86_400_000
"""Milliseconds."""
_CLOCKS = 60_000
"""How much earlier than its prediction a label may seem to come, in milliseconds: two clocks are never one."""
_OF_ARM: LiteralString = """
    FROM monitoring.predictions
    WHERE model = %(model)s AND id >= %(low)s AND (%(role)s::text IS NULL OR role = %(role)s)
    AND (%(arm)s::text IS NULL OR arm = %(arm)s)"""
_NEWEST: LiteralString = "SELECT version, id" + _OF_ARM + " AND version <> %(but)s ORDER BY id DESC LIMIT 1"
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
    SELECT subject, bool_or(treated), bool_or(NOT treated), count(*) FROM arms WHERE treated IS NOT NULL GROUP BY 1"""
LABELLED: LiteralString = """
    SELECT treated, subject, caller, id, labelled_ms, label, output -> 'probabilities', truth #>> '{}', abs(error),
           value, ms, features
    FROM arms WHERE treated IS NOT NULL AND labelled_ms IS NOT NULL ORDER BY id, row"""


@dataclass(frozen=True, slots=True)
class Versions:
    """Which versions are compared, and since when; None where an arm has no predictions."""

    control: str | None
    treatment: str | None
    since: datetime | None
    last: datetime | None = None
    """When treatment answered last."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row whose label came in time."""

    treated: bool
    subject: str
    caller: str
    day: int
    label: str | None
    probabilities: Mapping[str, float]
    truth: str
    error: float | None
    value: float | None
    ms: float
    features: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExperimentLog:
    """The log of an experiment."""

    versions: Versions
    rows: Sequence[Labelled]
    data: Data

    @property
    def answers_labels(self) -> bool:
        """Whether the answers are labels, not values."""
        return any(row.label is not None for row in self.rows)


def read(connection: Connection[Any], policy: Experiment, since: datetime | None) -> ExperimentLog:
    """The rows that the policy judges: treatment's newest version, and control's newest other one since it began.

    Versions of one arm are never mixed. Who was seen in both arms, or has no name, is in neither.
    """
    versions = _versions(connection, policy, since)
    values = {
        **window(policy.model, versions.since), **_named("t", policy.treatment, versions.treatment),
        **_named("c", policy.control, versions.control),
    }  # fmt: skip
    seen = connection.execute(ROWS + _ARMS + _CALLERS, values).fetchall()
    named = [(caller, treated, control) for caller, treated, control, _ in seen if caller]
    crossed = {caller for caller, treated, control in named if treated and control}
    begin = int((versions.since or datetime.now(UTC)).timestamp() * 1000)
    rows, faults = _rows(connection, values, begin, policy.labelDays)
    kept = [row for row in rows if row.subject and row.subject not in crossed]
    data = Data(
        collect(
            numbers([row.subject for row in kept]), np.array([row.day for row in kept], dtype=np.int64),
            np.array([row.treated for row in kept], dtype=np.bool_), _figures(kept, policy.costs),
        ),
        None,
        (datetime.now(UTC).timestamp() * 1000 - begin) / DAY,
        (sum(control for _, _, control in named) - len(crossed), sum(arm for _, arm, _ in named) - len(crossed)),
        len(crossed),
        sum(count for caller, _, _, count in seen if not caller),
        faults,
    )  # fmt: skip
    return ExperimentLog(versions, rows, data)


def numbers(names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A number for each different name, shape (names,)."""
    return np.unique(np.array(names, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def _rows(
    connection: Connection[Any], values: Mapping[str, Any], begin: int, label_days: int
) -> tuple[list[Labelled], tuple[str, ...]]:
    """The rows whose label came in time, and what is wrong with the log."""
    rows, early = list[Labelled](), list[UUID]()
    for treated, subject, caller, identifier, labelled, *rest in connection.execute(ROWS + _ARMS + LABELLED, values):
        label, probabilities, truth, error, value, ms, features = rest
        asked = int(instant(identifier).timestamp() * 1000)
        if labelled < asked - _CLOCKS:
            early.append(identifier)
        elif labelled <= asked + label_days * DAY:
            day = (asked - begin) // DAY
            rows.append(
                Labelled(treated, subject, caller, day, label, probabilities or {}, truth, error, value, ms, features)
            )
    reason = "labels came before their predictions, the first of"
    faults = (f"feedback: {len(early)} {reason} {early[0]}: a clock or the feedback's ids are wrong",) if early else ()
    return rows, faults


def _figures(rows: Sequence[Labelled], costs: Costs | None) -> dict[str, Floats]:
    """What each row is worth by each metric, shape (rows,); NaN where it has none."""
    plain = {
        "absolute_error": [row.error for row in rows], "value": [row.value for row in rows],
        "ms": [row.ms for row in rows],
    }  # fmt: skip
    figures = {name: np.array(values, dtype=np.float64) for name, values in plain.items()}
    labels = next((tuple(row.probabilities) for row in rows if row.probabilities), ()) or tuple(
        sorted({name for row in rows if row.label is not None for name in (row.label, row.truth)})
    )
    for metric in ("accuracy", "brier", "log_loss", "cost"):
        figures[metric] = np.full(len(rows), np.nan)
    if len(labels) < 2:
        # One label was answered and came true: right answers are all that is known.
        figures["accuracy"] = np.array([np.nan if r.label is None else r.label == r.truth for r in rows], dtype=float)
        return figures
    places = {label: place for place, label in enumerate(labels)}
    classified = [number for number, row in enumerate(rows) if row.label in places and row.truth in places]
    nan = float("nan")
    outputs = np.array([[rows[i].probabilities.get(label, nan) for label in labels] for i in classified])
    truth = np.array([places[rows[i].truth] for i in classified], dtype=np.float64)
    called = np.array([places[str(rows[i].label)] for i in classified], dtype=np.intp)
    if classified:
        for metric, values in per_row(_output(labels), truth, outputs, called, costs).items():
            figures[metric][classified] = values
    return figures


def _output(labels: tuple[str, ...]) -> Output:
    return Output(task="binary" if len(labels) == 2 else "multiclass", name="label", description="", labels=labels)


def _versions(connection: Connection[Any], policy: Experiment, since: datetime | None) -> Versions:
    def newest(arm: Arm, start: datetime | None, but: str = "") -> tuple[str, UUID] | None:
        values = {**window(policy.model, start), "role": arm.role, "arm": arm.arm, "but": but}
        row: tuple[str, UUID] | None = connection.execute(_NEWEST, values).fetchone()
        return row

    last = newest(policy.treatment, since)
    if last is None:
        return Versions((newest(policy.control, since) or (None,))[0], None, since)
    treatment = last[0]
    if since is None:
        arm = policy.treatment
        values = {**window(policy.model, None), "role": arm.role, "arm": arm.arm, "version": treatment}
        first: tuple[UUID] | None = connection.execute(_FIRST, values).fetchone()
        since = instant(first[0]) if first else None
    # The same version on both sides is an A/A test; a canary that became stable is not its own control.
    control = newest(policy.control, since, but=treatment) or newest(policy.control, since) or (None,)
    return Versions(control[0], treatment, since, instant(last[1]))


def _named(prefix: str, arm: Arm, version: str | None) -> dict[str, str | None]:
    return {f"{prefix}_version": version, f"{prefix}_role": arm.role, f"{prefix}_arm": arm.arm}
