"""Limits from blocks of the reference: how far windows as long as the one that is judged lie apart without drift.

The rows of one day resemble each other (one weather, one timetable), so limits from single rows are far too narrow: a
day cut out of the reference itself "drifts". A block is therefore as long as the window, ends at the same hour, and is
held against the other rows of its own hours of the week, as the window will be. Several statistics are judged
together by the largest of their standardised values (max-T: Westfall and Young, "Resampling-Based Multiple Testing",
1993), whose limit is that of a further observation (prediction interval: Hahn, JASA 64, 1969), with as many
observations as there are blocks that do not overlap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

Places = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]
DAY, WEEK = pd.Timedelta(days=1), pd.Timedelta(days=7)
FEWEST = 5
"""Blocks that do not overlap, below which a reference says nothing of a window's length."""
DRAWS = 40
FALSE_ALARMS = 0.05
"""Of all kinds, columns and windows of one check together."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time that is judged; `tests` is among how many the check shares its false alarms out."""

    until: datetime
    length: timedelta
    tests: int = 1

    def like(self, at: "pd.Series[pd.Timestamp]") -> npt.NDArray[np.bool_]:
        """Which moments lie in the window's hours of the week, shape (rows,); all where it is a week or longer."""
        if self.length >= WEEK:
            return np.ones(len(at), dtype=np.bool_)
        since = (at - pd.Timestamp(self.until - self.length)).dt.total_seconds().to_numpy()
        return np.asarray(since % WEEK.total_seconds() < self.length.total_seconds(), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Pairs (rows of the block, rows that it is held against), and how many of the blocks do not overlap."""

    pairs: tuple[tuple[Places, Places], ...]
    apart: int

    @property
    def enough(self) -> bool:
        """Whether limits can be told from them."""
        return self.apart >= FEWEST

    def limits(self, values: Floats, alpha: float, floor: float = 1e-9) -> Floats:
        """The limit of each statistic, shape (k,), of values of the blocks (blocks, k); NaN where none has a value.

        A fresh window is beyond any of them with a probability of about alpha.
        """
        from scipy.stats import t

        with np.errstate(all="ignore"):
            middle, spread = np.nanmean(values, axis=0), np.maximum(np.nanstd(values, axis=0, ddof=1), floor)
            largest = np.nanmax((values - middle) / spread, axis=1)
        largest = largest[np.isfinite(largest)]
        if len(largest) < 2:
            return np.full(values.shape[1], np.nan)
        wide = float(t.isf(alpha, self.apart - 1)) * np.sqrt(1 + 1 / self.apart)
        limit: Floats = middle + (largest.mean() + wide * largest.std(ddof=1)) * spread
        return limit


def blocks(at: "pd.Series[pd.Timestamp] | None", rows: int, window: Window | None, sample: int, seed: int) -> Blocks:
    """Blocks of a reference whose rows have these moments; of one without time, seeded draws of `sample` rows each."""
    if at is None or window is None:
        pairs = tuple(_draws(rows, sample, seed))
        return Blocks(pairs, len(pairs))
    by_time = tuple(_by_time(at.reset_index(drop=True), window))
    apart = int((at.max() - at.min() + DAY) / max(pd.Timedelta(window.length), DAY)) if len(at) else 0
    return Blocks(by_time, min(len(by_time), apart))


def draw(places: Places, most: int, seed: int) -> Places:
    """At most so many of them, always the same."""
    return np.sort(np.random.default_rng(seed).permutation(places)[:most])


def _draws(rows: int, sample: int, seed: int) -> Iterator[tuple[Places, Places]]:
    """Pairs apart from each other where the reference is large enough, else with replacement."""
    rng = np.random.default_rng(seed + 1)
    for _ in range(DRAWS):
        chosen = rng.permutation(rows)[: 2 * sample] if rows >= 2 * sample else rng.integers(0, rows, 2 * sample)
        yield chosen[:sample], chosen[sample:]


def _by_time(at: "pd.Series[pd.Timestamp]", window: Window) -> Iterator[tuple[Places, Places]]:
    """One block for each day at whose end, at the window's hour, the reference has been on for the window's length."""
    length, until = pd.Timedelta(window.length), pd.Timestamp(window.until)
    end = at.min().floor("s") + length
    end += (until - end) % DAY
    while end <= at.max() + DAY / 2:
        inside = ((at >= end - length) & (at < end)).to_numpy()
        other = Window(end.to_pydatetime(), window.length).like(at) & ~inside
        if inside.sum() >= 50 and other.sum() >= 50:
            yield np.flatnonzero(inside), np.flatnonzero(other)
        end += DAY
