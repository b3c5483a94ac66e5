"""kubectl, as a person would run it: $KUBECTL or the one on PATH, with the kubeconfig that it finds."""

import json
import os
from collections.abc import Iterable
from typing import Any

from plumbline.core import programs
from plumbline.core.errors import Accident


class KubectlError(Accident):
    """What kubectl complained about, in one line."""


class Kubectl:
    """kubectl for one context of the kubeconfig, its current one if none is given."""

    def __init__(self, context: str | None = None) -> None:
        self.command = [os.environ.get("KUBECTL", "kubectl"), *([f"--context={context}"] if context else [])]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """What it printed. Raises KubectlError, and Misuse where there is no kubectl."""
        done = programs.run(*self.command, *arguments, stdin=stdin, missing="install kubectl or set KUBECTL")
        if done.code:
            reason = (done.error or "it gave no reason").splitlines()[-1]
            raise KubectlError(f"kubectl {' '.join(arguments[:3])}: {reason}")
        return done.text

    def apply(self, objects: Iterable[dict[str, Any]]) -> None:
        """Server-side, as CRDs are too long for a client-side apply, under the name that Argo CD itself uses."""
        text = "---\n".join(f"{json.dumps(item)}\n" for item in objects)
        self.run(
            "apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "-f", "-", stdin=text
        )

    def create(self, item: dict[str, Any]) -> None:
        """Make an object that is not there yet."""
        self.run("create", "-f", "-", stdin=json.dumps(item))

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        """Objects of a kind."""
        objects: list[dict[str, Any]] = json.loads(self.run("get", *arguments, "--output=json"))["items"]
        return objects
