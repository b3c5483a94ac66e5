"""A cluster of somebody's own (KUBECONFIG): what the tests need that it does not have, in a line each."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable

from harness import applications
from harness.kubectl import Kubectl
from harness.settings import GATEWAY_NODE_PORT, KUBECONFIG, OUR_GIT, REGISTRY

# What clusters/local asks for in requests (docs/testing.md).
_PROCESSORS, _MEMORY_GIB = 6, 8


def check() -> None:
    """Say of everything that the tests need whether it is there; ends the program if something is not."""
    kubectl = Kubectl(os.environ.get("KUBECTL", "kubectl"))
    missing = 0
    for name, lack in _CHECKS.items():
        try:
            said = lack(kubectl)
        except (OSError, RuntimeError) as error:
            said = str(error)
        missing += bool(said)
        sys.stderr.write(f"{'lacks' if said else 'ok   '} {name}{f': {said}' if said else ''}\n")
    if missing:
        raise SystemExit(f"the cluster of {KUBECONFIG} lacks {missing} of {len(_CHECKS)} things that the tests need")


def _version(kubectl: Kubectl) -> str:
    server = json.loads(kubectl.run("version", "--output=json"))["serverVersion"]
    minor = int(re.sub(r"\D", "", server["minor"]))
    return "" if minor >= 30 else f"it is {server['gitVersion']}; ValidatingAdmissionPolicy came with 1.30"


def _rights(kubectl: Kubectl) -> str:
    done = kubectl.try_run("auth", "can-i", "*", "*", "--all-namespaces")
    return "" if done else "the kubeconfig's user is no cluster-admin"


def _nodes(kubectl: Kubectl) -> str:
    nodes = [item["status"]["allocatable"] for item in kubectl.items("nodes")]
    processors = sum(_quantity(node["cpu"]) for node in nodes)
    memory = sum(_quantity(node["memory"]) for node in nodes) / 2**30
    if processors >= _PROCESSORS and memory >= _MEMORY_GIB:
        return ""
    return f"{processors:g} and {memory:.1f} GiB; clusters/local asks for {_PROCESSORS} and {_MEMORY_GIB} GiB"


def _quantity(text: str) -> float:
    """Kubernetes' 1500m or 16Gi as a number; https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/"""
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", text).groups()  # type: ignore[union-attr]
    factors = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return float(number) * factors[unit]


def _istio(kubectl: Kubectl) -> str:
    served = "networking.istio.io/v1" in kubectl.run("api-versions").split()
    return "" if served else "clusters/local leaves it to the cluster; apps/components/istio installs it"


def _gateway(kubectl: Kubectl) -> str:
    # It listens from the first model on, so that nothing can be sent to it yet.
    found = kubectl.items("services", "--all-namespaces", "--selector=istio=ingressgateway")
    return "" if found else f"no Service istio=ingressgateway, which 127.0.0.1:{GATEWAY_NODE_PORT} leads to"


def _platform(kubectl: Kubectl) -> str:
    return applications.complaints(kubectl) if applications.states(kubectl) else "run scripts/bootstrap local"


def _git(_: Kubectl) -> str:
    done = subprocess.run(["git", "ls-remote", OUR_GIT, "main"], capture_output=True, text=True, check=False)
    return "" if done.stdout else f"{OUR_GIT} has no branch main; set PLUMBLINE_CLUSTER_GIT"


def _registry(_: Kubectl) -> str:
    host, port = REGISTRY.rsplit(":", 1)
    socket.create_connection((host, int(port)), timeout=5).close()
    return ""


_CHECKS: dict[str, Callable[[Kubectl], str]] = {
    "Kubernetes 1.30 or newer": _version,
    "a user who may do everything": _rights,
    "processors and memory": _nodes,
    "Istio": _istio,
    "Istio's gateway": _gateway,
    "the platform, Synced and Healthy": _platform,
    "the git repository that apps/ names, to push to": _git,
    "a registry to push model servers to": _registry,
}
