"""Pods that a controller will make: the API server judges a Rollout's shape, and its pods too late."""

from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from plumbline.core.documents import leaves
from plumbline.tree.render.build import Object
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.cluster import name_of
from plumbline.tree.validate.problem import Problem

_TEMPLATED = ("DaemonSet", "Deployment", "Job", "Rollout", "StatefulSet")


def pods(tree: Environment) -> Iterator[tuple[str, str, Object, Object]]:
    """Every (folder, namespace, object, a pod as its controller would make it) of what has a template of pods."""
    for folder, namespace, item in tree.objects():
        spec = item.get("spec") or {}
        if item["kind"] == "CronJob":
            spec = (spec.get("jobTemplate") or {}).get("spec") or {}
        if item["kind"] in (*_TEMPLATED, "CronJob") and isinstance(template := spec.get("template"), Mapping):
            place = item["metadata"].get("namespace", namespace)
            yield folder, place, item, _pod(item, dict(template))


def _pod(item: Object, template: Mapping[str, Any]) -> Object:
    metadata = template.get("metadata") or {}
    kept = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    name = f"{item['kind'].lower()}-{item['metadata']['name']}"[:60].rstrip("-.")
    spec = dict(template.get("spec") or {})
    # A StatefulSet makes the volumes of its claims itself.
    claims = (item.get("spec") or {}).get("volumeClaimTemplates") or []
    made = [{"name": claim["metadata"]["name"], "emptyDir": {}} for claim in claims]
    if made:
        spec["volumes"] = [*(spec.get("volumes") or []), *made]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": kept | {"name": name}, "spec": spec}


def requests(tree: Environment) -> list[Problem]:
    """No container asks for more than it may have: whoever makes its pod would be refused."""
    return [
        Problem(f"{folder}: {name_of(item)}", reason)
        for folder, _, item in tree.objects()
        for reason in _too_much(item)
    ]


def _too_much(item: Object) -> Iterator[str]:
    amounts = {path: leaf for path, leaf in leaves(item) if len(path) > 2 and path[-2] in ("requests", "limits")}
    for path, asked in amounts.items():
        if path[-2] != "requests" or (most := amounts.get((*path[:-2], "limits", path[-1]))) is None:
            continue
        try:
            more = parse_quantity(str(asked)) > parse_quantity(str(most))  # type: ignore[no-untyped-call]
        except ValueError:
            continue  # the API server says what a quantity is
        if more:
            yield f"{'.'.join(path)}: asks for {asked}, and may have {most}; expected no more than its limit"


def undrained(tree: Environment) -> list[Problem]:
    """No budget keeps a pod on a node for ever: an upgrade of the nodes would wait for it, and then give up."""
    entries = [(folder, namespace, item) for folder, namespace, item in tree.objects()]
    replicas = [
        (item["metadata"].get("namespace", namespace), _labels(item), item["spec"].get("replicas"))
        for _, namespace, item in entries
        if item["kind"] in ("Deployment", "Rollout", "StatefulSet")
    ]
    problems = []
    for folder, namespace, item in entries:
        budget = _budget(item)
        if budget is None:
            continue
        place = item["metadata"].get("namespace", namespace)
        wanted = (budget.get("selector") or {}).get("matchLabels") or {}
        counts = [
            count
            for where, labels, count in replicas
            if wanted and where == place and wanted.items() <= labels.items() and isinstance(count, int)
        ]
        if reason := _keeps_all(budget, min(counts, default=None)):
            expected = "expected a budget under which one pod may always go, such as maxUnavailable: 1"
            problems.append(
                Problem(
                    f"{folder}: {name_of(item)}", f"{reason}, and a node with such a pod is never drained; {expected}"
                )
            )
    return problems


def _labels(item: Object) -> Mapping[str, str]:
    return (item["spec"]["template"].get("metadata") or {}).get("labels") or {}


def _budget(item: Object) -> Mapping[str, Any] | None:
    spec: Mapping[str, Any] = item.get("spec") or {}
    if item["kind"] in ("WorkflowTemplate", "CronWorkflow"):
        spec = spec.get("workflowSpec", spec).get("podDisruptionBudget") or {}
    elif item["kind"] != "PodDisruptionBudget":
        return None
    return spec or None


def _keeps_all(budget: Mapping[str, Any], replicas: int | None) -> str:
    """Why no pod may go; empty where one may, or where nobody can say."""
    least, most = budget.get("minAvailable"), budget.get("maxUnavailable")
    if most in (0, "0", "0%"):
        return f"maxUnavailable: {most} lets no pod go"
    if least == "100%":
        return "minAvailable: 100% lets no pod go"
    if isinstance(least, int) and replicas is not None and least >= replicas:
        return f"minAvailable: {least} of {replicas} lets no pod go"
    if isinstance(least, int) and "selector" not in budget:
        return f"minAvailable: {least} of a Workflow's pods lets none go"
    return ""
