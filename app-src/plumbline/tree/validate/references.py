"""What an object of an environment names must be there: Secrets, Services, templates, routes.

Only what is known is judged. What a third party's chart makes in its own namespace is rendered by nobody here, so names
in such a namespace are left alone.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.core.documents import leaves, load
from plumbline.tree.render.build import Object
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.cluster import name_of
from plumbline.tree.validate.problem import Problem

Key = tuple[str, str, str]
"""(kind, namespace, name)"""
_PODS = {
    "Alertmanager", "CronJob", "CronWorkflow", "DaemonSet", "Deployment", "Job", "Prometheus", "Rollout", "StatefulSet",
    "WorkflowTemplate",
}  # fmt: skip
_OF_CONTAINERS = {"secretRef": "Secret", "secretKeyRef": "Secret", "configMapRef": "ConfigMap"} | {
    "configMapKeyRef": "ConfigMap"
}
_HOST = re.compile(r"(?<![\w.-])([a-z0-9][a-z0-9-]*)\.([a-z0-9][a-z0-9-]*)\.svc(?![\w-])")
# What controllers make by themselves: the Prometheus operator its governing Services, Argo its cache of results.
_MADE = re.compile(r".*-operated")
_UNREAD = {"memoize"}


@dataclass(frozen=True, slots=True)
class Definitions:
    """What an environment defines, and in which namespaces it alone does."""

    keys: frozenset[Key]
    ours: frozenset[str]

    def lacks(self, kind: str, namespace: str, name: str) -> bool:
        """Whether nobody defines it, as far as that can be known."""
        return namespace in self.ours and (kind, namespace, name) not in self.keys


def references(root: Path, tree: Environment) -> list[Problem]:
    """Every name of an object that nothing defines, each with the field's meaning."""
    names = _definitions(root, tree)
    return [
        Problem(f"{folder}: {name_of(item)}", reason)
        for folder, namespace, item in tree.objects()
        for reason in dict.fromkeys(_reasons(item, item["metadata"].get("namespace", namespace), names))
    ]


def _definitions(root: Path, tree: Environment) -> Definitions:
    keys: set[Key] = set()
    for _, namespace, item in tree.objects():
        place, metadata = item["metadata"].get("namespace", namespace), item["metadata"]
        keys.add((item["kind"], place, metadata["name"]))
        if item["kind"] == "ExternalSecret":
            target = item["spec"].get("target") or {}
            keys.add(("Secret", place, target.get("name", metadata["name"])))
        if item["kind"] == "Certificate":
            keys.add(("Secret", place, item["spec"]["secretName"]))
    path = root / "clusters" / tree.name / "secrets.yaml"
    for entry in load(path.read_text(encoding="utf-8"), str(path)) if path.exists() else []:
        keys |= {("Secret", place, entry["name"]) for place in entry["namespaces"]}
    # Ours alone: where a project of ours puts things and no third party does.
    ours = {sync.namespace for sync in tree.syncs if sync.url == tree.url}
    ours -= {sync.namespace for sync in tree.syncs if sync.url != tree.url} | {"argocd", "istio-system"}
    return Definitions(frozenset(keys), frozenset(ours))


def _reasons(item: Object, namespace: str, names: Definitions) -> Iterator[str]:
    if item["kind"] in _PODS:
        for kind, name in _mounted(item.get("spec")):
            if "{{" not in name and names.lacks(kind, namespace, name):
                yield f"names the {kind} {name}, which nothing of this environment defines in {namespace}"
    for _, leaf in leaves(item):
        for name, place in _HOST.findall(leaf) if isinstance(leaf, str) else ():
            if names.lacks("Service", place, name) and not _MADE.fullmatch(name):
                yield f"names the Service {name}.{place}, which nothing of this environment defines"
    spec: Mapping[str, Any] = item.get("spec") or {}
    if item["kind"] == "Rollout":
        yield from _of_rollout((spec.get("strategy") or {}).get("canary") or {}, namespace, names)
    if item["kind"] == "VirtualService":
        yield from _of_routes(spec, namespace, names)
    if item["kind"] == "DestinationRule" and _lacks_host(spec.get("host", ""), namespace, names):
        yield f"host: names the Service {spec['host']}, which nothing of this environment defines"
    if item["kind"] == "ScaledObject":
        target = {"kind": "Deployment", "name": ""} | (spec.get("scaleTargetRef") or {})
        if names.lacks(target["kind"], namespace, target["name"]):
            yield f"scaleTargetRef: names the {target['kind']} {target['name']}, which is not there"
        for trigger in spec.get("triggers") or []:
            asked = (trigger.get("authenticationRef") or {}).get("name")
            if asked and names.lacks("TriggerAuthentication", namespace, asked):
                yield f"authenticationRef: names the TriggerAuthentication {asked}, which is not there"
    if item["kind"] in ("WorkflowTemplate", "CronWorkflow"):
        yield from _of_workflow(spec.get("workflowSpec", spec), namespace, names)


def _mounted(node: Any) -> Iterator[tuple[str, str]]:
    """(kind, name) of what pods are made with; what may be absent (`optional`) is not among it."""
    if isinstance(node, list):
        for entry in node:
            yield from _mounted(entry)
    if not isinstance(node, Mapping):
        return
    for field, value in node.items():
        if field in _UNREAD:
            continue
        if isinstance(value, Mapping) and not value.get("optional"):
            if field in _OF_CONTAINERS and value.get("name"):
                yield _OF_CONTAINERS[field], str(value["name"])
            if field == "secret" and (name := value.get("secretName") or value.get("name")):
                yield "Secret", str(name)
            if field == "configMap" and value.get("name"):
                yield "ConfigMap", str(value["name"])
        if field in ("serviceAccountName", "serviceAccount") and isinstance(value, str) and value != "default":
            yield "ServiceAccount", value
        yield from _mounted(value)


def _of_rollout(canary: Mapping[str, Any], namespace: str, names: Definitions) -> Iterator[str]:
    for field in ("stableService", "canaryService"):
        if (name := canary.get(field)) and names.lacks("Service", namespace, name):
            yield f"strategy.canary.{field}: names the Service {name}, which nothing of this environment defines"
    routing = canary.get("trafficRouting") or {}
    istio = routing.get("istio") or {}
    services = [
        *(istio.get("virtualServices") or []),
        *([istio["virtualService"]] if istio.get("virtualService") else []),
    ]
    for service in services:
        if names.lacks("VirtualService", namespace, service.get("name", "")):
            yield f"trafficRouting: names the VirtualService {service.get('name')}, which is not there"
    managed = {route.get("name") for route in routing.get("managedRoutes") or []}
    steps = canary.get("steps") or []
    for number, step in enumerate(steps):
        for field in ("setHeaderRoute", "setMirrorRoute"):
            if (route := step.get(field)) is not None and route.get("name") not in managed:
                expected = ", ".join(sorted(map(str, managed))) or "none"
                yield f"steps.{number}.{field}: {route.get('name')!r} is no managedRoutes of it, which are {expected}"
    analyses = [step["analysis"] for step in steps if step.get("analysis")]
    for analysis in [*analyses, *([canary["analysis"]] if canary.get("analysis") else [])]:
        for template in analysis.get("templates") or []:
            name, everywhere = template.get("templateName", ""), template.get("clusterScope")
            if not everywhere and names.lacks("AnalysisTemplate", namespace, name):
                yield f"names the AnalysisTemplate {name}, which nothing of this environment defines"


def _of_routes(spec: Mapping[str, Any], namespace: str, names: Definitions) -> Iterator[str]:
    for gateway in spec.get("gateways") or []:
        if gateway != "mesh" and "/" not in gateway and names.lacks("Gateway", namespace, gateway):
            yield f"gateways: names the Gateway {gateway}, which nothing of this environment defines"
    for route in spec.get("http") or []:
        delegate = route.get("delegate") or {}
        if delegate and names.lacks("VirtualService", delegate.get("namespace", namespace), delegate.get("name", "")):
            yield f"delegate: names the VirtualService {delegate.get('name')}, which is not there"
        mirrors = [route["mirror"]] if route.get("mirror") else []
        for destination in [*(entry.get("destination") or {} for entry in route.get("route") or []), *mirrors]:
            if _lacks_host(destination.get("host", ""), namespace, names):
                yield f"names the Service {destination.get('host')}, which nothing of this environment defines"


def _lacks_host(host: str, namespace: str, names: Definitions) -> bool:
    """A host of one word is a Service beside it; longer ones are found by `.svc`, or are no Service of ours."""
    return bool(host) and "." not in host and names.lacks("Service", namespace, host)


def _of_workflow(spec: Mapping[str, Any], namespace: str, names: Definitions) -> Iterator[str]:
    whole = (spec.get("workflowTemplateRef") or {}).get("name")
    if whole and names.lacks("WorkflowTemplate", namespace, whole):
        yield f"workflowTemplateRef: names the WorkflowTemplate {whole}, which is not there"
    own = {template.get("name") for template in spec.get("templates") or []}
    for template in spec.get("templates") or []:
        tasks = (template.get("dag") or {}).get("tasks") or []
        for task in [*tasks, *(step for group in template.get("steps") or [] for step in group)]:
            if task.get("template") and task["template"] not in own:
                yield f"{template.get('name')}: names the template {task['template']}, which it does not have"
            other = (task.get("templateRef") or {}).get("name")
            if other and "{{" not in other and names.lacks("WorkflowTemplate", namespace, other):
                yield f"{template.get('name')}: names the WorkflowTemplate {other}, which is not there"
