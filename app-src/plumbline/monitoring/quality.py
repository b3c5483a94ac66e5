"""How good the answers are, for Prometheus: read from the log once a minute by each consumer, not at each scrape."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import numpy as np
import psycopg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from plumbline.core.metrics.names import higher_is_better
from plumbline.monitoring import live
from plumbline.monitoring.canary import checks as canaries
from plumbline.monitoring.drift import checks
from plumbline.monitoring.experiment import verdicts
from plumbline.monitoring.log.queries import ROWS, window
from plumbline.monitoring.log.store import Store
from plumbline.monitoring.policy import Quality as Asked

WINDOW = timedelta(hours=24)
_EVERY_SECONDS = 60
_ACCURACY_WORSE = 0.05
"""Without a policy: points of accuracy. What an error may be depends on its unit, so there is no such figure for it."""
_VERDICTS = {"drift": 1, "none": 0}
_OF_EXPERIMENT = {"promote": 1, "continue": 0, "rollback": -1}
log = logging.getLogger(__name__)

_MODELS: LiteralString = """
    SELECT DISTINCT p.model FROM monitoring.feedback f JOIN monitoring.predictions p USING (id)
    WHERE p.id >= %(low)s AND p.id < %(high)s AND f.id >= %(low)s AND f.id < %(high)s"""
_LINES: LiteralString = """
    SELECT model, version, role, arm, count(truth), avg(accuracy), avg(abs(error)), avg(value)
    FROM rows WHERE labelled_ms IS NOT NULL GROUP BY 1, 2, 3, 4"""


@dataclass(frozen=True, slots=True)
class Judged:
    """The metric of a model's policy on one line of its answers."""

    line: tuple[str, str, str, str]
    """Model, version, role, arm."""
    metric: str
    value: float
    worse: float | None
    """How much worse than in its week it may be; None where nobody has said it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the database said last; nothing of it is shown any more once it does not answer."""

    up: bool = False
    lines: Sequence[tuple[Any, ...]] = ()
    judged: Sequence[Judged] = ()
    checks: Sequence[dict[str, Any]] = ()
    verdicts: Sequence[dict[str, Any]] = ()
    canaries: Sequence[dict[str, Any]] = ()


class Quality(Collector):
    """Series of the newest reading. Both consumers of a pair show the same; queries take their maximum."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reading = Reading()
        self._failures = 0
        self._read_at = time.time()
        """When the last reading succeeded; at first the start, so that none at all is seen too."""

    def run(self, stop: threading.Event) -> None:
        """Read again once a minute until `stop` is set."""
        while True:
            try:
                self.refresh()
            except Exception:  # the next minute's may succeed; old figures are shown no more
                self._failures += 1
                self._reading = Reading(up=True)
                log.exception("the log could not be read out")
            if stop.wait(_EVERY_SECONDS):
                return

    def refresh(self) -> None:
        """Read the last day's labelled answers and the newest drift checks."""
        try:
            with self._store.connection() as connection:
                # A slow read-out may not keep a connection from the consumer for long.
                connection.execute("SET LOCAL statement_timeout = '30s'")
                lines, newest = _lines(connection), checks.newest(connection)
                judged = _judged(connection, lines, newest)
                self._reading = Reading(
                    True, lines, judged, newest, verdicts.newest(connection), canaries.newest(connection)
                )
            self._read_at = time.time()
        except psycopg.OperationalError as error:
            self._reading = Reading(up=isinstance(error, psycopg.errors.QueryCanceled))
            log.warning("postgresql: %s", str(error).strip())
        except psycopg.errors.UndefinedTable:
            self._reading, self._read_at = Reading(up=True), time.time()  # the consumer has not made them yet

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """What Prometheus gets."""
        yield GaugeMetricFamily(
            "monitoring_database_up", "1 if PostgreSQL answered within the last minute.", value=self._reading.up
        )
        connections = GaugeMetricFamily(
            "monitoring_database_connections", "Connections of this consumer's pool.", labels=["state"]
        )
        for state, count in self._store.connections().items():
            connections.add_metric([state], count)
        yield connections
        yield GaugeMetricFamily(
            "monitoring_quality_read_timestamp_seconds", "When the log was last read out.", value=self._read_at
        )
        yield CounterMetricFamily("monitoring_quality_failures", "Readings that failed.", value=self._failures)
        yield from _usual(self._reading.lines)
        yield from _by_policy(self._reading.judged)
        yield from _drift(self._reading.checks)
        yield from _experiments(self._reading.verdicts)
        yield from _canaries(self._reading.canaries)


def _lines(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    since = datetime.now(UTC) - WINDOW
    models = [model for (model,) in connection.execute(_MODELS, window("", since))]
    return [line for model in models for line in connection.execute(ROWS + _LINES, window(model, since))]


def _judged(
    connection: psycopg.Connection[Any], lines: Sequence[tuple[Any, ...]], newest: Sequence[dict[str, Any]]
) -> list[Judged]:
    """What the policy asks for, as the newest check has said it; else accuracy, or the absolute error of values."""
    asked = {result["model"]: Asked(**result["quality"]) for result in newest if result.get("quality")}
    judged = []
    for model, version, role, arm, _, accuracy, error, _ in lines:
        if model not in asked and accuracy is not None:
            judged.append(Judged((model, version, role, arm), "accuracy", accuracy, _ACCURACY_WORSE))
        elif model not in asked and error is not None:
            judged.append(Judged((model, version, role, arm), "mae", error, None))
    since = datetime.now(UTC) - WINDOW
    for model in sorted(asked.keys() & {line[0] for line in lines}):
        policy = asked[model]
        for key, answers in live.read(connection, window(model, since), policy)[0].items():
            if np.isfinite(value := answers.value):
                judged.append(Judged((model, *key), policy.metric, value, policy.worse))
    return judged


def _by_policy(judged: Sequence[Judged]) -> Iterable[GaugeMetricFamily]:
    quality = GaugeMetricFamily(
        "monitoring_quality", "The metric of the model's policy, of the last day's labelled rows.",
        labels=["model", "version", "role", "arm", "metric", "better"],
    )  # fmt: skip
    tolerance = GaugeMetricFamily(
        "monitoring_quality_tolerance", "How much worse than in its week it may be.", labels=["model", "metric"]
    )
    for item in judged:
        better = "higher" if higher_is_better(item.metric) else "lower"
        quality.add_metric([*item.line, item.metric, better], item.value)
    for model, metric, worse in {(item.line[0], item.metric, item.worse) for item in judged}:
        if worse is not None:
            tolerance.add_metric([model, metric], worse)
    return quality, tolerance


def _usual(lines: Sequence[tuple[Any, ...]]) -> Iterable[GaugeMetricFamily]:
    labels = ["model", "version", "role", "arm"]
    for column, name, what in (
        (4, "labelled_rows", "Rows of the last day whose label has come."),
        (5, "accuracy", "Share of right answers among them."),
        (6, "absolute_error", "Mean absolute error among them."),
        (7, "business_value", "Mean value that came with their feedback."),
    ):
        family = GaugeMetricFamily(f"monitoring_{name}", what, labels=labels)
        for line in lines:
            if line[column] is not None:
                family.add_metric(line[:4], line[column])
        yield family


def _experiments(results: Sequence[dict[str, Any]]) -> Iterable[GaugeMetricFamily]:
    verdict = GaugeMetricFamily(
        "monitoring_experiment_verdict", "1 promote, 0 continue, -1 rollback; absent while inconclusive.",
        labels=["model", "version"],
    )  # fmt: skip
    at = GaugeMetricFamily(
        "monitoring_experiment_judged_timestamp_seconds", "When it was judged.", labels=["model", "version"]
    )
    for result in results:
        of = [result["model"], result["treatment"]]
        at.add_metric(of, datetime.fromisoformat(result["at"]).timestamp())
        if result["verdict"] in _OF_EXPERIMENT:
            verdict.add_metric(of, _OF_EXPERIMENT[result["verdict"]])
    return verdict, at


def _canaries(results: Sequence[dict[str, Any]]) -> Iterable[GaugeMetricFamily]:
    of = ["model", "version"]
    for name, what, key in (
        ("replayed_rows", "Logged answers that the signed model was asked for again.", "rows"),
        ("different_rows", "Those that are not the signed model's.", "different"),
        ("different_of_one_caller", "1 if they are one caller's alone, while others were answered too.", "one_caller"),
        ("stable_different_rows", "Stable's that are not its own signed model's.", "stable_different"),
        ("unexpected", "Slices on which it lies further from stable than the gate saw.", "unexpected"),
        ("checked_timestamp_seconds", "When it was checked.", "at"),
    ):
        family = GaugeMetricFamily(f"monitoring_canary_{name}", what, labels=of)
        for result in results:
            if (value := _number(result[key])) is not None:
                family.add_metric([result["model"], result["version"]], value)
        yield family


def _number(value: Any) -> float | None:
    """A figure, the length of a list, or a moment; None where there is none."""
    if isinstance(value, str):
        return datetime.fromisoformat(value).timestamp()
    return float(len(value)) if isinstance(value, list) else None if value is None else float(value)


def _drift(results: Sequence[dict[str, Any]]) -> Iterable[GaugeMetricFamily]:
    drifted = GaugeMetricFamily(
        "monitoring_drift_found", "1 drift, 0 none; absent while inconclusive.", labels=["model", "kind"]
    )
    by_column = ["model", "column", "method"]
    effect = GaugeMetricFamily("monitoring_drift_effect", "Effect size against the reference.", labels=by_column)
    limit = GaugeMetricFamily("monitoring_drift_limit", "Effect from which on it is drift.", labels=by_column)
    loss = GaugeMetricFamily("monitoring_loss_mean", "Mean loss on labelled rows.", labels=["model", "data"])
    at = GaugeMetricFamily("monitoring_drift_checked_timestamp_seconds", "End of the window.", labels=["model"])
    for result in results:
        model = result["model"]
        at.add_metric([model], datetime.fromisoformat(result["until"]).timestamp())
        for kind, verdict in result["kinds"].items():
            if verdict in _VERDICTS:
                drifted.add_metric([model, kind], _VERDICTS[verdict])
        for item in result["columns"]:
            if item["value"] is not None:
                effect.add_metric([model, item["column"], item["method"]], item["value"])
                limit.add_metric([model, item["column"], item["method"]], item["threshold"])
        for data in ("reference", "current"):
            if (value := result["concept"][f"{data}_loss"]) is not None:
                loss.add_metric([model, data], value)
    return drifted, effect, limit, loss, at
