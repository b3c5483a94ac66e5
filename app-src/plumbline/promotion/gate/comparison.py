"""The paired tests of a candidate, and what the rules say to them: pure functions from differences to verdicts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from scipy.stats import norm
from tabulate import tabulate

from plumbline.core.errors import Inconclusive, Refused
from plumbline.core.metrics.clusters import LEAST, Difference, holm
from plumbline.promotion.gate.verdict import Verdict, decided
from plumbline.promotion.policy import Rules

Unknown = Refused | Inconclusive
"""Why there is no figure."""


@dataclass(frozen=True, slots=True)
class SliceDifference:
    """The paired difference where `column` is `value`; small slices of a column are judged together."""

    column: str
    value: str
    rows: int
    difference: Difference


@dataclass(frozen=True, slots=True)
class Against:
    """The candidate against another version, on the rows that neither learnt from."""

    version: str
    difference: Difference
    rows: int
    left_out: int = 0
    """Rows of the holdout that the other version learnt from."""
    slices: tuple[SliceDifference, ...] = ()
    unjudged: tuple[str, ...] = ()
    """Columns with slices that are too small even together."""


@dataclass(frozen=True, slots=True)
class Comparisons:
    """The paired tests of a candidate for one environment."""

    by: str
    """What the rows of a cluster share; empty where the model calls rows independent."""
    clusters: int
    fault: str | Unknown
    """Why there are too few clusters, or none are known; empty where all is well."""
    tries: int
    """Runs judged on this holdout, this one included."""
    baseline: Difference | Unknown
    constant: Difference | Unknown
    champion: Against | Unknown | None
    """None where nothing is served."""
    recent: tuple[Against | tuple[str, Unknown], ...] = ()
    """Earlier releases; (version, why) where one can't be compared."""

    def slice_table(self, margin: float, level: float) -> str:
        """The test of each slice as a Markdown table; empty where there is none."""
        if not isinstance(self.champion, Against) or not self.champion.slices:
            return ""
        parts = self.champion.slices
        lines = [
            [
                f"{part.column} = {part.value}",
                f"{part.rows:,}",
                f"{test.clusters:,}",
                f"{test.candidate:.4g}",
                f"{test.other:.4g}",
                f"{test.worse_by:.3g} ({test.interval(level)[0]:.3g} to {test.interval(level)[1]:.3g})",
                f"{p:.3g}",
            ]
            for part, p in zip(parts, adjusted(parts, margin), strict=True)
            for test in [part.difference]
        ]
        head = ("slice", "rows", "clusters", "candidate", "champion", f"worse by ({1 - level:.0%})", "p (Holm)")
        return str(tabulate(lines, head, tablefmt="github", disable_numparse=True))


def adjusted(slices: tuple[SliceDifference, ...], margin: float) -> list[float]:
    """Holm's p-values that each slice is worse by more than the margin, all slices being one family."""
    return holm([part.difference.p_worse(margin) for part in slices])


def judge(rules: Rules, comparisons: Comparisons) -> Iterator[Verdict]:
    """What every rule of a paired test says.

    To pass, a candidate must show that it is better, or not worse. Of several tries on the same rows one passes by
    luck, so that each bound is wrong with a probability of 0.05/tries only (Bonferroni: Dunn, JASA 56, 1961; why tries
    count: Dwork et al., "The reusable holdout", Science 349, 2015). A slice is refused where it is shown to be worse.
    """
    divided_by = comparisons.tries if rules.count_tries else 1
    level, weak = (1 - rules.champion.confidence) / divided_by, rules.beats_baseline
    yield _clusters(comparisons)
    yield _tries(comparisons, level, counted=rules.count_tries)
    beats = (1 - (weak.confidence or rules.champion.confidence)) / divided_by
    yield _better("beats baseline", weak.metric, comparisons.baseline, beats, weak.by)
    metric = rules.beats_constant.metric or "proper score"
    yield _better("beats a constant", metric, comparisons.constant, level)
    yield _not_worse(rules, comparisons.champion, level)
    if comparisons.champion is not None and rules.champion.recent:
        yield _no_creep(rules, comparisons, level)
    if isinstance(comparisons.champion, Against):
        yield _slices(rules, comparisons.champion)


def _clusters(comparisons: Comparisons) -> Verdict:
    rule, limit = "resampled", f"{LEAST} or more clusters"
    if isinstance(comparisons.fault, Refused | Inconclusive):
        return Verdict(rule, "not known", limit, "inconclusive", str(comparisons.fault))
    shared = f"{comparisons.clusters:,} clusters by {comparisons.by}"
    value = (
        shared if comparisons.by else f"{comparisons.clusters:,} rows, each its own cluster: so the model's folder says"
    )
    return decided(rule, value, limit, not comparisons.fault, comparisons.fault)


def _tries(comparisons: Comparisons, level: float, *, counted: bool) -> Verdict:
    value = "the first run on this holdout"
    if comparisons.tries > 1:
        # The expected maximum of k standard normals: Blom, Statistical Estimates and Transformed Beta-Variables, 1958.
        luck = norm.ppf((comparisons.tries - 0.375) / (comparisons.tries + 0.25))
        best = f"the best of so many equal ones looks {luck:.2g} standard errors better than it is"
        value = f"{comparisons.tries} runs; {best}"
    if not counted:
        value += "; not counted: so the policy says"
    return Verdict("tries on this holdout", value, f"bounds hold with {1 - level:.4g}", "pass")


def _better(rule: str, metric: str, test: Difference | Unknown, level: float, by: float = 0.0) -> Verdict:
    """Better with an interval: the lower bound of the paired difference is above 0, and its value at least `by`."""
    name, limit = f"{rule} ({metric})", f"surely better{f', and by ≥ {by:g}' if by else ''}"
    if isinstance(test, Refused | Inconclusive):
        return Verdict(name, "not compared", limit, "inconclusive", str(test))
    better, least = -test.worse_by, -test.upper(level)
    value = f"{test.candidate:.5g} against {test.other:.5g}, better by at least {least:.2g}"
    if not math.isfinite(least):
        return Verdict(name, value, limit, "inconclusive", "the difference is not a number: evaluate again")
    fix = "no better than that, for all that can be told, is not worth serving; train a better model, or judge on more"
    return decided(name, value, limit, least > 0 and better >= by, fix)


def _not_worse(rules: Rules, champion: Against | Unknown | None, level: float) -> Verdict:
    rule = rules.champion
    name, limit = f"not worse than champion ({rule.metric})", f"worse by ≤ {rule.margin:g}"
    match champion:
        case None:
            return Verdict(name, "nothing is served", limit, "pass")
        case Refused() | Inconclusive():
            return Verdict(name, "not compared", limit, "inconclusive", str(champion))
        case Against(difference=test):
            upper = test.upper(level)
            value = f"{test.candidate:.5g} against {test.other:.5g}, worse by at most {upper:.2g}{_left_out(champion)}"
            if not math.isfinite(upper):
                return Verdict(name, value, limit, "inconclusive", "the difference is not a number")
            fix = f"{1 - level:.4g} sure it must be; train a better model or judge on more clusters"
            return decided(name, value, limit, upper <= rule.margin, fix)


def _left_out(against: Against) -> str:
    if not against.left_out:
        return ""
    return f"; without {against.left_out:,} rows that {against.version} learnt from, on {against.rows:,}"


def _no_creep(rules: Rules, comparisons: Comparisons, level: float) -> Verdict:
    """A margin that each release uses up would add up: none may be worse than the best of the last ones either."""
    rule = rules.champion
    name, limit = f"not worse than the best of {rule.recent} before ({rule.metric})", f"worse by ≤ {rule.margin:g}"
    compared = [item for item in comparisons.recent if isinstance(item, Against)]
    lost = [f"{item[0]} ({item[1]})" for item in comparisons.recent if not isinstance(item, Against)]
    aside = f"; not compared: {', '.join(lost)}" if lost else ""
    if not compared:
        return Verdict(name, f"none to compare with{aside}", limit, "pass")
    bounds = {item.version: item.difference.upper(level) for item in compared}
    if unclear := [version for version, bound in bounds.items() if not math.isfinite(bound)]:
        return Verdict(name, f"no figure against {unclear[0]}", limit, "inconclusive", "the difference is not a number")
    best = max(compared, key=lambda item: bounds[item.version])
    upper = bounds[best.version]
    value = f"worse than {best.version} by at most {upper:.2g}{_left_out(best)}, of {len(compared)}{aside}"
    fix = f"small losses add up: {best.version} was better; train a better model or judge on more clusters"
    return decided(name, value, limit, upper <= rule.margin, fix)


def _slices(rules: Rules, champion: Against) -> Verdict:
    metric, margin = rules.slice_test
    level = 1 - rules.champion.confidence
    name, limit = f"no slice worse than champion's ({metric})", f"worse by ≤ {margin:g}, Holm p ≥ {level:.2g}"
    aside = f"; too few clusters: {', '.join(champion.unjudged)}" if champion.unjudged else ""
    if not champion.slices:
        return Verdict(name, f"no slice to judge{aside}", limit, "pass")
    p_values = adjusted(champion.slices, margin)
    labelled = [(p, f"{x.column} {x.value}", x.difference) for x, p in zip(champion.slices, p_values, strict=True)]
    judged = sorted((item for item in labelled if not math.isnan(item[0])), key=lambda item: item[0])
    if not judged:
        return Verdict(name, f"no figure{aside}", limit, "inconclusive", "no slice has a figure: evaluate again")
    worse = [item for item in judged if item[0] < level]
    if worse:
        words = "; ".join(f"{label}: {test.other:.3g} → {test.candidate:.3g}, p {p:.1g}" for p, label, test in worse)
        return Verdict(name, words + aside, limit, "refused", "these pay for the average: find out why, train again")
    p, label, test = judged[0]
    value = f"{len(champion.slices)} judged; {label} is nearest: worse by {test.worse_by:.2g}, p {p:.2g}{aside}"
    return Verdict(name, value, limit, "pass")
