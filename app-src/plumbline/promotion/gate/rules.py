"""The rules of the gate: pure functions from facts to verdicts. What is missing or not a number is inconclusive."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from plumbline.core.errors import Refused
from plumbline.core.names import SemVer
from plumbline.promotion.delivery.documents import Barred
from plumbline.promotion.gate import comparison
from plumbline.promotion.gate.comparison import Comparisons
from plumbline.promotion.gate.holdout import Parity
from plumbline.promotion.gate.verdict import Verdict, decided, measured
from plumbline.promotion.policy import Environment, Limit, Rules, SliceLimit
from plumbline.promotion.registry.lifecycle import Lifecycle, check_move, path_to
from plumbline.training.report import Interval, Report, Slice


@dataclass(frozen=True)
class Evidence:
    """What was measured on the artifact and its evaluation: the same for every environment."""

    report: Report
    """What the run says of itself: shown to be true or refused, never judged."""
    metrics: dict[str, Interval]
    """Of the ONNX file on the holdout rows, as the gate finds them."""
    slices: tuple[Slice, ...]
    without_views: Mapping[str, Mapping[str, Interval]]
    """{view: the metrics of answers that are given without it}."""
    parity: Parity
    p95_ms: float
    peak_mb: float
    bytes: int
    card: dict[str, str]
    """Sections of evaluation/card.yaml."""
    card_rendered: bool
    code_dirty: bool
    integrity: str
    """Why digest, signature or evaluation are not what was registered; empty where they are."""
    rows_of: str = ""
    """Digest of the data that the holdout was made of anew at registration; empty where it is the run's own word."""


@dataclass(frozen=True)
class Standing:
    """What git and the registry say about the version in one environment, at one commit."""

    version: SemVer
    lifecycle: Lifecycle
    rejected: str
    barred: Barred | None
    digest: str
    image: str | None
    """None where only the model is judged."""
    approved: str
    """Who approved exactly this and why, or how it is to be approved; empty where nobody did."""
    unapproved: str
    """Why an approval that there is does not count."""
    served: SemVer | None
    """What the environment serves; None before the first promotion."""
    served_before: str
    """The commit that served this digest and was moved away from; empty where none did."""
    again: str
    """The reason given for serving such a version again."""
    after_done: bool
    """Whether the environment that comes first has served this digest."""
    defined: bool = False
    """Whether a folder in git says how its rows are made."""


def judge(
    rules: Rules, environment: Environment, evidence: Evidence, standing: Standing, comparisons: Comparisons
) -> tuple[Verdict, ...]:
    """Every rule's verdict."""
    return (
        *_identity(environment, evidence, standing),
        *_order(environment, standing),
        _rows(evidence, standing),
        *_quality(rules, evidence),
        *comparison.judge(rules, comparisons),
        *(_slices(limit, evidence.slices) for limit in rules.slices),
        *_without_views(rules, evidence),
        *_budgets(rules, evidence),
        *_paperwork(rules, environment, evidence, standing),
    )


def repository_of(image: str) -> str:
    """The image's name without tag and digest."""
    name = image.split("@")[0]
    return name.rsplit(":", 1)[0] if ":" in name.rsplit("/", 1)[-1] else name


def _identity(environment: Environment, evidence: Evidence, standing: Standing) -> Iterator[Verdict]:
    yield decided(
        "digest and signature",
        evidence.integrity or standing.digest[:19],
        "as registered",
        not evidence.integrity,
        "never repair an artifact: train and register anew",
    )
    barred, fix = standing.barred, "what is barred needs a written `override:` in its record, by pull request"
    if barred is None:
        yield decided("not barred", standing.rejected or "no", "no", not standing.rejected, "register a new version")
    elif barred.override is None:
        own = barred.digest in (standing.digest, (standing.image or "").rpartition("@")[2])
        like = "" if own else f"the same as {barred.version}, or made as it was, which "
        yield decided("not barred", f"{like}failed {barred.metric}: {barred.reason}", "no", False, fix)
    else:
        yield Verdict("not barred", f"overridden by {barred.override.by}: {barred.override.reason}", "no", "pass")
    moves = path_to(standing.lifecycle, environment.lifecycle)
    try:
        # Serving an environment further back changes nothing in a registry that already says Production.
        if moves and standing.lifecycle is not Lifecycle.PRODUCTION:
            check_move(standing.lifecycle, moves[0], rejected=bool(standing.rejected) and barred is None)
        yield Verdict("life cycle", standing.lifecycle, f"→ {environment.lifecycle}", "pass")
    except Refused as refusal:
        yield Verdict("life cycle", standing.lifecycle, f"→ {environment.lifecycle}", "refused", str(refusal))


def _order(environment: Environment, standing: Standing) -> Iterator[Verdict]:
    """A version moves forward; what was moved away from, or is older, comes back only when somebody says why."""
    value, forward = "the first release", True
    if standing.served_before:
        value, forward = f"served before, until {standing.served_before[:12]}", False
    elif standing.served is not None:
        value, forward = f"{standing.served} → {standing.version}", standing.version >= standing.served
    if not forward and standing.again:
        value, forward = f"{value}; again: {standing.again}", True
    yield decided("moves forward", value, "newer, and not moved away from", forward, 'say why with --again "reason"')
    if environment.after is not None:
        yield decided(
            f"served in {environment.after} first",
            "yes" if standing.after_done else "no",
            "yes",
            standing.after_done,
            f"promote it to {environment.after} first",
        )


def _rows(evidence: Evidence, standing: Standing) -> Verdict:
    """What is judged on easy rows, or on such as were made to fit, is good by its own word alone."""
    name, fix = "rows judged on", "train and register anew: registration makes the rows from the data that git pins"
    if evidence.rows_of:
        return Verdict(name, f"made anew from {evidence.rows_of[:19]}", "git's", "pass")
    return decided(name, "the run's own word", "git's, where it has the model's folder", not standing.defined, fix)


def _quality(rules: Rules, evidence: Evidence) -> Iterator[Verdict]:
    report = evidence.report
    for limit in rules.metrics:
        name = f"{limit.metric} ({limit.bound})"
        value = _bound(evidence.metrics.get(limit.metric), limit)
        yield measured(name, value, limit.text, limit.holds(value), "train a better model")
    yield from _recomputed(evidence)
    train, test = report.train.last, report.test.first
    if train is not None and test is not None:
        fix = "split by time, so that nothing leaks"
        yield decided("tested after training", f"{test}", f"> {train}", test > train, fix)


def _recomputed(evidence: Evidence) -> Iterator[Verdict]:
    """The report is a file that somebody wrote, and the card shows it to whoever approves: it must say what is so."""
    fix = "the report is not of this model on these rows: evaluate again"
    reported = {name: figure for name, figure in evidence.report.metrics.items() if name in evidence.metrics}
    agreed = []
    for name, theirs in reported.items():
        ours = evidence.metrics[name]
        if not math.isclose(ours.value, theirs.value, rel_tol=0.005, abs_tol=0.001):
            yield measured(f"{name} recomputed", ours.value, f"= {theirs.value:.5g}", False, fix)
        elif not _same_bounds(ours, theirs):
            ours_text, theirs_text = (f"{figure.low:.5g} to {figure.high:.5g}" for figure in (ours, theirs))
            yield decided(f"{name}'s interval recomputed", ours_text, f"about {theirs_text}", False, fix)
        else:
            agreed.append(name)
    if agreed:
        shown = ", ".join(agreed[:3]) + (f" and {len(agreed) - 3} more" if len(agreed) > 3 else "")
        yield Verdict("recomputed", shown, "as reported", "pass")
    if not reported:
        names = ", ".join(evidence.metrics)
        fix = f"let the report hold one of {names}" if names else "say which rows depend on each other and train again"
        yield Verdict("recomputed", "none", "one metric", "inconclusive", fix)


def _same_bounds(ours: Interval, theirs: Interval) -> bool:
    """Whether two resamplings of the same rows may have given both: each end within a width of the other."""
    width = 0.001 + ours.high - ours.low
    return abs(theirs.low - ours.low) <= width and abs(theirs.high - ours.high) <= width


def _bound(interval: Interval | None, limit: Limit) -> float:
    return math.nan if interval is None else float(getattr(interval, limit.bound))


def _slices(limit: SliceLimit, slices: tuple[Slice, ...]) -> Verdict:
    """The worst slice of the column; a column or a metric that is missing is inconclusive."""
    name = f"{limit.metric} of every {limit.column} ({limit.bound})"
    judged = [part for part in slices if part.column == limit.column and part.rows >= limit.min_rows]
    if not judged:
        fix = f"the holdout has no slice of {limit.column} with {limit.min_rows} rows"
        return Verdict(name, "none", limit.text, "inconclusive", fix)
    values = {part.value: _bound(part.metrics.get(limit.metric), limit) for part in judged}
    if lost := [value for value, figure in values.items() if not math.isfinite(figure)]:
        return Verdict(name, "missing", limit.text, "inconclusive", f"no figure for {lost}: evaluate again")
    value = (min if limit.min is not None else max)(values, key=values.__getitem__)
    figure = values[value]
    return decided(
        name, f"{figure:.5g} ({value}, of {len(values)})", limit.text, limit.holds(figure), f"improve {value}"
    )


def _without_views(rules: Rules, evidence: Evidence) -> Iterator[Verdict]:
    for limit in rules.without_views:
        value = _bound(evidence.without_views.get(limit.view, {}).get(limit.metric), limit)
        fix = "raise view_dropout in the model's folder, so that it learns to do without, and train again"
        name = f"{limit.metric} without {limit.view} ({limit.bound})"
        yield measured(name, value, limit.text, limit.holds(value), fix)


def _budgets(rules: Rules, evidence: Evidence) -> Iterator[Verdict]:
    size, parity = evidence.bytes / 1e6, evidence.parity
    yield measured("size (MB)", size, f"≤ {rules.size_mb:g}", size <= rules.size_mb, "make it smaller: fewer trees")
    peak = evidence.peak_mb
    fix = "make it smaller, or give its pods more memory and raise the rule with it"
    yield measured("memory to load it (MB)", peak, f"≤ {rules.memory_mb:g}", peak <= rules.memory_mb, fix)
    slow = evidence.p95_ms
    fix = "make it smaller, or measure again on a quiet machine"
    yield measured("one row, p95 (ms)", slow, f"≤ {rules.latency_p95_ms:g}", slow <= rules.latency_p95_ms, fix)
    limit = rules.parity.max_abs_difference
    holds = parity.largest <= limit
    fix = "ONNX does not answer as the model that was evaluated: use a conversion that keeps float32 thresholds"
    yield measured(f"ONNX parity on {parity.rows:,} rows", parity.largest, f"≤ {limit:g}", holds, fix)


def _paperwork(rules: Rules, environment: Environment, evidence: Evidence, standing: Standing) -> Iterator[Verdict]:
    missing = [section for section in rules.card if not evidence.card.get(section, "").strip()]
    value = f"without {', '.join(missing)}" if missing else "complete" if evidence.card_rendered else "not rendered"
    fix = "fill evaluation/card.yaml in the model's folder and register again"
    yield decided("model card", value, "complete", value == "complete", fix)
    if rules.clean_code:
        dirty = evidence.code_dirty
        yield decided(
            "code committed", "no" if dirty else "yes", "yes", not dirty, "commit, then train from the commit"
        )
    if standing.image is not None:
        repository = repository_of(standing.image)
        fix = "use the image that CI built, or add its repository to the policy"
        yield decided("image", repository, " or ".join(rules.images), repository in rules.images, fix)
    if environment.approval:
        yield _approval(standing)


def _approval(standing: Standing) -> Verdict:
    limit = "signed by an approver, or reviewed"
    if standing.approved:
        return Verdict("approval", standing.approved, limit, "pass")
    fix = (
        "`plumbline promote approve`, by somebody of policies/approvers.yaml who made none of it; or, where that file "
        "takes reviews, `promote run --pull-request FILE`"
    )
    return Verdict("approval", standing.unapproved or "none", limit, "refused", fix)
