"""A model that is only a folder: how it is found, and what its steps hand on; the steps themselves need MLflow."""

import sys

import pytest
from typer.testing import CliRunner

from plumbline.training.cli import app
from plumbline.training.model import ModelError, folder_of, load
from plumbline.training.search import suggested
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
