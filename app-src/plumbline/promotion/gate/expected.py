"""The difference of a release from the one before it, on the holdout: what its canary should show."""

from collections.abc import Iterator

import numpy as np

from plumbline.core.evidence import EvidenceMetadata, EvidenceSpec, Expected, JudgedOn, ReleaseEvidence, Shift
from plumbline.core.holdout import identity
from plumbline.core.metrics.figures import answered
from plumbline.core.release import Release
from plumbline.promotion.gate.answers import Answers, Chosen, Rows
from plumbline.promotion.gate.evaluation import Evaluation

LEAST_ROWS = 30
"""A slice of fewer says nothing, as in training's report."""


def evidence(evaluation: Evaluation, version: str, expected: Expected | None) -> ReleaseEvidence:
    """What stands beside the release."""
    report, rows = evaluation.report, evaluation.rows
    held = JudgedOn(
        digest=identity(evaluation.holdout.table),
        rows=len(rows),
        clusters=rows.clusters.count,
        by=rows.clusters.by,
        first=report.test.first,
        last=report.test.last,
    )
    spec = EvidenceSpec(version=version, artifact=evaluation.digest, holdout=held, expected=expected)
    return ReleaseEvidence(metadata=EvidenceMetadata(name=report.model), spec=spec)


def expected_difference(rows: Rows, new: Answers, served: Release, old: Answers) -> Expected:
    """On all rows, then on each slice of enough rows."""
    return Expected(
        version=served.spec.version, artifact=served.spec.artifact.digest, shifts=tuple(shifts(rows, new, old))
    )


def shifts(rows: Rows, new: Answers, old: Answers) -> Iterator[Shift]:
    """How new answers differ from old ones: on all rows, then on each slice of enough rows."""
    yield _shift(rows, new, old, np.ones(len(rows), dtype=bool))
    for column, values in rows.slices.items():
        for value in np.unique(values):
            chosen = values == value
            if chosen.sum() >= LEAST_ROWS:
                yield _shift(rows, new, old, chosen).model_copy(update={"column": column, "value": str(value)})


def _shift(rows: Rows, new: Answers, old: Answers, chosen: Chosen) -> Shift:
    output, one, other = rows.output, new.outputs[chosen], old.outputs[chosen]
    labels = output.labels or ("value",)
    agreement, half = None, 1.0
    if output.task != "regression":
        same = answered(output, one, new.threshold) == answered(output, other, old.threshold)
        agreement, half = _short(same.mean()), 0.5
    return Shift(
        rows=int(chosen.sum()),
        agreement=agreement,
        distance=_short(half * np.abs(one - other).sum(axis=1).mean()),
        mean=dict(zip(labels, map(_short, one.mean(axis=0)), strict=True)),
        mean_before=dict(zip(labels, map(_short, other.mean(axis=0)), strict=True)),
    )


def _short(value: float) -> float:
    """Six digits: beyond them a float32 says nothing."""
    return float(f"{value:.6g}")
