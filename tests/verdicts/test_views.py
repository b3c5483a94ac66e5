"""What the flights' answers are worth while the online store has no weather, on November and December."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plumbline.core.schema import ModelSchema
from plumbline.features.offline import encode_frame
from plumbline.training import learn, prepare
from plumbline.training.data import read_tables
from plumbline.training.model import Examples, Floats, Model, load

pytestmark = pytest.mark.timeout(1200)


@dataclasses.dataclass(frozen=True)
class Season:
    """A model's folder and its rows to train, choose and judge on."""

    model: Model
    schema: ModelSchema
    parts: dict[str, pd.DataFrame]
    trees: int

    def examples(self, rows: pd.DataFrame) -> Examples:
        return Examples(encode_frame(self.schema, rows), prepare.target_of(self.schema, rows))

    def log_losses(self, dropout: float) -> tuple[float, float]:
        """With the weather and without, of a model that learnt with so much of it dropped."""
        known = prepare.without_views(self.parts["train"], self.schema, dropout, 0)
        estimator: Any = self.model.candidate(self.schema, self.model.defaults)
        # Threads that wait for each other take minutes on a busy machine.
        estimator.set_params(n_estimators=self.trees, n_jobs=1)
        learn.fit(estimator, self.examples(known), self.examples(self.parts["validation"]), self.schema.output)
        judged, weather = self.parts["test"], self.schema.views[0].fields
        return (
            log_loss(estimator, self.schema, self.examples(judged)),
            log_loss(estimator, self.schema, self.examples(judged.assign(**dict.fromkeys(weather)))),
        )


def log_loss(estimator: object, schema: ModelSchema, rows: Examples) -> float:
    late: Floats = learn.outputs_of(estimator, rows.inputs, schema.output)[:, 1].astype(np.float64)
    return float(-np.log(np.where(rows.target == 1, late, 1 - late)).mean())


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float, int], Season]:
    model, folder = load("flights"), tmp_path_factory.mktemp("flights")
    model.fetch(folder)
    rows = prepare.assemble(model, read_tables(model, folder))

    def of(share: float, trees: int) -> Season:
        whole = prepare.split(model, rows)
        parts = {name: prepare.sampled(part, share, 0, 2000) for name, part in whole.items()}
        target = prepare.target_of(model.schema, parts["train"])
        return Season(model, prepare.fill_vocabularies(model.schema, parts["train"], target, 20), parts, trees)

    return of


def test_a_model_that_learnt_to_do_without_a_view_is_better_in_both(
    season: Callable[[float, int], Season], trials: Callable[[int, int], int], measured: Callable[[str, str], None]
) -> None:
    data = season(trials(3, 100) / 100, trials(100, 600))
    late = float((data.parts["test"]["truth"] == "late").mean())
    constant = -(late * np.log(late) + (1 - late) * np.log(1 - late))
    before, after = data.log_losses(0.0), data.log_losses(data.model.view_dropout)
    for name, (with_it, without) in (("before", before), ("after", after)):
        measured(f"log loss with the weather and without, {name}", f"{with_it:.3f}, {without:.3f}")
    measured("log loss of a constant", f"{constant:.3f}")
    assert before[1] > constant + 0.05, "worse than no model"
    assert after[1] < constant + 0.03
    assert after[0] < before[0] + 0.003, "and nothing is lost where the weather is there"
