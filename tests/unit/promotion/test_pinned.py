"""What a run says of the rows that it was judged on is held against what git's folder and data give."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from irises import iris as iris

from plumbline.core.columns import BASELINE, native
from plumbline.core.errors import Refused
from plumbline.core.schema import ModelSchema
from plumbline.features.offline import encode_frame
from plumbline.promotion.gate.bundle import open_bundle
from plumbline.promotion.gate.evaluation import Evaluation
from plumbline.promotion.gate.holdout import Holdout
from plumbline.promotion.gate.pinned import require_pinned
from plumbline.training import convert, threshold
from plumbline.training.data import obtain, read_tables
from plumbline.training.model import load
from plumbline.training.prepare import assemble, split, target_of
from plumbline.training.report import Clustered, Interval, Period, Report


@dataclasses.dataclass(frozen=True)
class Sound:
    """An honest run, and the digest of its data."""

    evaluation: Evaluation
    data: str

    def judged(self, data: str = "", **changes: Any) -> str:
        """What is found with these changes of the evaluation."""
        evaluation = dataclasses.replace(self.evaluation, **changes)
        return require_pinned(evaluation, data or self.data, {"sample": "1.0", "seed": "0"})

    def held(self, change: Callable[[Any], Any]) -> Holdout:
        frame = change(self.evaluation.holdout.table.to_pandas())
        return Holdout(pa.Table.from_pandas(frame, preserve_index=False))

    def said(self, **changes: Any) -> Report:
        return self.evaluation.report.model_copy(update=changes)


@pytest.fixture
def sound(iris: Path, tmp_path: Path) -> Sound:
    model = load("iris")
    version = obtain("iris", model, tmp_path / "data")
    parts = split(model, assemble(model, read_tables(model, tmp_path / "data")))
    schema = model.schema
    estimator = model.candidate(schema, {})
    estimator.fit(encode_frame(schema, parts["train"]), target_of(schema, parts["train"]).astype(int))
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(convert.to_onnx(model, estimator, schema).SerializeToString())
    (folder / "schema.json").write_text(schema.to_json())
    bundle = open_bundle(folder, "iris")
    answers = bundle.predict(encode_frame(schema, parts["test"]))
    names = [*native(schema.output), *native(schema.output, BASELINE)]
    held = parts["test"].assign(**dict(zip(names, np.column_stack([answers, answers]).T, strict=True)))
    figure = {"log_loss": Interval(value=0.1, low=0.0, high=0.2)}
    period = Period(first=None, last=None, rows=len(held))
    report = Report(model="iris", metrics=figure, baseline=figure, slices=(), threshold=None, train=period,
                    test=period, clusters=Clustered(by="", count=len(held)))  # fmt: skip
    table = pa.Table.from_pandas(held, preserve_index=False)
    return Sound(Evaluation(bundle, "", report, Holdout(table), {}, ""), version.digest)


def test_an_honest_run_is_found_to_be_one(sound: Sound) -> None:
    assert sound.judged() == sound.data


def test_a_model_that_no_folder_defines_is_judged_on_its_word(sound: Sound) -> None:
    assert sound.judged(report=sound.said(model="stranger")) == ""


def leaked(schema: ModelSchema) -> ModelSchema:
    more = schema.fields[0].model_copy(update={"name": "later"})
    return schema.model_copy(update={"fields": (*schema.fields, more)})


def swapped(frame: Any) -> Any:
    return frame.assign(truth=frame["truth"].iloc[::-1].to_numpy())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swapped, "column 'truth', row 0 is"),
        (lambda frame: frame.assign(petal_width=0.2), r"column 'petal_width', row \d+ is 0\.2, .* give"),
        (lambda frame: frame.iloc[1:], r"29 rows; git's data give 30, and 30 at least"),
        (lambda frame: frame.drop(columns="sepal_width"), r"the columns \['sepal_width'\]"),
        (lambda frame: frame.assign(slice_mine="a"), r"the columns \['slice_mine'\]"),
        (lambda frame: frame.sort_values("petal_width"), "column '.*', row"),
    ],
)
def test_other_rows_are_refused(sound: Sound, change: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        sound.judged(holdout=sound.held(change))


def test_what_the_folder_declares_is_not_the_runs_to_say(sound: Sound) -> None:
    bundle = sound.evaluation.bundle
    with pytest.raises(
        Refused, match=r"schema\.json: not what the model's folder declares, which differs in \['later'"
    ):
        sound.judged(bundle=dataclasses.replace(bundle, schema=leaked(bundle.schema)))
    with pytest.raises(Refused, match=r"costs are \{'setosa'"):
        sound.judged(report=sound.said(costs={"setosa": {"virginica": 0.0}}))
    with pytest.raises(Refused, match="depend on each other by 'a garden', the model's folder says ''"):
        sound.judged(report=sound.said(clusters=Clustered(by="a garden", count=30)))
    with pytest.raises(Refused, match="its test window is"):
        sound.judged(report=sound.said(test=Period(first=None, last=None, rows=29)))
    with pytest.raises(Refused, match="the run names sha256:0, git pins"):
        sound.judged(data="sha256:0")


def test_a_threshold_is_as_good_as_the_best_by_its_rule() -> None:
    from plumbline.core.schema import Output

    output = Output(task="binary", name="late", description="d", labels=("no", "yes"))
    generator = np.random.default_rng(0)
    score = generator.random(2_000)
    truth = (generator.random(2_000) < score**3).astype(float)
    costs = {"yes": {"no": 5.0}, "no": {"yes": 1.0}}
    for rule in ("f1", "accuracy", "balanced_accuracy", "cost", "recall_at_precision_0.7", "precision_at_recall_0.7"):
        best = threshold.choose(rule, output, costs, truth, score).value
        assert threshold.short_of(rule, output, costs, truth, score, best) == 0
        worst = 0.0 if rule in ("accuracy", "balanced_accuracy", "f1", "cost") else 0.05
        worst = 1.1 if rule == "precision_at_recall_0.7" else worst
        assert threshold.short_of(rule, output, costs, truth, score, worst) > 0.05, rule
