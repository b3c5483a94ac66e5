"""Mistakes that are seen in what the tree renders to, or by a program that is asked: each names its place."""

from dataclasses import replace
from pathlib import Path

from plumbline.tree.render.environment import Environment
from plumbline.tree.validate import checks
from plumbline.tree.validate.problem import Problem

FLIGHTS = "clusters/staging/models/flights"


def said(problems: list[Problem]) -> list[str]:
    return [str(problem) for problem in problems]


def test_a_workflow_that_github_would_refuse_is_a_problem(tmp_path: Path) -> None:
    workflow = tmp_path / ".github/workflows/wrong.yaml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text("on: push\njobs:\n  one:\n    runs-on: ubuntu-24.04\n    step: []\n")
    problems = said(checks.workflows(tmp_path))
    assert any(problem.startswith(".github/workflows/wrong.yaml:5: unexpected key") for problem in problems)


def test_in_production_every_server_has_a_budget(tree: Path) -> None:
    production = Environment.load(tree, "production")
    [lone] = [item for item in production.of_kind("Rollout") if item["metadata"]["name"] == "flights-server"]
    name = lone["spec"]["template"]["metadata"]["labels"]["plumbline.dev/model"]
    kept = {
        folder: [item for item in objects if not (item["kind"] == "PodDisruptionBudget" and name in str(item))]
        for folder, objects in production.folders.items()
    }
    found = said(checks.budgets(replace(production, folders=kept)))
    assert (
        "clusters/production/models/flights: Rollout/flights-server: no PodDisruptionBudget selects its pods" in found
    )
    assert [problem for problem in found if "clusters/production/models/flights: " not in problem] == []


def test_a_folder_that_nothing_syncs_and_a_path_that_is_none_are_problems(tree: Path) -> None:
    staging = Environment.load(tree, "staging")
    models = f"Application/model-{Path(FLIGHTS).name}"
    moved = [replace(sync, path="clusters/staging/gone") if sync.path == FLIGHTS else sync for sync in staging.syncs]
    problems = said(checks.links(replace(staging, syncs=moved)))
    assert f"{FLIGHTS}: is synced by no Application; expected by one" in problems
    assert f"apps: {models}: syncs clusters/staging/gone, which is no folder of clusters/staging" in problems
    twice = [sync for sync in staging.syncs if sync.path == FLIGHTS] * 2
    assert f"{FLIGHTS}: is synced by {models[12:]} and {models[12:]}; expected by one" in said(
        checks.links(replace(staging, folders={FLIGHTS: []}, syncs=twice))
    )
