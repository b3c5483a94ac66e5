"""new-model writes what a model needs and nothing else; remove-model takes it away unless it is served."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import trees
from typer.testing import CliRunner

from plumbline.core.documents import read
from plumbline.features.offline import encode_frame
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.monitoring.policy import Drift, read_policy
from plumbline.promotion.policy import Policy
from plumbline.scaffold.cli import app
from plumbline.scaffold.files import places
from plumbline.training import models
from plumbline.training.data import read_tables
from plumbline.training.model import load
from plumbline.training.prepare import assemble
from plumbline.tree.copies import copy_environment
from plumbline.tree.render.build import environments
from plumbline.tree.validate.policies import policies
from plumbline.tree.values import read_values


def run(root: Path, *arguments: str, typed: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments, "--root", str(root)], input=typed)
    return done.exit_code, done.output


def content(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".git/" not in str(path)
    }


@pytest.fixture
def tree(tree: Path) -> Path:
    """Without the models that the tests here make: whoever followed the guide has a churn too."""
    trees.without_models(tree, "churn", "trains", "null", "on")
    return tree


@pytest.fixture
def committed(tree: Path) -> Path:
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    return tree


@pytest.mark.parametrize(
    ("task", "name"),
    # YAML takes the last ones for something else.
    [("binary", "churn"), ("multiclass", "churn"), ("regression", "churn"), ("binary", "null"), ("binary", "on")],
)
def test_it_is_written_as_the_tree_has_it_and_goes_without_a_trace(committed: Path, task: str, name: str) -> None:
    before = content(committed)
    code, said = run(committed, "new-model", name, "--task", task)
    assert code == 0, said
    added = content(committed).keys() - before.keys()
    assert added
    assert all(path.startswith(tuple(places(name, environments(committed)))) for path in added)
    assert {path: text for path, text in content(committed).items() if path in before} == before

    gate = read(committed / f"policies/promotion/{name}.yaml", Policy)
    assert set(gate.spec.environments) == set(environments(committed))
    assert [problem for problem in policies(committed) if f"{name}.yaml" in problem.where] == []
    read_policy(committed / f"policies/experiments/{name}.yaml", Experiment, name)
    read_policy(committed / f"policies/drift/{name}.yaml", Drift, name)
    ruff = [sys.executable, "-m", "ruff"]
    for check in (["format", "--check"], ["check"]):
        subprocess.run([*ruff, *check, committed / "app-src/models" / name], check=True, cwd=Path(__file__).parents[3])

    code, said = run(committed, "remove-model", name, typed="n\n")
    assert code == 1, "files that git does not have are asked about"
    assert f"app-src/models/{name}/card.yaml" in said
    assert content(committed).keys() == before.keys() | added
    assert run(committed, "remove-model", name, "--yes")[0] == 0
    assert content(committed) == before


def test_what_its_gate_asks_follows_from_the_class_of_each_environment(tree: Path) -> None:
    copy_environment(tree, "production", "copied-production", region="", buckets="", after="")
    assert run(tree, "new-model", "churn", "--task", "binary")[0] == 0
    asked = read(tree / "policies/promotion/churn.yaml", Policy).spec.environments
    for name, rules in asked.items():
        class_ = read_values(tree, name).class_
        guarded = class_ == "guarded"
        assert (rules.approval, rules.merge, rules.lifecycle) == (
            (True, "review", "Production") if guarded else (False, "automatic", "Staging")
        )
        assert ("images" in rules.rules) == (class_ == "small")
    assert asked["copied-production"] == asked["production"]


def test_columns_that_are_called_otherwise_and_quotes_in_them(tree: Path) -> None:
    file = tree / "x.csv"
    rows = [f'{row % 7},"a ""b"" {row % 2}",{"late" if row % 3 else "on time"}' for row in range(120)]
    file.write_text("\n".join(['Size (m²),say \'what\',"is it ""late""?"', *rows, ""]), encoding="utf-8")
    code, said = run(tree, "new-model", "trains", "--task", "binary", "--data", str(file))
    assert code == 0, said
    source = (tree / "app-src/models/trains/__init__.py").read_text(encoding="utf-8")
    assert '"Size_m": "Size (m²)"' in source
    compile(source, "trains", "exec")
    assert (tree / "app-src/models/trains/rows.csv").read_bytes() == file.read_bytes()


def test_what_it_wrote_reads_moments_as_pandas_writes_them_and_fields_whose_range_was_taken_out(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder = tree / "x.csv", tree / "app-src/models"
    rows = [f"{row % 7},2024-05-{1 + row % 28:02} 08:30:00+02:00,{'a' if row % 3 else 'b'}" for row in range(120)]
    file.write_text("\n".join(["size,asked,label", *rows, ""]))
    assert run(tree, "new-model", "trains", "--task", "binary", "--data", str(file))[0] == 0
    source = (folder / "trains/__init__.py").read_text()
    assert "minimum=" in source
    (folder / "trains/__init__.py").write_text(re.sub(r"^ +(minimum|maximum)=.*\n", "", source, flags=re.MULTILINE))
    monkeypatch.setenv("TRAINING_MODELS", str(folder))
    monkeypatch.setattr(models, "__path__", list(models.__path__))
    model = load("trains")
    assert assemble(model, read_tables(model, folder / "trains"))["asked"][0] == "2024-05-01T08:30:00+02:00"


@pytest.mark.parametrize("place", ["app-src/models/churn/mine.py", "policies/drift/churn.yaml"])
def test_what_exists_is_never_overwritten(tree: Path, place: str) -> None:
    (tree / place).parent.mkdir(parents=True, exist_ok=True)
    (tree / place).write_text("mine")
    before = content(tree)
    code, said = run(tree, "new-model", "churn", "--task", "binary")
    assert code == 2
    assert "is there already" in said
    assert content(tree) == before


@pytest.mark.parametrize("uncommitted", [True, False])
def test_a_model_that_git_names_a_release_of_stays(committed: Path, uncommitted: bool) -> None:
    run(committed, "new-model", "churn", "--task", "binary")
    release = committed / "clusters/staging/models/churn/release.yaml"
    release.write_text("x: 1\n")
    if not uncommitted:  # git has it still, although the work tree has not
        for command in (["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
            subprocess.run(["git", *command], cwd=committed, check=True)
        release.unlink()
    before = content(committed)
    code, said = run(committed, "remove-model", "churn", "--yes")
    assert code == 10
    assert "clusters/staging/models/churn/release.yaml names a release" in said
    assert content(committed) == before


def test_nothing_is_removed_where_git_can_not_say_what_would_be_lost(tree: Path) -> None:
    run(tree, "new-model", "churn", "--task", "binary")
    before = content(tree)
    code, said = run(tree, "remove-model", "churn", "--yes")
    assert code == 2
    assert "git can't say what would be lost: " in said
    assert content(tree) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["new-model", "my-model", "--task", "binary"], "has a hyphen"),
        (["new-model", "Churn", "--task", "binary"], "'Churn' is not one; expected like churn"),
        (["new-model", "../x", "--task", "binary"], "is not one; expected like churn"),
        (["new-model", "x", "--task", "ranking"], "'binary', 'multiclass', 'regression'"),
        (["new-model", "x", "--task", "binary", "--data", "/no/such.csv"], "--data: /no/such.csv: cannot be read"),
        (["remove-model", "nothing"], "there is no model 'nothing'"),
    ],
)
def test_used_wrongly(tree: Path, arguments: list[str], words: str) -> None:
    before = content(tree)
    code, said = run(tree, *arguments)
    assert (code, words in said) == (2, True), said
    assert content(tree) == before


def test_a_folder_that_is_no_tree_is_named(tmp_path: Path) -> None:
    code, said = run(tmp_path, "new-model", "churn", "--task", "binary")
    assert code == 2
    assert "no clusters/<env>/environment.yaml here" in said


def test_booleans_moments_and_texts_are_fields_of_the_model_that_is_written(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        f"{'' if row == 7 else str(row % 3 > 0).lower()},2024-05-{1 + row % 28:02}T08:30:00+02:00,"
        f"Call number {row},{row % 2}"
        for row in range(120)
    ]
    file = tree / "rows.csv"
    file.write_text("\n".join(["paid,asked,note,gone", *lines, ""]))
    assert run(tree, "new-model", "calls", "--task", "binary", "--data", str(file))[0] == 0
    monkeypatch.setenv("TRAINING_MODELS", str(tree / "app-src/models"))
    monkeypatch.setattr(models, "__path__", list(models.__path__))
    monkeypatch.delitem(sys.modules, "plumbline.training.models.calls", raising=False)
    model = load("calls")
    rows = assemble(model, read_tables(model, file.parent))
    types = {"paid": "boolean", "asked": "timestamp", "note": "text"}
    assert {field.name: field.type for field in model.schema.fields} == types
    assert rows["paid"].isna().sum() == 1
    encoded = encode_frame(model.schema, rows)
    assert encoded[0, :4].tolist() == [0, 6, 2, 5], "not paid; 06:30 UTC on a Wednesday in May"
    ruff: list[str | Path] = [sys.executable, "-m", "ruff", "format", "--check", tree / "app-src/models/calls"]
    subprocess.run(ruff, check=True, cwd=Path(__file__).parents[3])


def test_what_counts_as_missing_in_the_file_does_in_training_too(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{'NA' if row == 7 else row % 9},{'' if row == 8 else row % 5},{row % 2}" for row in range(120)]
    file = tree / "rows.csv"
    file.write_text("\n".join(["size,visits,gone", *lines, ""]))
    assert run(tree, "new-model", "gaps", "--task", "binary", "--data", str(file))[0] == 0
    monkeypatch.setenv("TRAINING_MODELS", str(tree / "app-src/models"))
    monkeypatch.setattr(models, "__path__", list(models.__path__))
    monkeypatch.delitem(sys.modules, "plumbline.training.models.gaps", raising=False)
    table = read_tables(load("gaps"), file.parent)["rows"]
    assert [table[name].isna().sum() for name in ("size", "visits")] == [1, 1]
