"""kubectl with the test cluster's kubeconfig."""

import json
import subprocess
from pathlib import Path
from typing import Any

from harness.settings import KUBECONFIG


class Kubectl:
    """Runs kubectl; `run` raises RuntimeError with what kubectl said."""

    def __init__(self, program: Path, kubeconfig: Path = KUBECONFIG) -> None:
        self._command = [str(program), f"--kubeconfig={kubeconfig}"]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """The standard output of kubectl with these arguments."""
        done = subprocess.run(
            [*self._command, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def try_run(self, *arguments: str) -> bool:
        """Whether kubectl succeeds."""
        return subprocess.run([*self._command, *arguments], capture_output=True, check=False).returncode == 0

    def apply(self, manifest: str, *arguments: str) -> None:
        """Server-side apply, which has no size limit for CRDs."""
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", *arguments, stdin=manifest)

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list, as JSON."""
        answer: dict[str, Any] = json.loads(self.run("get", "-o", "json", *arguments))
        return answer
