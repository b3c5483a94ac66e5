"""The names of metrics: which a model has, whether less of one is better, and what a mistake costs."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from plumbline.core.schema import Output

Costs = Mapping[str, Mapping[str, float]]
"""{true label: {answered label: what such an answer costs}}; a pair that is not named costs nothing."""
_FIXED = {
    "binary": (
        *("roc_auc", "average_precision", "log_loss", "brier", "ece", "pr_auc"),
        *("accuracy", "balanced_accuracy", "precision", "recall", "f1", "macro_f1"),
    ),
    "multiclass": ("accuracy", "balanced_accuracy", "macro_f1", "average_precision", "log_loss", "brier"),
    "regression": ("rmse", "mae", "r2"),
}
OF_LABEL: Mapping[str, tuple[str, ...]] = {
    "binary": ("recall", "precision"),
    "multiclass": ("recall", "precision", "average_precision"),
    "regression": (),
}
"""What each label has by itself, as `<label>_recall`."""
_LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece", "cost", "rmse", "mae", "absolute_error", "ms"})
_AT = re.compile(
    r"(?:(?P<label>.+)_)?(?P<kind>recall_at_precision|precision_at_recall)_(?P<limit>0\.[0-9]*[1-9][0-9]*)"
)


def higher_is_better(name: str) -> bool:
    """Errors, losses and costs fall as a model improves; everything else rises."""
    return name not in _LOWER_IS_BETTER


@dataclass(frozen=True, slots=True)
class At:
    """A metric with a limit in its name: `recall_at_precision_0.9` is the recall where precision is 0.9 or more."""

    kind: Literal["recall_at_precision", "precision_at_recall"]
    limit: float
    place: int
    """Of the label among the output's."""


def at(name: str, output: Output) -> At | None:
    """What such a name says, alone for the positive label or with a label before it; None for any other name."""
    match = _AT.fullmatch(name)
    if match is None or output.task == "regression":
        return None
    place = 1 if output.task == "binary" and match["label"] is None else plain(output).get(match["label"] or "")
    return None if place is None else At(match["kind"], float(match["limit"]), place)  # type: ignore[arg-type]


def plain(output: Output) -> dict[str, int]:
    """{a label as it stands in names of metrics: its place}: with what MLflow takes there, and each different."""
    taken, named = {*_FIXED[output.task]}, dict[str, str]()
    for label in sorted(output.labels):
        name = re.sub(r"[^/\w.\- :]", "_", label)
        # "<50" and ">50" would be one, and a label called "average" would have the name of another metric.
        while name in named.values() or f"{name}_precision" in taken:
            name = f"{name}_{len(named) + 1}"
        named[label] = name
    return {named[label]: place for place, label in enumerate(output.labels)}


def overall(output: Output, *, costs: bool) -> tuple[str, ...]:
    """The metrics of all rows, whatever their label; `cost` where the model says what mistakes cost."""
    return (*_FIXED[output.task], *(["cost"] if costs else []))


def of(output: Output, *, costs: bool) -> tuple[str, ...]:
    """Every metric that a model with this output has, those of its labels included."""
    kinds = OF_LABEL[output.task]
    return (*overall(output, costs=costs), *(f"{label}_{kind}" for label in plain(output) for kind in kinds))


def fault(name: str, output: Output, *, costs: bool, declared: Collection[str] = ()) -> str:
    """Why a model has no such metric, with those that it has; empty where it has it.

    `declared` are the names with a limit that its `MODEL.metrics` lists: only these are in its reports.
    """
    names = of(output, costs=costs)
    if name in names or name in declared:
        return ""
    reason = f"unknown metric {name!r} of a {output.task} model"
    if at(name, output) is not None:
        reason = f"{name!r} is in no report of the model until its MODEL.metrics has it"
    elif name == "cost" and output.task != "regression":
        reason = "the metric 'cost' needs costs in the model's MODEL"
    shape = "" if output.task == "regression" else ", or recall_at_precision_<0…1>, precision_at_recall_<0…1>"
    if shape and output.task == "multiclass":
        shape = shape.replace("recall_at", "<label>_recall_at").replace(" precision_at", " <label>_precision_at")
    return f"{reason}; expected one of {_listed([*names, *declared])}{shape}"


def costs_fault(costs: Costs, output: Output) -> str:
    """What is wrong with the costs of mistakes; empty where nothing is."""
    if output.task == "regression":
        return "a regression has no labels, and so no costs of mistakes; leave them out"
    if not all(isinstance(answers, Mapping) for answers in costs.values()):
        return f"expected {{true label: {{answered label: cost}}}}, found {costs!r:.120}"
    labels = [*costs, *(answer for answers in costs.values() for answer in answers)]
    if unknown := [label for label in labels if label not in output.labels]:
        return f"unknown label {unknown[0]!r}; expected {_listed(output.labels)}"
    values = [cost for answers in costs.values() for cost in answers.values()]
    if not all(math.isfinite(cost) and cost >= 0 for cost in values) or not any(values):
        return f"costs are finite, not below 0, and not all 0; found {values}"
    return ""


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "none"
