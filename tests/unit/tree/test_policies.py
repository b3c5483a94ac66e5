"""A name in a policy that its model does not have is a problem with file, line and field, and the names that exist."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from irises import IRIS

from plumbline.monitoring.experiment import route
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.training import models
from plumbline.tree.validate.policies import policies

POLICIES: dict[str, dict[str, Any]] = {
    "promotion": {
        "apiVersion": "plumbline.dev/v1",
        "kind": "PromotionPolicy",
        "metadata": {"name": "iris"},
        "spec": {
            "rules": {
                "images": ["ghcr.io/plumbline/model-server"],
                "metrics": [{"metric": "macro_f1", "min": 0.6}, {"metric": "virginica_recall", "min": 0.5}],
                "beats_baseline": {"metric": "log_loss"},
                "champion": {"metric": "average_precision", "margin": 0.005},
                "slices": [{"column": "size", "metric": "accuracy", "min": 0.5, "min_rows": 30}],
                "latency_p95_ms": 5,
                "size_mb": 50,
                "parity": {"max_abs_difference": 0.0001},
                "card": ["title", "owner"],
            },
            "environments": {"staging": {"lifecycle": "Staging", "rules": {"size_mb": 70}}},
        },
    },
    "experiments": {
        "apiVersion": "plumbline.dev/v1",
        "kind": "Experiment",
        "model": "iris",
        "control": {"role": "stable"},
        "treatment": {"role": "canary"},
        "answersChangeOutcomes": True,
        "share": 0.5,
        "salt": "1",
        "alpha": 0.05,
        "weeks": [2],
        "labelDays": 1,
        "minimumCallers": 20,
        "costs": {"setosa": {"virginica": 2}},
        "promote": [{"metric": "accuracy", "above": 0, "gain": 0.02, "deviation": 0.4}],
        "plan": {"power": 0.8, "callers": 200, "rowsPerDay": 900, "callerShare": 0.1, "dayShare": 0.01},
        "rollback": [{"metric": "ms", "below": -10}],
    },
    "drift": {
        "apiVersion": "plumbline.dev/v1",
        "kind": "Drift",
        "model": "iris",
        "columns": {"petal_width": {"ignore": True}, "predicted label": {"threshold": 0.2}},
        "quality": {"metric": "setosa_recall", "worse": 0.1},
    },
}
FIELDS = "sepal_length, sepal_width, petal_length, petal_width"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(models, "__path__", list(models.__path__))
    monkeypatch.delitem(sys.modules, "plumbline.training.models.iris", raising=False)
    folder = tmp_path / "app-src/models/iris"
    folder.mkdir(parents=True)
    sliced = IRIS.replace('columns={"kind": "truth"})', 'columns={"kind": "truth"}).assign(slice_size="small")')
    (folder / "__init__.py").write_text(sliced)
    (folder / "card.yaml").write_text("title: Irises\nowner: a botanist\n")
    for kind, policy in POLICIES.items():
        write(tmp_path, kind, policy)
    path = route.path(tmp_path / "policies", "iris")
    path.parent.mkdir()
    path.write_text(route.text(Experiment.model_validate(POLICIES["experiments"])))
    return tmp_path


def write(root: Path, kind: str, policy: dict[str, Any]) -> None:
    path = root / f"policies/{kind}/iris.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(policy, sort_keys=False))


def said(root: Path) -> list[str]:
    return [str(problem) for problem in policies(root)]


def test_of_a_pull_request_nothing_is_run(root: Path) -> None:
    """Its models' folders are code; and what its policies name of a model is nobody's to say then."""
    marker = root / "executed"
    folder = root / "app-src/models/iris/__init__.py"
    folder.write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n{folder.read_text()}")
    write(root, "promotion", POLICIES["promotion"] | {"extra": 1})
    (problem,) = policies(root, import_models=False)
    assert "extra" in problem.reason
    assert not marker.exists()
    assert said(root)
    assert marker.exists(), "a tree of one's own is asked"


def test_policies_that_name_what_the_model_has_are_no_problem(root: Path) -> None:
    assert said(root) == []


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        (
            "promotion",
            lambda rules: rules["metrics"][1].update(metric="roc_auc"),
            "spec.rules.metrics.1.metric: unknown metric 'roc_auc' of a multiclass model; expected one of accuracy, "
            "balanced_accuracy, macro_f1, average_precision, log_loss, brier, setosa_recall, ",
        ),
        (
            "promotion",
            lambda rules: rules["beats_baseline"].update(metric="versicolour_recall"),
            "spec.rules.beats_baseline.metric: unknown metric 'versicolour_recall'",
        ),
        (
            "promotion",
            lambda rules: rules["champion"].update(metric="cost"),
            "spec.rules.champion.metric: the metric 'cost' needs costs in the model's MODEL; expected one of ",
        ),
        (
            "promotion",
            lambda rules: rules["metrics"][0].update(metric="setosa_recall_at_precision_0.9"),
            "'setosa_recall_at_precision_0.9' is in no report of the model until its MODEL.metrics has it; expected",
        ),
        (
            "promotion",
            lambda rules: rules["slices"][0].update(column="month"),
            "spec.rules.slices.0.column: unknown slice 'month'; expected one of size",
        ),
        (
            "promotion",
            lambda rules: rules["slices"][0].update(metric="f1"),
            "spec.rules.slices.0.metric: unknown metric 'f1'",
        ),
        (
            "promotion",
            lambda rules: rules["card"].append("licence"),
            "spec.rules.card.2: unknown section of the card 'licence'; expected one of title, owner",
        ),
        ("promotion", lambda rules: rules.update(surprise=1), "spec.rules.surprise: Extra inputs are not permitted"),
        (
            "experiments",
            lambda policy: policy["promote"][0].update(metric="absolute_error"),
            "promote.0.metric: unknown metric of labels 'absolute_error'; expected one of accuracy, brier, log_loss, "
            "cost, value, ms",
        ),
        (
            "experiments",
            lambda policy: policy["rollback"][0].update(metric="luck"),
            "rollback.0.metric: Input should be 'accuracy', 'brier', 'log_loss', 'cost', 'absolute_error', ",
        ),
        (
            "experiments",
            lambda policy: policy["costs"].update(rose={"setosa": 1}),
            "costs: unknown label 'rose'; expected setosa, versicolor, virginica",
        ),
        (
            "experiments",
            lambda policy: policy.update(model="irises"),
            "model: expected 'iris', the file's name, not 'irises'",
        ),
        (
            "drift",
            lambda policy: policy["columns"].update(month={"ignore": True}),
            f"columns.month: unknown column 'month'; expected one of {FIELDS}, prediction, predicted label",
        ),
        (
            "drift",
            lambda policy: policy["columns"]["predicted label"].update(method="wasserstein"),
            "columns.predicted label.method: wasserstein is a distance of numbers; expected psi or jensenshannon",
        ),
        (
            "drift",
            lambda policy: policy["quality"].update(metric="rmse"),
            "quality.metric: unknown metric 'rmse' of a multiclass model; expected one of accuracy, ",
        ),
        ("drift", lambda policy: policy["quality"].update(metric="cost"), "quality.costs: missing; the metric cost"),
        (
            "drift",
            lambda policy: policy["quality"].update(metric="cost", costs={"setosa": {"rose": 1}}),
            "quality.costs: unknown label 'rose'; expected setosa, versicolor, virginica",
        ),
        (
            "drift",
            lambda policy: policy["quality"].update(metric="cost", costs={"setosa": {"virginica": 1}}),
            "quality.costs: the model's MODEL has no costs; say them there too",
        ),
        ("drift", lambda policy: policy.update(surprise=1), "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_name_that_the_model_does_not_have(
    root: Path, kind: str, change: Callable[[Any], None], expected: str
) -> None:
    policy = yaml.safe_load((root / f"policies/{kind}/iris.yaml").read_text())
    change(policy["spec"]["rules"] if kind == "promotion" else policy)
    write(root, kind, policy)
    (problem,) = said(root)
    assert problem.startswith(f"policies/{kind}/iris.yaml:")
    assert expected in problem


@pytest.mark.parametrize("change", [{"share": 0.4}, {"salt": "2"}])
def test_a_route_that_is_not_the_policys_is_a_problem(root: Path, change: dict[str, Any]) -> None:
    write(root, "experiments", POLICIES["experiments"] | change)
    (problem,) = said(root)
    assert problem.startswith("policies/experiments/iris/kustomization.yaml: not what its policy says; run `plumbline ")


def test_a_rule_of_one_environment_is_named_where_it_stands(root: Path) -> None:
    policy = yaml.safe_load((root / "policies/promotion/iris.yaml").read_text())
    policy["spec"]["environments"]["staging"]["rules"]["metrics"] = [{"metric": "luck", "min": 0.5}]
    write(root, "promotion", policy)
    (problem,) = said(root)
    lines = (root / "policies/promotion/iris.yaml").read_text().splitlines()
    assert problem.startswith(f"policies/promotion/iris.yaml:{1 + lines.index('        - metric: luck')}: ")
    assert "spec.environments.staging.rules.metrics.0.metric: unknown metric 'luck'" in problem


def test_what_the_model_declares_may_be_named(root: Path) -> None:
    path = root / "app-src/models/iris/__init__.py"
    declared = 'costs={"setosa": {"virginica": 2}}, metrics=("setosa_recall_at_precision_0.9",),'
    path.write_text(path.read_text().replace("split=ByShare(),", f"split=ByShare(), {declared}"))
    policy = yaml.safe_load((root / "policies/promotion/iris.yaml").read_text())
    policy["spec"]["rules"]["champion"]["metric"] = "cost"
    policy["spec"]["rules"]["metrics"][0]["metric"] = "setosa_recall_at_precision_0.9"
    write(root, "promotion", policy)
    assert said(root) == []


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        # A pair that is not named costs nothing.
        ({"setosa": {"virginica": 2.0, "versicolor": 0}}, ""),
        (
            {"setosa": {"virginica": 1}},
            "quality.costs: expected those of the model's MODEL, {'setosa': {'virginica': 2}}, found "
            "{'setosa': {'virginica': 1.0}}",
        ),
        ({"setosa": {"virginica": 2}, "versicolor": {"setosa": 1}}, "quality.costs: expected those of the model's"),
    ],
)
def test_live_answers_are_judged_by_the_costs_of_the_model(root: Path, costs: dict[str, Any], expected: str) -> None:
    path = root / "app-src/models/iris/__init__.py"
    declared = 'split=ByShare(), costs={"setosa": {"virginica": 2}},'
    path.write_text(path.read_text().replace("split=ByShare(),", declared))
    policy = yaml.safe_load((root / "policies/drift/iris.yaml").read_text())
    policy["quality"] = {"metric": "cost", "worse": 1, "costs": costs}
    write(root, "drift", policy)
    problems = said(root)
    assert len(problems) == bool(expected)
    assert all(problem.startswith("policies/drift/iris.yaml:") and expected in problem for problem in problems)


def test_slices_of_rows_that_need_rows_are_left_to_the_gate(root: Path) -> None:
    path = root / "app-src/models/iris/__init__.py"
    path.write_text(path.read_text().replace("def rows(tables):", "def rows(tables):\n    tables['irises'].iloc[0]"))
    policy = yaml.safe_load((root / "policies/promotion/iris.yaml").read_text())
    policy["spec"]["rules"]["slices"][0]["column"] = "month"
    write(root, "promotion", policy)
    assert said(root) == []


def test_a_policy_of_no_model_and_a_model_that_is_broken(root: Path) -> None:
    shutil.copyfile(root / "policies/drift/iris.yaml", root / "policies/drift/roses.yaml")
    (root / "app-src/models/iris/__init__.py").write_text("MODEL = 1\n")
    problems = said(root)
    assert "policies/drift/roses.yaml:3: model: expected 'roses', the file's name, not 'iris'" in problems
    assert any(
        problem.startswith("app-src/models/iris: ") and "expected MODEL = Model(…)" in problem for problem in problems
    )
    assert len(problems) == 2


def test_without_the_folders_of_models_the_shape_alone_is_judged(root: Path) -> None:
    shutil.rmtree(root / "app-src")
    policy = {**POLICIES["drift"], "columns": {"month": {"ignore": True}}}
    write(root, "drift", policy)
    assert said(root) == []
