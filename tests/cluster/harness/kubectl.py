"""kubectl with the test cluster's kubeconfig."""

import json
import subprocess
from pathlib import Path
from typing import Any

from harness.settings import KUBECONFIG
from plumbline.tree import kubectl


class Kubectl(kubectl.Kubectl):
    """The project's own, with what only tests ask."""

    def __init__(self, program: str | Path, kubeconfig: Path = KUBECONFIG) -> None:
        super().__init__()
        self.kubeconfig = kubeconfig
        self.command = [str(program), f"--kubeconfig={kubeconfig}"]

    def try_run(self, *arguments: str) -> bool:
        """Whether kubectl succeeds."""
        return subprocess.run([*self.command, *arguments], capture_output=True, check=False).returncode == 0

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list, as JSON."""
        answer: dict[str, Any] = json.loads(self.run("get", "-o", "json", *arguments))
        return answer
