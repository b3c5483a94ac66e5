"""Both versions answer the same logged rows, so that what varies between rows is in neither's way.

The signed models of both are run by the batch scorer, bit by bit as the servers would. Where answers do not change
outcomes this needs far fewer labels than two arms: only rows that the versions answer otherwise add to the variance.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from plumbline.core.errors import Inconclusive
from plumbline.core.metrics.curve import Floats
from plumbline.core.metrics.names import Costs, higher_is_better
from plumbline.core.metrics.rows import per_row
from plumbline.monitoring.experiment.evidence import Cells, collect
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.monitoring.experiment.rows import Labelled, numbers
from plumbline.scoring.scorer import Scorer


def pairs(policy: Experiment, rows: Sequence[Labelled], control: Scorer, treatment: Scorer) -> Cells:
    """Treatment's gains over control in each logged row, by caller and day.

    A row without a caller is one of its own request. Raises Inconclusive where a version takes a field that no logged
    row has, or where the two have different labels.
    """
    if control.schema.output.labels != treatment.schema.output.labels:
        raise Inconclusive(
            f"{policy.model}: the two versions have different labels, {control.schema.output.labels} and"
            f" {treatment.schema.output.labels}: no row has a figure of both"
        )
    kept, truth = _truths(rows, treatment)
    before, after = (_figures(scorer, kept, truth, policy.costs) for scorer in (control, treatment))
    gains = {name: (after[name] - before[name]) * (1 if higher_is_better(name) else -1) for name in before}
    return collect(
        numbers([row.caller for row in kept]), np.array([row.day for row in kept], dtype=np.int64),
        np.ones(len(kept), dtype=np.bool_), gains,
    )  # fmt: skip


def asked_again(scorer: Scorer, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What a version answers to logged features; raises RowsError where it has no finite answer."""
    names = [field.name for field in scorer.schema.fields]
    frame: dict[str, Any] = {name: np.array([row.get(name) for row in rows], dtype=object) for name in names}
    return scorer.score(pd.DataFrame(frame, dtype=object))


def _truths(rows: Sequence[Labelled], scorer: Scorer) -> tuple[list[Labelled], Floats]:
    """The rows whose label is one of the model's, and those labels' places; or numbers."""
    labels = scorer.schema.output.labels
    if labels:
        places = {label: place for place, label in enumerate(labels)}
        kept = [row for row in rows if row.truth in places]
        return kept, np.array([places[row.truth] for row in kept], dtype=np.float64)
    kept = [row for row in rows if row.error is not None]
    return kept, np.array([float(row.truth) for row in kept], dtype=np.float64)


def _figures(scorer: Scorer, rows: Sequence[Labelled], truth: Floats, costs: Costs | None) -> dict[str, Floats]:
    version, output = scorer.release.spec.version, scorer.schema.output
    fields = [field.name for field in scorer.schema.fields]
    logged = {name for row in rows for name in row.features}
    if rows and (unknown := [name for name in fields if name not in logged]):
        raise Inconclusive(
            f"{version} takes the field {unknown[0]!r}, which no logged row has: it can't answer the same rows as the"
            " other version; compare arms (answersChangeOutcomes: true)"
        )
    answers = asked_again(scorer, [row.features for row in rows])
    if not output.labels:
        return per_row(output, truth, answers[["value"]].to_numpy(dtype=np.float64), np.empty(0, dtype=np.intp))
    outputs = answers[[f"probability_{label}" for label in output.labels]].to_numpy(dtype=np.float64)
    places = {label: place for place, label in enumerate(output.labels)}
    called = np.array([places[label] for label in answers["label"]], dtype=np.intp)
    return per_row(output, truth, outputs, called, costs)
