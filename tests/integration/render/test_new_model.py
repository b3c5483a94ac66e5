"""A tree with new models is one that Argo CD can build and that `plumbline tree validate` finds nothing wrong with."""

import shutil
from pathlib import Path

import trees
from typer.testing import CliRunner

from plumbline.scaffold.cli import app
from plumbline.tree.render.build import environments
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate import checks

ROOT = Path(__file__).parents[3]


def test_new_models_render_and_pass_the_checks(tree: Path) -> None:
    shutil.copytree(ROOT / "app-src/models", tree / "app-src/models", dirs_exist_ok=True)
    for part in (".yamllint", ".github"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile)(ROOT / part, tree / part)
    names = {"one": "binary", "two": "multiclass", "three": "regression"}
    trees.without_models(tree, *names)
    before = {name: Environment.load(tree, name) for name in environments(tree)}
    for name, task in names.items():
        assert CliRunner().invoke(app, ["new-model", name, "--task", task, "--root", str(tree)]).exit_code == 0
    assert checks.models(tree) == []
    assert checks.lint(tree) == []
    for name, old in before.items():
        new = Environment.load(tree, name)
        assert checks.links(new) == []
        assert checks.budgets(new) == []
        assert new.folders.keys() - old.folders.keys() == {f"clusters/{name}/models/{model}" for model in names}
        for model in names:
            kinds = {item["kind"] for item in new.folders[f"clusters/{name}/models/{model}"]}
            assert {"Rollout", "VirtualService", "AnalysisTemplate"} <= kinds
