"""Two signed models answer the same logged rows."""

from typing import Any

import numpy as np
import pytest
from experiments import policy

import bundles
from plumbline.core.errors import Inconclusive
from plumbline.core.release import read_release
from plumbline.monitoring.experiment.evidence import of_pairs
from plumbline.monitoring.experiment.replay import pairs
from plumbline.monitoring.experiment.rows import Labelled
from plumbline.scoring.scorer import Scorer

RULES = policy(
    answersChangeOutcomes=False, costs={"late": {"on-time": 5.0}}, rollback=[{"metric": "cost", "below": 0.0}]
)


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scorer]:
    folder = tmp_path_factory.mktemp("models")
    keys = bundles.make_keys(folder)
    found = {}
    asked: list[tuple[str, bundles.Kind, int]] = [
        ("one", "binary", 0), ("other", "binary", 1), ("delay", "regression", 0),
    ]  # fmt: skip
    for name, kind, seed in asked:
        bundle = bundles.make_bundle(folder / name, keys, kind, seed=seed)
        path = bundle.release(folder / f"{name}.yaml")
        with Scorer.fetch(read_release(path), path, keys.public) as scorer:
            found[name] = scorer
    return found


def logged(count: int = 400, **changes: Any) -> list[Labelled]:
    rng = np.random.default_rng(1)
    rows = []
    for number in range(count):
        features: dict[str, Any] = {
            "distance": float(rng.uniform(100, 5000)), "hour": int(rng.integers(0, 24)),
            "carrier": "UA", "origin": "JFK", "wind": float(rng.uniform(0, 40)),
        }  # fmt: skip
        truth = "late" if features["hour"] + features["wind"] / 2 > 21 + rng.normal(0, 6) else "on-time"
        fields: dict[str, Any] = {
            "treated": False, "subject": "", "caller": f"s{number % 80}", "day": number % 14, "label": "late",
            "probabilities": {}, "truth": truth, "error": None, "value": None, "ms": 1.0, "features": features,
        }  # fmt: skip
        rows.append(Labelled(**(fields | changes)))
    return rows


def test_a_version_has_no_gain_over_itself(scorers: dict[str, Scorer]) -> None:
    cells = pairs(RULES, logged(), scorers["one"], scorers["one"])
    for metric in ("accuracy", "log_loss", "brier", "cost"):
        found = of_pairs(cells, metric)
        assert (found.gain, found.error, found.rows) == (0, 0, 400)
        assert np.isnan(found.z(0, 1)), "without any spread nothing is evidence"


def test_a_gain_is_the_difference_of_what_both_answer(scorers: dict[str, Scorer]) -> None:
    rows = logged()
    there = of_pairs(pairs(RULES, rows, scorers["one"], scorers["other"]), "log_loss")
    back = of_pairs(pairs(RULES, rows, scorers["other"], scorers["one"]), "log_loss")
    assert there.gain == pytest.approx(-back.gain)
    assert there.gain != 0
    assert there.callers == (80, 80)


def test_labels_that_a_model_does_not_have_count_for_nobody(scorers: dict[str, Scorer]) -> None:
    rows = [*logged(10), *logged(5, truth="cancelled")]
    assert of_pairs(pairs(RULES, rows, scorers["one"], scorers["other"]), "accuracy").rows == 10


def test_a_field_that_no_row_has_is_named(scorers: dict[str, Scorer]) -> None:
    rows = logged(5, features={"distance": 100.0, "hour": 3, "carrier": "UA"})
    with pytest.raises(Inconclusive, match=r"v1\.0\.0 takes the field 'origin', which no logged row has"):
        pairs(RULES, rows, scorers["one"], scorers["other"])


def test_versions_with_different_labels_are_not_compared(scorers: dict[str, Scorer]) -> None:
    with pytest.raises(Inconclusive, match="the two versions have different labels"):
        pairs(RULES, logged(5), scorers["one"], scorers["delay"])
