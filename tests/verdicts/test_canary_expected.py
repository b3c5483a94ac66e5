"""Canaries of the flights held against what the gate saw: November judges two versions, December's days are traffic."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from monte_carlo import is_at_least, is_at_most
from xgboost import XGBClassifier

from plumbline.core.evidence import Expected
from plumbline.core.metrics.clusters import Clusters
from plumbline.core.schema import ModelSchema
from plumbline.features.offline import encode_frame
from plumbline.monitoring.canary.expected import Pair, unexpected
from plumbline.monitoring.canary.replay import Logged
from plumbline.promotion.gate.answers import Answers, Rows
from plumbline.promotion.gate.expected import shifts
from plumbline.training import prepare
from plumbline.training.data import read_tables
from plumbline.training.model import load

ROWS = 300
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Versions:
    """Two versions, what the gate saw between them in November, and December's flights."""

    schema: ModelSchema
    new: XGBClassifier
    old: XGBClassifier
    expected: Expected
    december: pd.DataFrame

    def pair(self, rows: pd.DataFrame, spoil: Spoil) -> Pair:
        """What both answer; the new one takes what is sent for something else."""
        logged = [
            Logged({"carrier": row.carrier, "origin": row.origin}, {}, str(row.Index)) for row in rows.itertuples()
        ]
        return Pair(self.schema.output, logged, self.of(self.new, spoil(rows)), self.of(self.old, rows))

    def of(self, estimator: XGBClassifier, rows: pd.DataFrame) -> Answers:
        """By a threshold of 0.3."""
        return Answers(estimator.predict_proba(encode_frame(self.schema, rows)).astype(np.float64), 0.3)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    model, folder = load("flights"), tmp_path_factory.mktemp("flights")
    model.fetch(folder)
    parts = prepare.split(model, prepare.assemble(model, read_tables(model, folder)))
    known, test = parts["train"], parts["test"]
    schema = prepare.fill_vocabularies(model.schema, known, prepare.target_of(model.schema, known), 50)
    fitted = []
    for seed, trees in enumerate((80, 120)):
        sample = known.sample(50_000, random_state=seed)
        settings = {**model.defaults, "n_estimators": trees, "max_bin": 32, "n_jobs": 1, "random_state": seed}
        estimator = XGBClassifier(**settings)
        fitted.append(estimator.fit(encode_frame(schema, sample), prepare.target_of(schema, sample)))
    november = test["at"] < pd.Timestamp("2013-12-01 05:00", tz="UTC")
    judged = test[november].sample(10_000, random_state=0)
    made = Versions(schema, fitted[1], fitted[0], Expected(version="v1.0.0", artifact="sha256:" + "0" * 64, shifts=()),
                    test[~november])  # fmt: skip
    slices = {name: judged[name].to_numpy(dtype=str) for name in ("carrier", "origin")}
    rows = Rows(schema.output, np.zeros(len(judged)), Clusters.of_rows(len(judged)), slices=slices)
    seen = tuple(shifts(rows, made.of(made.new, judged), made.of(made.old, judged)))
    return Versions(schema, made.new, made.old, made.expected.model_copy(update={"shifts": seen}), made.december)


def _found(versions: Versions, spoil: Spoil) -> list[bool]:
    """On each day of December."""
    local = versions.december["at"].dt.tz_convert("America/New_York").dt.date
    days = [rows.sample(min(ROWS, len(rows)), random_state=0) for _, rows in versions.december.groupby(local)]
    return [bool(unexpected(versions.pair(rows, spoil), versions.expected)) for rows in days if len(rows) >= ROWS]


def test_a_release_that_differs_as_the_gate_saw_does_not_wait_for_a_person(
    versions: Versions, measured: Callable[[str, str], None]
) -> None:
    found = _found(versions, lambda rows: rows)
    measured("days on which a good canary lies elsewhere than the gate saw", f"{sum(found)} of {len(found)}")
    assert is_at_most(sum(found), len(found), 0.05)


def no_weather(rows: pd.DataFrame) -> pd.DataFrame:
    """It asks for a view under a name that nobody fills."""
    return rows.assign(**dict.fromkeys(load("flights").schema.views[0].fields, None))


@pytest.mark.parametrize("spoil", [no_weather], ids=lambda spoil: spoil.__name__)
def test_a_release_that_takes_what_is_sent_for_something_else_waits_for_a_person(
    versions: Versions, measured: Callable[[str, str], None], spoil: Spoil
) -> None:
    found = _found(versions, spoil)
    measured(f"days on which a canary is found that answers as signed, but {spoil.__name__}", f"{sum(found)} of"
             f" {len(found)}")  # fmt: skip
    assert is_at_least(sum(found), len(found), 0.95)
