"""What rows say of a gain, where neither the rows of a caller nor those of a day are independent.

Variance: two-way clusters, caller by day (Cameron, Gelbach and Miller, "Robust Inference With Multiway Clustering",
JBES 29, 2011): V = V(caller) + V(day) - V(caller and day), and no less than either of the first two. A mean over rows
is a ratio of sums over clusters, so each cluster's part is that of a linearised ratio (delta method: Deng, Knoblich and
Lu, KDD 2018). Reference: Student's t with one degree of freedom less than there are clusters of the rarer kind (Cameron
and Miller, "A Practitioner's Guide to Cluster-Robust Inference", JHR 50, 2015), clusters counted by Kish's effective
number, of which one large caller among small ones is little more than one. With few callers a randomisation test has to
agree: callers are drawn into the arms again (or their signs, of pairs), and the statistic is studentised (Chung and
Romano, Annals of Statistics 41, 2013).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from plumbline.monitoring.stats import Floats, Integers

Booleans = npt.NDArray[np.bool_]
FEW = 50
"""Effective callers of the smaller arm below which the randomisation test is asked too."""
DRAWS = 4999
_NO_EVIDENCE = 0.05


@dataclass(frozen=True, slots=True)
class Cells:
    """Labelled rows added up by caller, day and arm; arrays of shape (cells,)."""

    caller: Integers
    day: Integers
    """Whole days since the experiment began."""
    treatment: Booleans
    """Of which arm; where both versions answered the rows, all are True and the sums are of treatment's gains."""
    rows: Mapping[str, Floats]
    """Of a metric: how many rows have it."""
    sums: Mapping[str, Floats]
    """… and their sum."""

    def until(self, day: int) -> "Cells":
        """Those of the days before."""
        seen = self.day < day
        rows, sums = ({name: values[seen] for name, values in each.items()} for each in (self.rows, self.sums))
        return Cells(self.caller[seen], self.day[seen], self.treatment[seen], rows, sums)

    def callers(self) -> tuple[int, int]:
        """How many different ones control and treatment have."""
        control, treatment = (len(np.unique(self.caller[self.treatment == arm])) for arm in (False, True))
        return control, treatment


def collect(caller: Integers, day: Integers, treatment: Booleans, figures: Mapping[str, Floats]) -> Cells:
    """Add rows up; arrays of shape (rows,). NaN is a row without that figure."""
    keys = np.stack([caller, day, treatment.astype(np.int64)])
    cells, place = np.unique(keys, axis=1, return_inverse=True) if keys.size else (keys, keys[0])
    place, size = place.reshape(-1), cells.shape[1]
    present = {name: ~np.isnan(values) for name, values in figures.items()}
    return Cells(
        cells[0], cells[1], cells[2].astype(np.bool_),
        {name: np.bincount(place[present[name]], minlength=size).astype(np.float64) for name in figures},
        {
            name: np.bincount(place[present[name]], figures[name][present[name]], size).astype(np.float64)
            for name in figures
        },
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """A gain with its standard error; NaN where it can't be told."""

    control: float
    treatment: float
    gain: float
    error: float
    freedom: float
    """Degrees of freedom."""
    rows: int
    callers: tuple[int, int]
    """Of control and of treatment."""
    sample: "_Sample | None" = None

    def z(self, limit: float, side: int) -> float:
        """How far the gain lies above (side 1) or below (side -1) a limit, as a normal deviate of the same p-value."""
        if not (self.error > 0 and self.freedom >= 1):
            return float("nan")
        p = float(t.sf(side * (self.gain - limit) / self.error, self.freedom))
        # Asked only where it can matter: it makes no evidence, it takes some away.
        if self.sample is not None and p < _NO_EVIDENCE:
            p = max(p, self.sample.p_value(limit, side))
        # Beyond 37 a double has no smaller p.
        return float(norm.isf(max(p, 1e-300)))


@dataclass(frozen=True, slots=True)
class _Sample:
    """The callers' sums, for the randomisation test; `treated` is None where the rows are pairs."""

    rows: Floats
    sums: Floats
    treated: Booleans | None
    sign: int

    def p_value(self, limit: float, side: int) -> float:
        """Of the hypothesis that the gain is the limit, for each caller alike."""
        generator = np.random.default_rng(0)
        if self.treated is None:
            left = self.sums - limit * self.rows
            flips = generator.choice(np.array([-1.0, 1.0]), (DRAWS, len(left)))
            flips[0] = 1
            statistic = side * (flips @ left) / np.sqrt((left**2).sum())
        else:
            sums = self.sums - self.sign * limit * self.rows * self.treated
            arms = generator.permuted(np.tile(self.treated, (DRAWS, 1)), axis=1)
            arms[0] = self.treated
            statistic = side * self.sign * _studentised(self.rows, sums, arms.astype(np.float64))
        return float((statistic >= statistic[0] - 1e-12).mean())


def _studentised(rows: Floats, sums: Floats, arms: Floats) -> Floats:
    """Difference of the two means over its error by callers, for each draw of arms, shape (draws, callers)."""

    def arm(drawn: Floats) -> tuple[Floats, Floats]:
        count, clusters = drawn @ rows, drawn.sum(axis=1)
        mean = (drawn @ sums) / count
        residual = drawn @ sums**2 - 2 * mean * (drawn @ (sums * rows)) + mean**2 * (drawn @ rows**2)
        return mean, np.maximum(residual, 0) / count**2 * clusters / (clusters - 1)

    (mean, variance), (other, others) = arm(arms), arm(1 - arms)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num((mean - other) / np.sqrt(variance + others), nan=0.0, posinf=1e9, neginf=-1e9)


def of_arms(cells: Cells, metric: str, *, higher_is_better: bool) -> Evidence:
    """Treatment's gain over control, each by the rows that it answered itself."""
    rows, sums, treated = cells.rows[metric], cells.sums[metric], cells.treatment
    sign = 1 if higher_is_better else -1
    counts = rows[~treated].sum(), rows[treated].sum()
    if not all(counts):
        return _unknown(rows)
    control, treatment = sums[~treated].sum() / counts[0], sums[treated].sum() / counts[1]
    parts = np.where(treated, (sums - treatment * rows) / counts[1], -(sums - control * rows) / counts[0])
    return _evidence(cells, rows, parts, (control, treatment, sign * (treatment - control)), sums, treated, sign)


def of_pairs(cells: Cells, metric: str) -> Evidence:
    """Treatment's gain in the same rows."""
    rows, sums = cells.rows[metric], cells.sums[metric]
    if not rows.sum():
        return _unknown(rows)
    gain = sums.sum() / rows.sum()
    return _evidence(cells, rows, (sums - gain * rows) / rows.sum(), (np.nan, np.nan, gain), sums, None, 1)


def _evidence(
    cells: Cells, rows: Floats, parts: Floats, means: tuple[float, float, float], sums: Floats,
    treated: Booleans | None, sign: int,
) -> Evidence:  # fmt: skip
    """From each cell's part of the gain; `means` are control's, treatment's and the gain."""
    seen = rows > 0
    _, caller = np.unique(cells.caller[seen] * 2 + cells.treatment[seen], return_inverse=True)
    _, day = np.unique(cells.day[seen], return_inverse=True)
    parts, rows, sums = parts[seen], rows[seen], sums[seen]
    size, by_caller = _added(caller, rows), _added(caller, parts) ** 2
    arm = np.zeros(len(size), dtype=np.bool_)
    if treated is not None:
        arm[caller] = treated[seen]
    # Of pairs all callers are one group.
    groups = [~arm, arm] if treated is not None else [~arm]
    of_callers = float(np.sum([_scaled(by_caller[group]) for group in groups]))
    of_days = _scaled(_added(day, parts) ** 2)
    variance = max(of_callers, of_days, of_callers + of_days - float((parts**2).sum()))
    fewest = min(_effective(size[group]) for group in groups)
    counts = [int(group.sum()) for group in groups]
    sample = None
    if fewest < FEW and min(counts) > 1:
        sample = _Sample(size, _added(caller, sums), arm if treated is not None else None, sign)
    control, treatment, gain = means
    return Evidence(
        float(control), float(treatment), float(gain), float(np.sqrt(variance)),
        min(fewest, _effective(_added(day, rows))) - 1, int(rows.sum()), (counts[0], counts[-1]), sample,
    )  # fmt: skip


def _added(places: Integers, values: Floats) -> Floats:
    """Values added up by place."""
    return np.asarray(np.bincount(places, values), dtype=np.float64)


def _scaled(squares: Floats) -> float:
    """The sum of squares of so many clusters, for the mean that was taken from them too; NaN for one alone."""
    return float(squares.sum() * len(squares) / (len(squares) - 1)) if len(squares) > 1 else float("nan")


def _effective(sizes: Floats) -> float:
    """How many clusters of one size these are worth (Kish, "Survey Sampling", 1965)."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _unknown(rows: Floats) -> Evidence:
    nan = float("nan")
    return Evidence(nan, nan, nan, nan, nan, int(rows.sum()), (0, 0))
