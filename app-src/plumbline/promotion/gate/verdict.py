"""What a rule of the gate says. What is missing or not a number is inconclusive, never a pass."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "refused", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says."""

    rule: str
    value: str
    limit: str
    outcome: Outcome
    fix: str = ""


def worst(verdicts: Iterable[Verdict]) -> Outcome:
    """Refused outweighs inconclusive, and both outweigh a pass."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return "refused" if "refused" in outcomes else "inconclusive" if "inconclusive" in outcomes else "pass"


def decided(rule: str, value: str, limit: str, holds: bool, fix: str) -> Verdict:
    """A pass, or a refusal with what to do."""
    return Verdict(rule, value, limit, "pass" if holds else "refused", "" if holds else fix)


def measured(rule: str, value: float, limit: str, holds: bool, fix: str) -> Verdict:
    """The same of a figure, which may be none."""
    if not math.isfinite(value):
        return Verdict(rule, str(value), limit, "inconclusive", "not a number: find out why, evaluate again")
    return decided(rule, f"{value:.5g}", limit, holds, fix)
