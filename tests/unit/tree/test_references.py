"""A name of an object that nothing defines is a problem, with the object that says it; what is optional is none."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.documents import DocumentError
from plumbline.tree.render.environment import Environment
from plumbline.tree.render.sync import Sync
from plumbline.tree.validate.pods import pods, requests, undrained
from plumbline.tree.validate.references import references

OURS, FOLDER = "https://git.example/ours.git", "clusters/live/workloads/app"


def sync(namespace: str, url: str = OURS, path: str = FOLDER) -> Sync:
    return Sync(namespace, url, "main", path, namespace)


def item(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


CONTAINER: dict[str, Any] = {
    "name": "server",
    "envFrom": [{"secretRef": {"name": "password"}}, {"configMapRef": {"name": "settings"}}],
    "env": [{"name": "URL", "value": "http://store.app.svc:80/x"}],
}
STEPS: list[dict[str, Any]] = [
    {"setHeaderRoute": {"name": "testers"}},
    {"setWeight": 100},
    {"analysis": {"templates": [{"templateName": "verdict"}]}},
]
CANARY: dict[str, Any] = {
    "stableService": "store",
    "canaryService": "store",
    "trafficRouting": {"managedRoutes": [{"name": "testers"}], "istio": {"virtualService": {"name": "weights"}}},
    "steps": STEPS,
}
ROLLOUT = item(
    "Rollout",
    "app",
    strategy={"canary": CANARY},
    template={
        "spec": {
            "serviceAccountName": "app",
            "containers": [CONTAINER],
            "volumes": [{"name": "keys", "secret": {"secretName": "keys"}}],
        }
    },
)
ROUTES = item("VirtualService", "weights", gateways=["edge"], http=[{"route": [{"destination": {"host": "store"}}]}])
GRAPH = item(
    "WorkflowTemplate",
    "train",
    templates=[
        {"name": "all", "dag": {"tasks": [{"template": "one"}, {"templateRef": {"name": "train", "template": "one"}}]}},
        {"name": "one", "memoize": {"cache": {"configMap": {"name": "made-later"}}}, "container": CONTAINER},
    ],
)
NIGHTLY = item("CronWorkflow", "nightly", workflowSpec={"workflowTemplateRef": {"name": "train"}})
SCALED = item("ScaledObject", "app", scaleTargetRef={"kind": "Rollout", "name": "app"})
DEFINED = [
    ROLLOUT,
    ROUTES,
    GRAPH,
    NIGHTLY,
    SCALED,
    *(item("Service", "store"), item("Gateway", "edge"), item("AnalysisTemplate", "verdict")),
    *(item("ServiceAccount", "app"), item("ConfigMap", "settings")),
    item("ExternalSecret", "anything", target={"name": "password"}),
    item("Certificate", "edge", secretName="keys"),
]


def environment(objects: list[dict[str, Any]], *more: Sync) -> Environment:
    return Environment("live", {FOLDER: objects}, [sync("app"), *more], url=OURS)


def said(tmp_path: Path, objects: list[dict[str, Any]], *more: Sync) -> list[str]:
    return [str(problem) for problem in references(tmp_path, environment(objects, *more))]


def test_what_is_defined_may_be_named(tmp_path: Path) -> None:
    assert said(tmp_path, DEFINED) == []


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ("Service/store", "Rollout/app: names the Service store.app, which nothing"),
        ("Service/store", "Rollout/app: strategy.canary.stableService: names the Service store,"),
        ("Service/store", "VirtualService/weights: names the Service store,"),
        ("Gateway/edge", "VirtualService/weights: gateways: names the Gateway edge,"),
        ("AnalysisTemplate/verdict", "Rollout/app: names the AnalysisTemplate verdict,"),
        ("VirtualService/weights", "Rollout/app: trafficRouting: names the VirtualService weights,"),
        ("ServiceAccount/app", "Rollout/app: names the ServiceAccount app,"),
        ("ConfigMap/settings", "Rollout/app: names the ConfigMap settings,"),
        ("ConfigMap/settings", "WorkflowTemplate/train: names the ConfigMap settings,"),
        ("ExternalSecret/anything", "Rollout/app: names the Secret password,"),
        ("Certificate/edge", "Rollout/app: names the Secret keys,"),
        ("WorkflowTemplate/train", "CronWorkflow/nightly: workflowTemplateRef: names the WorkflowTemplate train,"),
        ("Rollout/app", "ScaledObject/app: scaleTargetRef: names the Rollout app, which is not there"),
    ],
)
def test_what_nothing_defines_is_a_problem(tmp_path: Path, gone: str, reason: str) -> None:
    left = [one for one in DEFINED if f"{one['kind']}/{one['metadata']['name']}" != gone]
    assert any(line.startswith(f"{FOLDER}: {reason}") for line in said(tmp_path, left)), said(tmp_path, left)


def changed(found: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    new = copy.deepcopy(found)
    place: Any = new
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return new


@pytest.mark.parametrize(
    ("base", "path", "value", "reason"),
    [
        (
            ROLLOUT,
            ("spec", "strategy", "canary", "steps", 0),
            {"setHeaderRoute": {"name": "other"}},
            "steps.0.setHeaderRoute: 'other' is no managedRoutes of it, which are testers",
        ),
        (
            ROLLOUT,
            ("spec", "strategy", "canary", "trafficRouting", "managedRoutes"),
            [],
            "steps.0.setHeaderRoute: 'testers' is no managedRoutes of it, which are none",
        ),
        (
            GRAPH,
            ("spec", "templates", 0, "dag", "tasks", 0, "template"),
            "two",
            "all: names the template two, which it does not have",
        ),
        (
            GRAPH,
            ("spec", "templates", 0, "dag", "tasks", 1, "templateRef", "name"),
            "evaluate",
            "all: names the WorkflowTemplate evaluate, which is not there",
        ),
    ],
)
def test_a_route_or_a_template_that_is_not_there_is_a_problem(
    tmp_path: Path, base: dict[str, Any], path: tuple[str | int, ...], value: Any, reason: str
) -> None:
    objects = [changed(base, path, value) if one is base else one for one in DEFINED]
    assert said(tmp_path, objects) == [f"{FOLDER}: {base['kind']}/{base['metadata']['name']}: {reason}"]


def test_what_may_be_absent_and_what_a_third_party_makes_is_none(tmp_path: Path) -> None:
    optional = {"name": "x", "envFrom": [{"secretRef": {"name": "none", "optional": True}}]}
    asks = {"name": "y", "env": [{"name": "A", "value": "http://loki.logging.svc http://prometheus-operated.app.svc"}]}
    volumes = [{"name": "v", "secret": {"secretName": "none", "optional": True}}]
    job = item("Job", "once", template={"spec": {"containers": [optional, asks], "volumes": volumes}})
    theirs = sync("logging", "https://charts.example", "")
    assert said(tmp_path, [*DEFINED, job], theirs) == []


def test_a_secret_of_the_bootstrap_is_defined_where_it_says(tmp_path: Path) -> None:
    (tmp_path / "clusters/live").mkdir(parents=True)
    left = [one for one in DEFINED if one["kind"] != "ExternalSecret"]
    for place, count in (("app", 0), ("elsewhere", 2)):
        text = f"- {{name: password, random: [KEY], namespaces: [{place}]}}\n"
        (tmp_path / "clusters/live/secrets.yaml").write_text(text)
        assert len(said(tmp_path, left)) == count
    (tmp_path / "clusters/live/secrets.yaml").write_text("- {name: password, name: other, namespaces: [app]}\n")
    with pytest.raises(DocumentError, match=r"live/secrets.yaml: .* 'name' stands twice"):
        said(tmp_path, left)


@pytest.mark.parametrize(
    ("asked", "most", "reason"),
    [
        ({"cpu": "600m"}, {"cpu": "0.5"}, "cpu: asks for 600m, and may have 0.5"),
        ({"memory": "1Gi"}, {"memory": "1G"}, "memory: asks for 1Gi, and may have 1G"),
        ({"cpu": "500m"}, {"cpu": "0.5", "memory": "1Gi"}, ""),
        ({"cpu": "2"}, {"memory": "1Gi"}, ""),
    ],
)
def test_a_request_above_its_limit_is_a_problem(asked: Mapping[str, str], most: Mapping[str, str], reason: str) -> None:
    container = CONTAINER | {"resources": {"requests": asked, "limits": most}}
    found = changed(ROLLOUT, ("spec", "template", "spec", "containers"), [container])
    problems = [problem.reason for problem in requests(environment([found]))]
    assert len(problems) == bool(reason)
    assert all(reason in problem for problem in problems)


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"minAvailable": 2}, "minAvailable: 2 of 2 lets no pod go"),
        ({"maxUnavailable": 0}, "maxUnavailable: 0 lets no pod go"),
        ({"minAvailable": "100%"}, "minAvailable: 100% lets no pod go"),
        ({"minAvailable": 1}, ""),
        ({"maxUnavailable": 1}, ""),
        ({"minAvailable": "50%"}, ""),
    ],
)
def test_a_budget_that_lets_no_pod_go_is_a_problem(budget: dict[str, Any], reason: str) -> None:
    labels = {"app": "a"}
    server = item("Deployment", "app", replicas=2, template={"metadata": {"labels": labels}, "spec": {}})
    other = item("Deployment", "other", replicas=1, template={"metadata": {"labels": {"app": "b"}}, "spec": {}})
    kept = item("PodDisruptionBudget", "app", selector={"matchLabels": labels}, **budget)
    problems = [problem.reason for problem in undrained(environment([server, other, kept]))]
    assert [problem.startswith(reason) for problem in problems] == [True] * bool(reason)


def test_a_budget_of_a_workflow_lets_its_pods_go() -> None:
    graph = changed(GRAPH, ("spec", "podDisruptionBudget"), {"minAvailable": 9999})
    (problem,) = undrained(environment([graph]))
    assert problem.reason.startswith("minAvailable: 9999 of a Workflow's pods lets none go")


def test_a_pod_is_what_its_controller_would_make() -> None:
    claims = [{"metadata": {"name": "data"}}]
    state = item("StatefulSet", "db", template={"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}})
    state["spec"]["volumeClaimTemplates"] = claims
    job = {"spec": {"template": {"spec": {"containers": [CONTAINER]}}}}
    made = {
        pod["metadata"]["name"]: pod for *_, pod in pods(environment([state, item("CronJob", "n", jobTemplate=job)]))
    }
    assert made["statefulset-db"]["metadata"]["labels"] == {"a": "b"}
    assert made["statefulset-db"]["spec"]["volumes"] == [{"name": "data", "emptyDir": {}}]
    assert made["cronjob-n"]["spec"]["containers"] == [CONTAINER]
