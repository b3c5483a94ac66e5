"""Whether answers have become worse: as their scores let expect, and as labels say that have come."""

from dataclasses import dataclass

import numpy as np

from plumbline.monitoring.drift.blocks import FALSE_ALARMS, Blocks, Floats, Places, draw
from plumbline.monitoring.drift.compare import KINDS, Verdict, verdict
from plumbline.monitoring.drift.estimate import Expectation
from plumbline.monitoring.policy import Drift

FEWEST_LABELS = 100
_SHORT = 0.02
"""The smallest fall of the AUC below what was expected that counts."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Labelled answers: score, loss, and of two labels whether it was the positive one (else NaN); shape (rows,) each.

    A loss is the Brier score over all labels, or the absolute error of a value: neither knows a threshold.
    """

    score: Floats
    loss: Floats
    positive: Floats

    def __len__(self) -> int:
        return len(self.score)

    def at(self, places: Places) -> "Answers":
        """Those of some rows."""
        return Answers(self.score[places], self.loss[places], self.positive[places])


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the window beside the reference's, and how much further apart they may be; NaN where unknown."""

    reference: float
    current: float
    limit: float

    @property
    def beyond(self) -> bool:
        """Whether it has risen by more than its limit."""
        return self.current - self.reference > self.limit


@dataclass(frozen=True, slots=True)
class Performance:
    """The mean loss and the AUC that the window's scores let expect, labels or none; the verdict is of the loss."""

    verdict: Verdict
    loss: Figure
    roc_auc: float


@dataclass(frozen=True, slots=True)
class Concept:
    """What labels say beyond that: excess loss, and how far the AUC falls short (`Expectation.surprise`)."""

    verdict: Verdict
    reference_loss: float
    current_loss: float
    labelled: int
    excess: Figure
    shortfall: Figure
    reason: str = ""
    early: int = 0
    """Labels that are older than their answers."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The reference's answers, ready to hold a window's against: the blocks are those of the inputs."""

    policy: Drift
    answers: Answers
    alike: Places
    """The reference's rows that the window is held against."""
    blocks: Blocks
    expected: Expectation
    alpha: float

    @classmethod
    def of(cls, answers: Answers, alike: Places, pairs: Blocks, policy: Drift, tests: int) -> "Outcome":
        """Calibrate scores on the reference; `tests` windows share the check's false alarms."""
        expected = Expectation.of(answers.score, answers.loss, answers.positive)
        return cls(policy, answers, alike, pairs, expected, FALSE_ALARMS / len(KINDS) / tests)

    @property
    def _least(self) -> float:
        return self.policy.lossRise * float(self.answers.loss.mean())

    def performance(self, score: Floats) -> Performance:
        """Estimated without labels, from the window's scores, shape (rows,)."""
        score = score[np.isfinite(score)]
        before, unknown = float(self.expected.losses(self.answers.score[self.alike]).mean()), float("nan")
        if len(score) < self.policy.sample or not self.blocks.enough:
            return Performance("inconclusive", Figure(before, unknown, unknown), unknown)
        seen = [
            [self.expected.losses(self.answers.score[draw(places, self.policy.sample, 0)]).mean() for places in pair]
            for pair in self.blocks.pairs
        ]
        rises = np.array([[block - rest] for block, rest in seen])
        limit = float(np.fmax(self._least, self.blocks.limits(rises, self.alpha)[0]))
        loss = Figure(before, float(self.expected.losses(score).mean()), limit)
        return Performance(verdict(loss.beyond), loss, self.expected.roc_auc(score))

    def concept(self, now: Answers, early: int = 0) -> Concept:
        """Of the window's labelled answers, `early` of which had their label before they were answered."""
        unknown = Figure(float("nan"), float("nan"), float("nan"))
        loss = (float(self.answers.loss[self.alike].mean()), float(now.loss.mean()) if len(now) else float("nan"))
        if early:
            reason = f"{early} labels are older than their answers: labels before predictions say nothing of them"
            return Concept("inconclusive", *loss, len(now), unknown, unknown, reason, early)
        if len(now) < FEWEST_LABELS or not self.blocks.enough:
            reason = f"{len(now)} labels have come, {FEWEST_LABELS} are needed"
            return Concept("inconclusive", *loss, len(now), unknown, unknown, reason)
        pairs = self.blocks.pairs
        seen = np.array([[self._surprise(draw(places, len(now), 0)) for places in pair] for pair in pairs])
        limits = self.blocks.limits(seen[:, 0] - seen[:, 1], self.alpha)
        before, after = self._surprise(self.alike), self.expected.surprise(now.score, now.loss, now.positive)
        least = (self._least, _SHORT)
        excess, shortfall = (Figure(before[n], after[n], float(np.fmax(least[n], limits[n]))) for n in (0, 1))
        return Concept(verdict(excess.beyond or shortfall.beyond), *loss, len(now), excess, shortfall)

    def _surprise(self, places: Places) -> tuple[float, float]:
        chosen = self.answers.at(places)
        return self.expected.surprise(chosen.score, chosen.loss, chosen.positive)
