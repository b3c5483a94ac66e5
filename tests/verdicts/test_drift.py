"""Drift on real seasons: windows cut out of November and December are no drift, planted shifts of them are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from monte_carlo import is_at_least, is_at_most
from xgboost import XGBClassifier

from plumbline.features.offline import encode_frame
from plumbline.monitoring.drift.blocks import Window
from plumbline.monitoring.drift.compare import Limits
from plumbline.monitoring.drift.data import Side, from_holdout
from plumbline.monitoring.drift.judge import judge
from plumbline.monitoring.policy import Drift
from plumbline.training import prepare
from plumbline.training.data import read_tables
from plumbline.training.model import load

POLICY = Drift(model="flights", sample=600)
MIDNIGHT = pd.Timestamp("2013-11-02 05:00", tz="UTC")
Shift = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


@dataclass(frozen=True)
class Season:
    """What a model answered in November and December, and in all four months after its training."""

    rows: pd.DataFrame
    after: pd.DataFrame
    score: Callable[[pd.DataFrame], pd.DataFrame]
    folder: Path
    _limits: dict[timedelta, Limits] = field(default_factory=dict)

    def limits(self, reference: Side, window: Window) -> Limits:
        """Of windows as long as this: they take seconds, and serve every test."""
        if window.length not in self._limits:
            self._limits[window.length] = Limits.of(reference.frame, POLICY, reference.at, window)
        return self._limits[window.length]

    def side(self, rows: pd.DataFrame) -> Side:
        """As a holdout file, or as the log of a window."""
        rows.to_parquet(path := self.folder / "side.parquet")
        return from_holdout(path)


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Season:
    model, folder = load("flights"), tmp_path_factory.mktemp("flights")
    model.fetch(folder)
    rows = prepare.assemble(model, read_tables(model, folder))
    parts = prepare.split(model, rows)
    known = parts["train"].sample(60_000, random_state=0)
    target = prepare.target_of(model.schema, known)
    schema = prepare.fill_vocabularies(model.schema, known, target, 20)
    estimator = XGBClassifier(**model.defaults, n_estimators=100, max_bin=32, n_jobs=1, random_state=0)
    estimator.fit(encode_frame(schema, known), target)

    def score(part: pd.DataFrame) -> pd.DataFrame:
        late = estimator.predict_proba(encode_frame(schema, part))[:, 1].astype(np.float64)
        return part.assign(native_on_time=1 - late, native_late=late)

    after = score(pd.concat([parts["validation"], parts["test"]]).sort_values("at", ignore_index=True))
    test = after[after["at"] >= parts["test"]["at"].min()].reset_index(drop=True)
    return Season(test, after, score, folder)


def kilometres(rows: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
    return rows.assign(distance=(rows["distance"] * 1.609).round().astype(int))


def no_years(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return rows.assign(plane_year=rows["plane_year"].where(rng.random(len(rows)) < 0.4))


def another_zone(rows: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
    return rows.assign(departure=(rows["departure"] + 300) % 1440)


def parted(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Each column is as it was by itself; no row is."""
    columns = ("carrier", "origin", "destination", "departure", "arrival")
    return rows.assign(**{name: rng.permutation(rows[name].to_numpy()) for name in columns})


def another_world(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """As many are late, but not those of whom it was to be expected."""
    return rows.assign(truth=rng.permutation(rows["truth"].to_numpy()))


def as_it_was(rows: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
    return rows


def judged(season: Season, shift: Shift, hours: int, windows: int) -> list[dict[str, Any]]:
    """The kinds of drift that are found in evenly spread windows of the reference, after a shift."""
    length, reference = timedelta(hours=hours), season.side(season.rows)
    ends = pd.date_range(MIDNIGHT, periods=61, freq="D")[hours // 24 - 1 :]
    kinds = []
    for end in ends[np.unique(np.linspace(0, len(ends) - 1, windows).round().astype(int))]:
        window = Window(end.to_pydatetime(), length, 2)
        limits = season.limits(reference, window)
        inside = (season.rows["at"] >= end - length) & (season.rows["at"] < end)
        shifted = shift(season.rows[inside].reset_index(drop=True), np.random.default_rng(end.day))
        kinds.append(judge(reference, season.side(season.score(shifted)), POLICY, window, "v1.0.0", limits).kinds)
    return kinds


@pytest.mark.parametrize("hours", [24, 168])
def test_windows_of_the_reference_are_no_drift(
    season: Season, trials: Callable[[int, int], int], measured: Callable[[str, str], None], hours: int
) -> None:
    windows = trials(3, 30 if hours == 24 else 14)
    kinds = judged(season, as_it_was, hours, windows)
    false = sum("drift" in found.values() for found in kinds)
    measured(f"windows of {hours} hours of the reference that drift", f"{false} of {len(kinds)}")
    assert is_at_most(false, len(kinds), 0.05)


@pytest.mark.parametrize(
    ("shift", "kind", "hours"),
    [
        (kilometres, "covariate", 24), (no_years, "covariate", 24), (another_zone, "covariate", 24),
        (parted, "joint", 24), (another_world, "concept", 168),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_a_planted_shift_is_found(
    season: Season, trials: Callable[[int, int], int], measured: Callable[[str, str], None],
    shift: Shift, kind: str, hours: int,
) -> None:  # fmt: skip
    kinds = judged(season, shift, hours, trials(2, 14))
    found = sum(one[kind] == "drift" for one in kinds)
    measured(f"{shift.__name__}, found as {kind} in {hours} hours", f"{found} of {len(kinds)}")
    assert is_at_least(found, len(kinds), 0.95)


def test_live_quality_in_control_is_not_said_to_have_fallen(
    season: Season, measured: Callable[[str, str], None]
) -> None:
    """The alert `QualityFell` (kustomize/monitoring/rules/quality.yaml) on accuracy, hour by hour; 4 is its factor."""
    late = season.after["native_late"] >= 0.25
    hit = (late == (season.after["truth"] == "late")).astype(float)
    hours = hit.groupby(season.after["at"].dt.floor("h")).agg(["sum", "count"]).asfreq("h").fillna(0).rolling(24).sum()
    quality = (hours["sum"] / hours["count"]).iloc[24:]
    week, spread = quality.rolling(24 * 7).mean(), quality.rolling(24 * 14, min_periods=24 * 7).std()
    before = week - quality > 0.05
    after = week.shift(24) - quality > np.maximum(0.05, 4 * spread.shift(24))
    told = {name: fires.iloc[24 * 7 :].resample("D").max() for name, fires in (("before", before), ("after", after))}
    days = {name: f"{int(fires.sum())} of {len(fires)}" for name, fires in told.items()}
    measured("days after training on which QualityFell fires", f"{days['after']}; without the spread {days['before']}")
    assert told["before"].mean() > 0.3
    assert told["after"].mean() <= 0.05
