"""Logged answers against the signed model's."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import bundles
from plumbline.core.release import read_release
from plumbline.monitoring.canary.replay import Logged, compare
from plumbline.monitoring.experiment.replay import asked_again
from plumbline.scoring.scorer import Scorer


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def scorer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    folder = tmp_path_factory.mktemp(request.param)
    keys = bundles.make_keys(folder)
    path = bundles.make_bundle(folder / "model", keys, request.param).release(folder / "release.yaml")
    with Scorer.fetch(read_release(path), path, keys.public) as found:
        yield found


def logged(scorer: Scorer, count: int = 300) -> list[Logged]:
    """What its server logs: float32 as the shortest text that means it."""
    rng = np.random.default_rng(3)
    features: list[dict[str, Any]] = [
        {"distance": float(rng.uniform(100, 5000)), "hour": int(rng.integers(0, 24)),
         "carrier": ("UA", "AA", "WN")[number % 3], "wind": float(np.float32(rng.uniform(0, 40)))}
        | ({} if number % 5 else {"origin": "JFK"})
        for number in range(count)
    ]  # fmt: skip
    answers, labels = asked_again(scorer, features), scorer.schema.output.labels
    if not labels:
        values = zip(features, answers["value"], strict=True)
        return [Logged(row, {"value": float(f"{value:.7g}")}) for row, value in values]
    each = [{label: float(f"{row[f'probability_{label}']:.7g}") for label in labels} for _, row in answers.iterrows()]
    return [Logged(row, {"label": "x", "probabilities": these}) for row, these in zip(features, each, strict=True)]


def test_a_server_that_answers_as_its_model_does_differs_in_nothing(scorer: Scorer) -> None:
    found = compare(scorer, logged(scorer))
    assert (found.rows, found.different, found.example) == (300, 0, None)


def test_two_answers_that_went_to_each_others_rows_are_found(scorer: Scorer) -> None:
    rows = logged(scorer)
    rows[7], rows[8] = rows[7]._replace(output=rows[8].output), rows[8]._replace(output=rows[7].output)
    found = compare(scorer, rows)
    assert found.different == 2
    assert found.example in (rows[7].features, rows[8].features)


@pytest.mark.parametrize(
    ("callers", "alone"), [(("a", "a", "b"), True), (("a", "b", "b"), False), (("a", "a", "a"), False)]
)
def test_what_differs_for_one_caller_of_several_is_said_to_be_that_callers(
    scorer: Scorer, callers: tuple[str, ...], alone: bool
) -> None:
    rows = [row._replace(caller=caller) for row, caller in zip(logged(scorer, 3), callers, strict=True)]
    rows[0], rows[1] = rows[0]._replace(output=rows[1].output), rows[1]._replace(output=rows[0].output)
    found = compare(scorer, rows)
    assert (found.different, found.one_caller) == (2, alone)


def test_answers_of_one_carrier_permuted_are_found(scorer: Scorer) -> None:
    rows = logged(scorer)
    places = [place for place, row in enumerate(rows) if row.features["carrier"] == "WN"]
    moved = dict(zip(places, np.roll(places, 1).tolist(), strict=True))
    found = compare(
        scorer, [row._replace(output=rows[moved.get(place, place)].output) for place, row in enumerate(rows)]
    )
    assert 90 <= found.different <= 100


def test_an_answer_that_does_not_say_what_the_model_says_differs(scorer: Scorer) -> None:
    rows = logged(scorer, 2)
    assert compare(scorer, [rows[0], rows[1]._replace(output={"label": "x"})]).different == 1
