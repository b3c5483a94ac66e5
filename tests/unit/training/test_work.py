"""A model that is only a folder: how it is found, and what its steps hand on; the steps themselves need MLflow."""

import dataclasses
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from plumbline.core.documents import DocumentError
from plumbline.training.cli import app
from plumbline.training.model import ModelError, folder_of, load
from plumbline.training.search import suggested
from plumbline.training.steps import fetch
from plumbline.training.work import Settings, Work, WorkError, written


def call(*arguments, fails=False):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (result.exit_code != 0) == fails, result.output + repr(result.exception)
    return result.output


def test_an_experiment_stands_below_its_model(iris, tmp_path):
    said = call("run", "--model", "iris", "--experiment", "other/training", "--work", tmp_path, fails=True)
    assert "expected e.g. iris/training" in said


def test_an_unknown_model_is_answered_with_those_that_exist(iris):
    said = call("run", "--model", "tulips", fails=True)
    assert f"no model 'tulips' in {iris.parent}; expected one of iris" in said


def test_a_folder_that_defines_no_model_is_named(iris, monkeypatch):
    (iris.parent / "empty").mkdir()
    (iris.parent / "empty" / "__init__.py").write_text("")
    folder_of("iris")
    with pytest.raises(ModelError, match=r"empty.*expected MODEL"):
        load("empty")
    (iris.parent / "renamed").mkdir()
    (iris.parent / "renamed" / "__init__.py").write_text((iris / "__init__.py").read_text())
    with pytest.raises(ModelError, match="schema is of 'iris', expected the folder's name 'renamed'"):
        load("renamed")
    for name in ("empty", "renamed"):
        monkeypatch.delitem(sys.modules, f"plumbline.training.models.{name}")


def test_trials_are_the_same_however_many_follow(iris):
    model = load("iris")
    assert suggested(model, 5, seed=1)[:3] == suggested(model, 3, seed=1)
    assert suggested(model, 3, seed=1) != suggested(model, 3, seed=2)
    assert suggested(model, 3, seed=1)[0] == model.defaults


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"defaults": [1]}, r"defaults: found \[1\], expected a dict of parameters"),
        ({"defaults": {"C": float("nan")}}, r"defaults: C is nan \(float\), expected what JSON holds"),
        ({"space": lambda _: {"C": np.int64(3)}}, r"space\(\): C is .*3.* \(int64\), expected what JSON holds"),
        ({"space": lambda _: None}, r"space\(\): found None, expected a dict of parameters"),
    ],
)
def test_parameters_that_no_file_could_hold_are_refused_before_a_trial(iris, change, said):
    with pytest.raises(ModelError, match=f"^{said}"):
        suggested(dataclasses.replace(load("iris"), **change), 2, seed=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: "),
        ("- a\n- list\n", "expected sections with their text"),
        ("title: [", "not readable as YAML"),
        ("title: a\ntitle: b\n", "'title' stands twice"),
    ],
)
def test_a_card_that_promotion_could_not_read_is_refused_before_anything_is_trained(iris, tmp_path, text, said):
    card = iris / "card.yaml"
    card.unlink() if text is None else card.write_text(text)
    with pytest.raises(DocumentError, match=said) as refusal:
        fetch(Work(tmp_path / "work"), Settings(model="iris", experiment="iris/test"))
    assert str(refusal.value).startswith(f"{card}: ")


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--seed", 2**32), "--seed: Input should be less than 4294967296"), (("--work", __file__), "is a file")],
)
def test_options_that_would_break_a_training_half_way(iris, options, said):
    assert said in " ".join(call("run", "--model", "iris", *options, fails=True).split())


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "folder" / "file"

    def break_off():
        with written(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert list(target.parent.iterdir()) == []


def test_a_broken_hand_over_is_named(tmp_path):
    work = Work(tmp_path)
    (tmp_path / "settings.json").write_text('{"model": "iris", "experiment": "iris/x", "more": 1}')
    with pytest.raises(WorkError, match=r"settings\.json: (.|\n)*more"):
        _ = work.settings
    with pytest.raises(ValueError, match="sample"):
        Settings(model="iris", experiment="iris/x", sample=0)


def test_fetch_replaces_what_was_there(iris, tmp_path):
    out = tmp_path / "out"
    call("fetch", "--model", "iris", "--out", out)
    (out / "more.csv").write_text("")
    call("fetch", "--model", "iris", "--out", out)
    assert [path.name for path in out.iterdir()] == ["irises.csv"]
