"""Each mistake that a person makes in the tree is a problem that names the file."""

import re
from pathlib import Path

import pytest
from trees import ladder

from plumbline.tree.render.environment import Environment
from plumbline.tree.render.example import example_release
from plumbline.tree.validate import checks
from plumbline.tree.validate.crds import Crd
from plumbline.tree.validate.problem import Problem

ROOT = Path(__file__).parents[3]
FLIGHTS = "clusters/staging/models/flights"


def said(problems: list[Problem]) -> list[str]:
    return [str(problem) for problem in problems]


def test_the_models_of_the_tree_are_in_order() -> None:
    assert checks.models(ROOT) == []


def test_a_wrong_weight_order_is_refused(tree: Path) -> None:
    with_models(tree)
    file = tree / FLIGHTS / "canary.yaml"
    ladder(file, 10, 5, 100)
    [problem] = said(checks.models(tree))
    assert problem.startswith(f"{FLIGHTS}/canary.yaml:")
    assert "must rise strictly between 1 and 100, not [10, 5]" in problem


def test_an_unknown_model_is_refused(tree: Path) -> None:
    with_models(tree)
    (tree / FLIGHTS).rename(tree / "clusters/staging/models/trains")
    problems = said(checks.models(tree))
    where = "clusters/staging/models/trains"
    assert f"{where}: unknown model 'trains': expected policies/promotion/trains.yaml" in problems
    assert f"{where}: unknown model 'trains': expected app-src/models/trains" in problems
    assert any("expected 'trains', the folder's name, not 'flights'" in problem for problem in problems)


def test_a_malformed_release_is_refused(tree: Path) -> None:
    with_models(tree)
    (tree / FLIGHTS / "release.yaml").write_text(example_release("flights").replace("threshold:", "treshold:"))
    [problem] = said(checks.models(tree))
    assert problem.startswith(f"{FLIGHTS}/release.yaml:")
    assert "spec.treshold: Extra inputs are not permitted" in problem


def test_a_digest_that_is_none_is_refused(tree: Path) -> None:
    with_models(tree)
    text = example_release("flights").replace("    digest: sha256:", "    digest: sha256:x")
    (tree / FLIGHTS / "release.yaml").write_text(text)
    [problem] = said(checks.models(tree))
    line = next(number for number, content in enumerate(text.splitlines(), 1) if "    digest:" in content)
    assert problem.startswith(f"{FLIGHTS}/release.yaml:{line}: spec.artifact.digest: String should match pattern")


def test_the_release_of_another_model_is_refused(tree: Path) -> None:
    with_models(tree)
    (tree / FLIGHTS / "release.yaml").write_text(example_release("diabetes"))
    assert "expected 'flights', the folder's name, not 'diabetes'" in said(checks.models(tree))[0]


def test_a_model_without_a_ladder_is_refused(tree: Path) -> None:
    with_models(tree)
    (tree / FLIGHTS / "canary.yaml").unlink()
    assert "cannot be read" in said(checks.models(tree))[0]


def test_lint_names_file_line_and_rule(tmp_path: Path) -> None:
    (tmp_path / ".yamllint").write_text((ROOT / ".yamllint").read_text())
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps/root.yaml").write_text("kind: Application\nkind: Application\n")
    problems = said(checks.lint(tmp_path))
    assert 'apps/root.yaml:2: duplication of key "kind" in mapping (key-duplicates)' in problems


def test_a_kind_that_the_environment_does_not_install_is_a_problem() -> None:
    item = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "server"}}
    crd = Crd("scaledobjects.keda.sh", ("keda.sh", "ScaledObject"), "")
    local = Environment("local", {"clusters/local/models/flights": [item]}, [])
    assert checks.installed(local, {"local": [crd], "staging": []}) == []
    [problem] = said(checks.installed(local, {"local": [], "staging": [crd]}))
    assert problem.endswith("ScaledObject/server: no Application of local installs the kind ScaledObject")
    given = Environment("local", local.folders, [], frozenset({"keda.sh"}))
    assert checks.installed(given, {"local": [], "staging": [crd]}) == []


@pytest.mark.parametrize(("limit", "fits"), [("512Mi", True), ("460M", True), ("459M", False), ("256Mi", False)])
def test_pods_have_the_memory_that_the_gate_lets_a_model_take(tree: Path, limit: str, fits: bool) -> None:
    server = {"name": "server", "resources": {"limits": {"memory": limit}}}
    item = {
        "kind": "Rollout",
        "metadata": {"name": "server", "labels": {"plumbline.dev/model": "toy"}},
        "spec": {"template": {"spec": {"containers": [server]}}},
    }
    policy = next((tree / "policies/promotion").iterdir()).read_text(encoding="utf-8")
    (tree / "policies/promotion/toy.yaml").write_text(re.sub(r" +memory_mb: .*\n", "", policy), encoding="utf-8")
    problems = said(checks.memory(tree, Environment("local", {"clusters/local/models/toy": [item]}, [])))
    wanted = "expected 460 MB: 160 of the server, and memory_mb of policies/promotion/toy.yaml"
    folder = "clusters/local/models/toy: Rollout/server: its pods may take"
    assert problems == ([] if fits else [f"{folder} {limit} of memory, {wanted}"])


def with_models(tree: Path) -> None:
    """The training code's folders are no part of what is declared: that they exist is enough. Nothing is served yet."""
    for release in tree.glob("clusters/*/models/*/release.yaml"):
        release.unlink()
    for model in {path.name for path in tree.glob("clusters/*/models/*")}:
        (tree / "app-src/models" / model).mkdir(parents=True)
