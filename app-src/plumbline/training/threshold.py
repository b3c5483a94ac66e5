"""The threshold of a binary model: chosen on validation data, by the rule that the model's folder names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from plumbline.core.metrics import names
from plumbline.core.metrics.curve import Floats
from plumbline.core.metrics.names import Costs
from plumbline.core.metrics.rows import cost_matrix
from plumbline.core.schema import Output


@dataclass(frozen=True)
class Calls:
    """What each candidate threshold would call, arrays of shape (candidates,)."""

    hits: Floats
    false_alarms: Floats
    missed: Floats
    right_rejections: Floats

    @property
    def precision(self) -> Floats:
        """Of what is called; every candidate calls something."""
        return self.hits / (self.hits + self.false_alarms)

    @property
    def recall(self) -> Floats:
        """Of the positive label."""
        return self.hits / (self.hits + self.missed)


_RULES: Mapping[str, Callable[[Calls], Floats]] = {
    "f1": lambda calls: 2 * calls.hits / (2 * calls.hits + calls.false_alarms + calls.missed),
    "accuracy": lambda calls: calls.hits + calls.right_rejections,
    "balanced_accuracy": lambda calls: (
        calls.recall + calls.right_rejections / (calls.right_rejections + calls.false_alarms)
    ),
}
_ROUNDED = 0.01
RULES = ", ".join([*_RULES, "cost", "recall_at_precision_<0…1>", "precision_at_recall_<0…1>"])


@dataclass(frozen=True)
class Chosen:
    """A threshold, and what it falls short of: the rule's limit, where no threshold keeps it."""

    value: float
    short: str = ""


def fault(rule: str, output: Output, costs: Costs | None) -> str:
    """Why no threshold can be chosen by a rule; empty where one can."""
    if rule == "cost" and costs is None:
        return "threshold='cost' needs costs: {true label: {answered label: cost}}"
    at = names.at(rule, output)
    if rule in (*_RULES, "cost") or (at is not None and at.place == 1):
        return ""
    return f"threshold={rule!r} is no rule; expected one of {RULES}"


def choose(rule: str, output: Output, costs: Costs | None, truth: Floats, score: Floats) -> Chosen:
    """The probability from which on "positive" is best by the rule, on these rows, each of shape (rows,).

    It is a number that float32 and float64 read alike, so that whoever compares calls the same rows: of half precision
    where one lies between two scores, else a score itself.
    Where nothing keeps a limit, it is the threshold that comes nearest.
    """
    candidates = _candidates(score)
    calls = _calls(candidates, truth, score)
    if (at := names.at(rule, output)) is None:
        worth = -_cost(calls, output, costs) if costs is not None and rule == "cost" else _RULES[rule](calls)
        return Chosen(float(candidates[int(np.argmax(worth))]))
    limited, wanted = calls.precision, calls.recall
    if at.kind == "precision_at_recall":
        limited, wanted = wanted, limited
    if (best := float(limited.max())) < at.limit:
        name = at.kind.rpartition("_")[2]
        return Chosen(float(candidates[int(np.argmax(limited))]), f"{name} {at.limit:g}, the best is {best:.3g}")
    return Chosen(float(candidates[int(np.argmax(np.where(limited >= at.limit, wanted, -1)))]))


def short_of(rule: str, output: Output, costs: Costs | None, truth: Floats, score: Floats, value: float) -> float:
    """By which share of its worth a threshold is worse, by the rule, than what `choose` finds on these rows.

    1 where it does not keep the rule's limit that another one keeps.
    """
    best = choose(rule, output, costs, truth, score)
    calls = _calls(np.array([best.value, value]), truth, score)
    if (at := names.at(rule, output)) is not None:
        limited = calls.recall if at.kind == "precision_at_recall" else calls.precision
        return float(not best.short and not limited[1] >= at.limit * (1 - _ROUNDED))
    worth = -_cost(calls, output, costs) if costs is not None and rule == "cost" else _RULES[rule](calls)
    return float(max(0.0, worth[0] - worth[1]) / max(abs(worth[0]), 1e-12))


def _candidates(score: Floats) -> Floats:
    """Numbers between neighbours among the scores, also far out, where the positive rows of a rare label are."""
    tail = np.geomspace(1e-6, 0.01, 60)
    places = np.concatenate([[0], tail, np.linspace(0.01, 0.99, 197), 1 - tail, [1]])
    scores = np.unique(score)
    upper = np.searchsorted(scores, np.quantile(score, places, method="higher"))
    above, below = scores[upper], np.where(upper > 0, scores[upper - 1], 0.0)
    short = ((below + above) / 2).astype(np.float16).astype(np.float64)
    exact = above.astype(np.float32)
    # Rounded down, so that the rows of that very score are called.
    exact = np.where(exact > above, np.nextafter(exact, np.float32(0)), exact).astype(np.float64)
    return np.unique(np.where((below < short) & (short <= above), short, exact))


def _calls(candidates: Floats, truth: Floats, score: Floats) -> Calls:
    positive, negative = np.sort(score[truth == 1]), np.sort(score[truth == 0])
    missed, rejected = (np.searchsorted(part, candidates).astype(np.float64) for part in (positive, negative))
    return Calls(len(positive) - missed, len(negative) - rejected, missed, rejected)


def _cost(calls: Calls, output: Output, costs: Costs) -> Floats:
    (right_rejection, false_alarm), (miss, hit) = cost_matrix(output, costs)
    alarms = false_alarm * calls.false_alarms + hit * calls.hits
    return np.asarray(alarms + miss * calls.missed + right_rejection * calls.right_rejections)
