"""Whether production still looks like the data that the model was judged on: each column, and all of them together.

Effect sizes, not p-values: a p-value finds any difference once there is enough traffic. Both sides are always the
same number of rows, drawn with a fixed seed, so that the traffic does not change the verdict. A column's limit is the
effect that matters, or where windows of the reference itself lie further apart than that, what `blocks` says of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from plumbline.monitoring.drift import joint
from plumbline.monitoring.drift.blocks import FALSE_ALARMS, FEWEST, Blocks, Window, blocks, draw
from plumbline.monitoring.drift.influence import Influence
from plumbline.monitoring.policy import LABEL, SCORE, Column, Drift

if TYPE_CHECKING:
    import pandas as pd
    from evidently.core.report import Snapshot

Verdict = Literal["drift", "none", "inconclusive"]
Method = Literal["psi", "wasserstein", "jensenshannon"]
KINDS = ("covariate", "prediction", "joint", "performance", "concept")
_FEWEST_VALUES = 50
_SPREAD = 0.1
"""The least deviation of an effect's logarithm between blocks: below it a rare value would be a shift."""


@dataclass(frozen=True, slots=True)
class ColumnResult:
    """One column: its effect against its limit, and its share of missing values on both sides.

    `value` is None where a side has too few values to be compared.
    """

    column: str
    method: Method
    value: float | None
    threshold: float
    missing_reference: float
    missing_current: float
    missing_threshold: float
    judged: bool
    influence: float | None = None
    """How much of the mean score comes from this shift: the mean less what it would be with the reference's values."""

    @property
    def drifted(self) -> bool:
        """Whether values or missing values have moved further than their limits."""
        return self.values_moved or abs(self.missing_current - self.missing_reference) >= self.missing_threshold

    @property
    def values_moved(self) -> bool:
        """Whether the values have."""
        return self.value is not None and self.value >= self.threshold


@dataclass(frozen=True, slots=True)
class Joint:
    """The AUC of telling both sides apart by how their columns go together, and its limit."""

    value: float
    limit: float

    @property
    def verdict(self) -> Verdict:
        """Inconclusive where a side has too few rows or columns."""
        return "inconclusive" if not np.isfinite(self.value - self.limit) else verdict(self.value > self.limit)


def verdict(drifted: bool) -> Verdict:
    """As the word that a workflow branches on."""
    return "drift" if drifted else "none"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The columns' results; no columns and a reason where there were too few rows."""

    columns: tuple[ColumnResult, ...]
    reason: str = ""
    page: "Callable[[], Snapshot] | None" = None
    """Makes Evidently's page of them, which takes longer than all the rest."""
    joint: Joint = Joint(float("nan"), float("nan"))

    def verdict(self, *, prediction: bool) -> Verdict:
        """Of the inputs (covariate shift) or of the answers (prediction shift)."""
        of_kind = [item for item in self.columns if (item.column in (SCORE, LABEL)) == prediction and item.judged]
        if not of_kind:
            return "inconclusive"
        return "drift" if any(item.drifted for item in of_kind) else "none"


@dataclass(frozen=True, slots=True)
class Limits:
    """What windows of one length show without drift: the same for all that end at the same hour."""

    methods: dict[str, Method]
    columns: dict[str, float]
    missing: dict[str, float]
    together: tuple[str, ...]
    """The inputs that joint shifts are looked for in: those that say nothing of the moment by themselves."""
    joint: float
    """Of telling both sides apart by these."""
    influence: Influence | None
    blocks: Blocks

    @classmethod
    def of(
        cls, reference: "pd.DataFrame", policy: Drift, at: "pd.Series[pd.Timestamp] | None", window: Window | None
    ) -> "Limits":
        """Of a reference whose rows have these moments; without limits where it has too few rows or blocks."""
        typed = _typed(reference, like=reference).reset_index(drop=True)
        rules = {name: policy.columns.get(name, Column()) for name in map(str, typed.columns)}
        methods = {name: rule.method or _method(typed[name]) for name, rule in rules.items()}
        pairs = blocks(at, len(typed), window, policy.sample, policy.seed)
        if len(typed) < policy.sample or not pairs.enough:
            return cls(methods, {}, {}, (), float("nan"), None, pairs)
        alpha = FALSE_ALARMS / len(KINDS) / (window.tests if window else 1)
        by_chance, missing = _calibrate(typed, methods, policy, pairs, alpha)
        columns = {
            name: rule.threshold or float(np.fmax(policy.threshold, by_chance[name])) for name, rule in rules.items()
        }
        least = {name: float(np.fmax(policy.missing, missing[name])) for name in rules}
        days = blocks(at, len(typed), replace(window, length=timedelta(days=1)) if window else None, policy.sample, 0)
        together = joint.of_rows(_inputs(typed, policy), days)
        apart = _joint_limit(typed[list(together)], policy, pairs, alpha)
        return cls(methods, columns, least, together, apart, Influence.of(typed), pairs)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The reference, ready to compare a window with: a fixed sample of its rows of the window's hours of the week."""

    policy: Drift
    rows: int
    sample: "pd.DataFrame"
    limits: Limits

    @classmethod
    def of(
        cls, reference: "pd.DataFrame", policy: Drift, at: "pd.Series[pd.Timestamp] | None" = None,
        window: Window | None = None, limits: Limits | None = None,
    ) -> "Baseline":  # fmt: skip
        """Draw, and calibrate where that was not done for another window."""
        typed = _typed(reference, like=reference).reset_index(drop=True)
        alike = np.flatnonzero(window.like(at)) if at is not None and window else np.arange(len(typed))
        sample = typed.iloc[draw(alike, policy.sample, policy.seed)].reset_index(drop=True)
        return cls(policy, len(alike), sample, limits or Limits.of(reference, policy, at, window))


def compare(baseline: Baseline, current: "pd.DataFrame") -> Comparison:
    """Compare the columns of the reference; a column that `current` lacks is missing in all of its rows there."""
    policy, sample, limits = baseline.policy, baseline.sample, baseline.limits
    for name, rows in (("reference", baseline.rows), ("log", len(current))):
        if rows < policy.sample:
            return Comparison((), f"the {name} has {rows} rows, the policy compares {policy.sample}")
    if not limits.blocks.enough:
        windows = limits.blocks.apart
        return Comparison((), f"the reference holds {windows} windows as long as this one, limits need {FEWEST}")
    now = _draw(_typed(current.reindex(columns=sample.columns), like=sample), policy)
    comparable = [name for name in limits.columns if min(sample[name].count(), now[name].count()) >= _FEWEST_VALUES]
    effects = {name: _effect(now[name], sample[name], limits.methods[name]) for name in comparable}
    page = partial(_page, sample[comparable], now[comparable], limits) if comparable else None
    influence = limits.influence.of_shifts(now, sample) if limits.influence else {}

    def result(name: str) -> ColumnResult:
        before, after = float(sample[name].isna().mean()), float(now[name].isna().mean())
        return ColumnResult(
            name, limits.methods[name], effects.get(name), limits.columns[name], before, after,
            limits.missing[name], name not in policy.ignored, influence.get(name),
        )  # fmt: skip

    names = list(limits.together)
    apart = joint.separation(sample[names], now[names]) if names else float("nan")
    return Comparison(tuple(map(result, limits.columns)), page=page, joint=Joint(apart, limits.joint))


def _typed(frame: "pd.DataFrame", *, like: "pd.DataFrame") -> "pd.DataFrame":
    """Numbers as float64, everything else as text, as the types of `like` say; missing is NaN in both."""
    import pandas as pd

    def typed(name: str) -> "pd.Series[float] | pd.Series[str]":
        if is_number(like[name].dtype):
            return pd.to_numeric(frame[name], errors="coerce").astype("float64").replace([np.inf, -np.inf], np.nan)
        return frame[name].astype("object").map(str, na_action="ignore")

    return pd.DataFrame({name: typed(name) for name in map(str, frame.columns)}, index=frame.index)


def is_number(kind: Any) -> bool:
    """Whether values of this dtype are numbers, not categories."""
    import pandas as pd

    return pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)


def _method(column: "pd.Series[float] | pd.Series[str]") -> Method:
    return "wasserstein" if column.dtype == np.float64 else "jensenshannon"


def _draw(frame: "pd.DataFrame", policy: Drift) -> "pd.DataFrame":
    """The fixed sample: the same rows of the same data at every call."""
    chosen = np.random.default_rng(policy.seed).permutation(len(frame))[: policy.sample]
    return frame.iloc[np.sort(chosen)].reset_index(drop=True)


def _calibrate(
    reference: "pd.DataFrame", methods: dict[str, Method], policy: Drift, pairs: Blocks, alpha: float
) -> tuple[dict[str, float], dict[str, float]]:
    """How far blocks lie apart in each column, and in its share of missing values: {column: limit} of both."""
    seen = []
    for block, rest in pairs.pairs:
        one, other = (reference.iloc[draw(places, policy.sample, policy.seed)] for places in (block, rest))
        seen.append([*(_effect(one[name], other[name], method) for name, method in methods.items()),
                     *(abs(one[name].isna().mean() - other[name].isna().mean()) for name in methods)])  # fmt: skip
    # Distances are skewed, as far as one day of rain is from the others: their logarithms are much less so.
    least = np.repeat([policy.threshold, policy.missing], len(methods))
    bounds = np.exp(pairs.limits(np.log(np.array(seen, dtype=np.float64) + least), alpha, floor=_SPREAD)) - least
    return (dict(zip(methods, bounds[: len(methods)], strict=True)),
            dict(zip(methods, bounds[len(methods) :], strict=True)))  # fmt: skip


def _effect(one: "pd.Series[Any]", other: "pd.Series[Any]", method: Method) -> float:
    """By the same functions that Evidently's report uses; `other` is the reference. NaN of too few values."""
    from evidently.legacy.calculations.stattests import jensenshannon_stat_test, psi_stat_test, wasserstein_stat_test
    from evidently.legacy.core import ColumnType

    tests = {"psi": psi_stat_test, "wasserstein": wasserstein_stat_test, "jensenshannon": jensenshannon_stat_test}
    left, right = other.dropna(), one.dropna()
    kind = ColumnType.Numerical if one.dtype == np.float64 else ColumnType.Categorical
    enough = min(len(left), len(right)) >= _FEWEST_VALUES
    return float(tests[method](left, right, kind, None).drift_score) if enough else float("nan")


def _inputs(frame: "pd.DataFrame", policy: Drift) -> "pd.DataFrame":
    return frame.drop(columns=[SCORE, LABEL, *policy.ignored], errors="ignore")


def _joint_limit(reference: "pd.DataFrame", policy: Drift, pairs: Blocks, alpha: float) -> float:
    """What blocks show, and not less than an AUC that matters; NaN without columns."""
    if reference.columns.empty:
        return float("nan")
    seen = [
        joint.separation(*(reference.iloc[draw(places, policy.sample, policy.seed)] for places in (rest, block)))
        for block, rest in pairs.pairs
    ]
    return float(np.fmax(policy.apart, pairs.limits(np.array(seen)[:, None], alpha)[0]))


def _page(sample: "pd.DataFrame", now: "pd.DataFrame", limits: Limits) -> "Snapshot":
    """Evidently's report on all columns of both frames."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    names = list(map(str, sample.columns))
    numbers = [name for name in names if sample[name].dtype == np.float64]
    texts = [name for name in names if name not in numbers]
    # Its page writes values into a <script> as they are, and a category's value is a caller's.
    sample, now = (frame.replace("<", "\u2039", regex=True) for frame in (sample, now))
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    metrics = [ValueDrift(column=name, method=limits.methods[name], threshold=limits.columns[name]) for name in names]
    datasets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (now, sample)]
    return Report(metrics, include_tests=True).run(*datasets)
