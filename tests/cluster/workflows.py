"""Workflows of the platform, started as a person starts them, and what became of them."""

import time
from typing import Any

import yaml

from harness.kubectl import Kubectl

_NAMESPACE = ("--namespace=workflows",)
_NODE = "workflows.argoproj.io/node-name"


def submit(kubectl: Kubectl, template: str, **parameters: str) -> str:
    """Start a Workflow of a template: its name."""
    given = [{"name": name, "value": value} for name, value in parameters.items()]
    return _create(kubectl, template, {"workflowTemplateRef": {"name": template}, "arguments": {"parameters": given}})


def reconcile_now(kubectl: Kubectl) -> None:
    """One round of what its schedule does each minute, without waiting for it."""
    spec = kubectl.get("cronworkflow", "reconcile", *_NAMESPACE)["spec"]["workflowSpec"]
    _create(kubectl, "reconcile", spec | {"arguments": {"parameters": [{"name": "for", "value": "1m"}]}})


def _create(kubectl: Kubectl, name: str, spec: dict[str, Any]) -> str:
    workflow = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": f"{name}-", "namespace": "workflows"},
        "spec": spec,
    }
    return kubectl.run("create", "-f", "-", "--output=name", stdin=yaml.safe_dump(workflow)).strip().split("/")[1]


def nodes(kubectl: Kubectl, name: str) -> dict[str, dict[str, Any]]:
    """{what it is called in the graph: a node}; a try of a step is called `step(0)`."""
    found = kubectl.get("workflow", name, *_NAMESPACE).get("status", {}).get("nodes", {})
    return {node["displayName"]: node for node in found.values()}


def kill_pod(kubectl: Kubectl, name: str, step: str) -> None:
    """Wait until a step runs, take its pod away as a lost node does, and see another pod do the step."""

    def running() -> dict[str, str]:
        pods = kubectl.get("pods", f"--selector=workflows.argoproj.io/workflow={name}", *_NAMESPACE)["items"]
        return {
            pod["metadata"]["uid"]: pod["metadata"]["name"]
            for pod in pods
            if f".{step}(" in pod["metadata"]["annotations"][_NODE] and pod["status"]["phase"] == "Running"
        }

    _await(kubectl, name, lambda: bool(running()), 300)
    killed = running()
    kubectl.run("delete", "pod", *killed.values(), *_NAMESPACE, "--grace-period=0", "--force")
    # Argo makes a pod that vanishes early anew, and counts one that vanishes later as a failed try.
    _await(kubectl, name, lambda: bool(running().keys() - killed.keys()), 120)


def succeeded(kubectl: Kubectl, name: str, seconds: float) -> None:
    """Wait until a Workflow has succeeded; fails with what its steps say."""
    _await(kubectl, name, lambda: _phase(kubectl, name) == "Succeeded", seconds)


def _phase(kubectl: Kubectl, name: str) -> str:
    return str(kubectl.get("workflow", name, *_NAMESPACE).get("status", {}).get("phase", ""))


def _await(kubectl: Kubectl, name: str, done: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        ended = _phase(kubectl, name) in ("Failed", "Error")
        if ended or time.monotonic() > deadline:
            said = [f"{step}: {node['phase']} {node.get('message', '')}" for step, node in nodes(kubectl, name).items()]
            raise AssertionError("\n".join([f"Workflow {name}: {'it failed' if ended else 'too slow'}", *said]))
        time.sleep(1)
