"""Whether production still looks like the data that the model was judged on, column by column.

Effect sizes, not p-values: a p-value finds any difference once there is enough traffic. Both sides are always the
same number of rows, drawn with a fixed seed, so that neither the traffic nor the hour changes the verdict. A
column's limit is the effect that matters, or where chance alone moves it more than that, what pairs of samples of
the reference itself show (mean + 5 standard deviations of pairs without drift).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from plumbline.monitoring.policy import LABEL, SCORE, Column, Drift
from plumbline.monitoring.stats import Mean

if TYPE_CHECKING:
    import pandas as pd
    from evidently.core.report import Snapshot

Verdict = Literal["drift", "none", "inconclusive"]
Method = Literal["psi", "wasserstein", "jensenshannon"]
_PAIRS = 40
_DEVIATIONS = 5.0
_FEWEST_VALUES = 50
FEWEST_LABELS = 100


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

    @property
    def drifted(self) -> bool:
        """Whether values or missing values have moved further than their limits."""
        return self.values_moved or abs(self.missing_current - self.missing_reference) >= self.missing_threshold

    @property
    def values_moved(self) -> bool:
        """Whether the values have."""
        return self.value is not None and self.value >= self.threshold


@dataclass(frozen=True, slots=True)
class Concept:
    """Mean loss on labelled rows, and its rise over the reference as an interval; absolute, with the limit beside."""

    verdict: Verdict
    reference: Mean
    current: Mean
    low: float
    high: float
    limit: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The columns' results and Evidently's page of them; no columns and a reason where there were too few rows."""

    columns: tuple[ColumnResult, ...]
    reason: str = ""
    page: "Snapshot | None" = None

    def verdict(self, *, prediction: bool) -> Verdict:
        """Of the inputs (covariate shift) or of the answers (prediction shift)."""
        of_kind = [item for item in self.columns if (item.column in (SCORE, LABEL)) == prediction and item.judged]
        if not of_kind:
            return "inconclusive"
        return "drift" if any(item.drifted for item in of_kind) else "none"


@dataclass(frozen=True, slots=True)
class Baseline:
    """The reference, ready to compare with: its fixed sample, and the method and limit of each column."""

    policy: Drift
    rows: int
    sample: "pd.DataFrame"
    methods: dict[str, Method]
    limits: dict[str, float]

    @classmethod
    def of(cls, reference: "pd.DataFrame", policy: Drift) -> "Baseline":
        """Draw and calibrate; without limits where the reference has fewer rows than the policy compares."""
        typed = _typed(reference, like=reference)
        rules = {name: policy.columns.get(name, Column()) for name in map(str, typed.columns)}
        methods = {name: rule.method or _method(typed[name]) for name, rule in rules.items()}
        limits = {}
        if len(typed) >= policy.sample:
            by_chance = _calibrate(typed, methods, policy)
            limits = {name: rule.threshold or max(policy.threshold, by_chance[name]) for name, rule in rules.items()}
        return cls(policy, len(typed), _draw(typed, policy), methods, limits)


def compare(baseline: Baseline, current: "pd.DataFrame") -> Comparison:
    """Compare the columns of the reference; a column that `current` lacks is missing in all of its rows there."""
    policy, sample = baseline.policy, baseline.sample
    for name, rows in (("reference", baseline.rows), ("log", len(current))):
        if rows < policy.sample:
            return Comparison((), f"the {name} has {rows} rows, the policy compares {policy.sample}")
    now = _draw(_typed(current.reindex(columns=sample.columns), like=sample), policy)
    comparable = [name for name in baseline.limits if min(sample[name].count(), now[name].count()) >= _FEWEST_VALUES]
    page, effects = _evidently(sample[comparable], now[comparable], baseline)

    def result(name: str) -> ColumnResult:
        before, after = float(sample[name].isna().mean()), float(now[name].isna().mean())
        missing = max(policy.missing, _DEVIATIONS * float(np.sqrt(2 * before * (1 - before) / policy.sample)))
        method, limit, judged = baseline.methods[name], baseline.limits[name], name not in policy.ignored
        return ColumnResult(name, method, effects.get(name), limit, before, after, missing, judged)

    return Comparison(tuple(map(result, baseline.limits)), page=page)


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


def _pairs(frame: "pd.DataFrame", policy: Drift) -> Iterator[tuple["pd.DataFrame", "pd.DataFrame"]]:
    """Pairs of samples of the reference: apart from each other where it is large enough, else with replacement."""
    rng = np.random.default_rng(policy.seed + 1)
    for _ in range(_PAIRS):
        if len(frame) >= 2 * policy.sample:
            rows = rng.permutation(len(frame))[: 2 * policy.sample]
        else:
            rows = rng.integers(0, len(frame), 2 * policy.sample)
        yield frame.iloc[rows[: policy.sample]], frame.iloc[rows[policy.sample :]]


def _calibrate(reference: "pd.DataFrame", methods: dict[str, Method], policy: Drift) -> dict[str, float]:
    """How far chance alone moves each column, by the same functions that Evidently's report uses."""
    from evidently.legacy.calculations.stattests import jensenshannon_stat_test, psi_stat_test, wasserstein_stat_test
    from evidently.legacy.core import ColumnType

    tests = {"psi": psi_stat_test, "wasserstein": wasserstein_stat_test, "jensenshannon": jensenshannon_stat_test}
    seen: dict[str, list[float]] = {name: [] for name in methods}
    for one, other in _pairs(reference, policy):
        for name, method in methods.items():
            left, right = one[name].dropna(), other[name].dropna()
            kind = ColumnType.Numerical if reference[name].dtype == np.float64 else ColumnType.Categorical
            if min(len(left), len(right)) >= _FEWEST_VALUES:
                seen[name].append(tests[method](left, right, kind, None).drift_score)
    return {n: float(np.mean(v) + _DEVIATIONS * np.std(v)) if v else 0.0 for n, v in seen.items()}


def _evidently(
    sample: "pd.DataFrame", now: "pd.DataFrame", baseline: Baseline
) -> tuple["Snapshot | None", dict[str, float]]:
    """Run Evidently's report on all columns of both frames; returns it with {column: effect}."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    names = list(map(str, sample.columns))
    if not names:
        return None, {}
    numbers = [name for name in names if sample[name].dtype == np.float64]
    texts = [name for name in names if name not in numbers]
    # Its page writes values into a <script> as they are, and a category's value is a caller's.
    sample, now = (frame.replace("<", "\u2039", regex=True) for frame in (sample, now))
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    methods, limits = baseline.methods, baseline.limits
    metrics = [ValueDrift(column=name, method=methods[name], threshold=limits[name]) for name in names]
    datasets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (now, sample)]
    page = Report(metrics, include_tests=True).run(*datasets)
    return page, {item["config"]["column"]: float(item["value"]) for item in page.dict()["metrics"]}


def concept(reference: Mean, current: Mean, policy: Drift) -> Concept:
    """Whether the loss has surely risen by more than the policy allows: the interval of the rise is above the limit."""
    from scipy.stats import norm

    rise, limit = current.value - reference.value, policy.lossRise * reference.value
    half = float(norm.isf((1 - policy.confidence) / 2) * np.sqrt(reference.variance + current.variance))
    if current.rows < FEWEST_LABELS or not np.isfinite(rise) or not np.isfinite(half):
        return Concept("inconclusive", reference, current, rise - half, rise + half, limit)
    return Concept("drift" if rise - half > limit else "none", reference, current, rise - half, rise + half, limit)
