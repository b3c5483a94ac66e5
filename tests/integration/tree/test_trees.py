"""Trees as people and promotion leave them are accepted; `make trees` asks about more of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import asis
import pytest
import trees

from plumbline.tree.render.build import environments
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate import checks
from plumbline.tree.validate.api_server import api_server
from plumbline.tree.validate.cluster import Cluster
from plumbline.tree.validate.crds import crds_of
from plumbline.tree.validate.examples import read_examples
from plumbline.tree.validate.policies import policies
from plumbline.tree.validate.validate import ask_environment

EXAMPLES = read_examples(trees.ROOT)
SEEDS = range(int(os.environ.get("TREES", "2")))


@pytest.fixture(scope="module")
def knowing() -> Iterator[Cluster]:
    """An API server of their own with the kinds of the third parties, which are loaded once for all trees."""
    used = asis.everywhere()
    crds = {crd.name: crd for tree in used for crd in crds_of(tree.sources())}
    asked = [*(item for tree in used for _, _, item in tree.objects()), *(one.object for one in EXAMPLES)]
    kinds = {(item["apiVersion"].split("/")[0], item["kind"]) for item in asked}
    with api_server() as client:
        cluster = Cluster(client)
        cluster.load([crd for crd in crds.values() if crd.kind in kinds])
        yield cluster


@pytest.mark.parametrize("seed", SEEDS)
def test_a_legal_tree_is_accepted(seed: int, tmp_path: Path, knowing: Cluster) -> None:
    trees.copy(tmp_path)
    changes = trees.change(tmp_path, seed)
    assert [*checks.lint(tmp_path), *checks.models(tmp_path), *policies(tmp_path)] == [], changes
    for name in environments(tmp_path):
        tree = Environment.load(tmp_path, name)
        assert [*checks.links(tree), *checks.budgets(tree)] == [], changes
        assert ask_environment(knowing, tree, []) == [], changes


@pytest.mark.parametrize(
    ("file", "old", "new", "rule"),
    [
        ("settings.env", "SERVING_PORT=8080", "SERVING_PUBLIC_KEY=/etc/release/release.yaml", "model-settings"),
        ("settings.env", "SERVING_PORT=8080", "PYTHONPATH=/etc/release", "model-settings"),
        ("pod.yaml", "{secretName: public-key,", "{secretName: another-key,", "model-server"),
        (
            "container.yaml",
            "          ports:",
            "          command: [sleep, infinity]\n          ports:",
            "model-server",
        ),
        ("virtual-service.yaml", "host: canary", "host: example.com", "hosts"),
    ],
)
def test_a_commit_that_makes_servers_believe_somebody_else_is_refused(
    file: str, old: str, new: str, rule: str, tmp_path: Path, knowing: Cluster
) -> None:
    trees.copy(tmp_path)
    trees.with_model(tmp_path, "flights")
    path = tmp_path / "kustomize/model-server" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    tree = Environment.load(tmp_path, "production")
    # The examples are asked until each is answered as it should be: by then the rules are in force.
    problems = [str(problem) for problem in ask_environment(knowing, tree, EXAMPLES)]
    found = [problem for problem in problems if problem.startswith("clusters/production/models/flights: ")]
    assert found, problems
    assert all(f"'{rule}.plumbline.dev'" in problem for problem in found), found
