"""What an engineer has at hand: a clone, MLflow and the command `plumbline`, all with the cluster's own addresses."""

import base64
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

from mlflow import MlflowClient
from services import free_port

from harness import outside
from harness.kubectl import Kubectl
from harness.processes import wait_until
from harness.repositories import git
from harness.settings import OUR_GIT
from plumbline.core.release import Release, parse_release
from plumbline.tree.values import Values

_KEYS = {"signing-key": "signing-key.pem", "public-key": "signing-key.pub"}


class Workstation:
    """Settings of the platform's command lines as its pods have them, and shortcuts to what git says."""

    def __init__(self, environment: dict[str, str], clone: Path, cluster: str) -> None:
        self._environment, self._clone, self._cluster = os.environ | environment, clone, cluster
        os.environ |= environment  # MLflow's client looks there, and only there
        self.said = ""
        """What `agree` was told last."""

    @property
    def mlflow(self) -> MlflowClient:
        """The registry's own client."""
        return MlflowClient()

    def run(self, *command: str, **environment: str) -> str:
        """Run one of the platform's commands; AssertionError with what it said if it fails."""
        done = self._run(*command, **environment)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [Path(sys.executable).with_name("plumbline"), *arguments]
        return subprocess.run(command, env=self._environment | environment, capture_output=True, text=True, check=False)

    def train(self, model: str, sample: str = "0.05") -> str:
        """Train on another sample than any version before, and register: the new version."""
        seed = self.unused_seed(model)
        said = self.run("train", "run", f"--model={model}", f"--sample={sample}", "--trials=2", f"--seed={seed}")
        said = self.run("promote", "register", f"--run={said.split()[-1]}")
        return said.split()[-1]

    def unused_seed(self, model: str) -> int:
        """Of another sample: the gate compares two versions on rows that neither has seen."""
        return len(self.mlflow.search_model_versions(f"name = '{model}'"))

    def promote(self, model: str, version: str, image: str) -> None:
        """Commit a release, if the gate lets it."""
        about = (f"--model={model}", f"--version={version}", f"--image={image}")
        self.run("promote", "run", *about, f"--env={self._cluster}")

    def agree(self, model: str) -> bool:
        """Whether git, cluster and registry say the same of a model."""
        done = self._run("promote", "status", f"--env={self._cluster}", f"--model={model}")
        self.said = done.stdout + done.stderr
        return done.returncode == 0

    def release(self, model: str, environment: str = "") -> Release | None:
        """What git says that an environment serves, this one if none is named."""
        path = f"clusters/{environment or self._cluster}/models/{model}/release.yaml"
        try:
            return parse_release(self._git("show", f"main:{path}"), source=path)
        except RuntimeError:
            return None

    def log(self) -> list[str]:
        """Titles of main's commits, newest first."""
        return self._git("log", "--format=%s", "main").splitlines()

    def _git(self, *arguments: str) -> str:
        git(self._clone, "fetch", "--quiet", "origin", "+main:main")
        return git(self._clone, *arguments)


@contextmanager
def workstation(kubectl: Kubectl, values: Values, folder: Path) -> Iterator[Workstation]:
    """One with credentials of the workflows' own."""
    for secret, name in _KEYS.items():
        (folder / name).write_text(_secret(kubectl, secret)[name])
    git(folder, "clone", "--quiet", "--bare", OUR_GIT, "plumbline.git")
    with ExitStack() as stack:

        def port(namespace: str, number: int) -> int:
            arguments = ("port-forward", f"--namespace={namespace}", f"service/{namespace}", f"PORT:{number}")
            return stack.enter_context(forwarded(kubectl, *arguments))

        if outside.is_needed(values):
            store = outside.store_on_loopback(values)
        else:
            store = _secret(kubectl, "object-store") | {
                "AWS_ENDPOINT_URL_S3": f"http://localhost:{port('object-store', 7070)}",
                "AWS_DEFAULT_REGION": "us-east-1",
                "PROMOTION_STORE": "s3://releases",
            }
        environment = {
            **_secret(kubectl, "mlflow-workflows"),
            **store,
            "MLFLOW_TRACKING_URI": f"http://localhost:{port('mlflow', 5000)}",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            # By default it sends clients on to the store, at a name that only pods know.
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
            "PROMOTION_REPO": OUR_GIT,
            "PROMOTION_SIGNING_KEY": str(folder / _KEYS["signing-key"]),
            "PROMOTION_PUBLIC_KEY": str(folder / _KEYS["public-key"]),
            "PROMOTION_FOLLOWS": "cluster",
            "KUBECONFIG": str(kubectl.kubeconfig),
        }
        yield Workstation(environment, folder / "plumbline.git", values.name)


@contextmanager
def forwarded(kubectl: Kubectl, *arguments: str) -> Iterator[int]:
    """A port on loopback that kubectl (`proxy`, `port-forward`) leads into the cluster; `PORT` in its arguments is it.

    Started again whenever it ends: kubectl gives up a tunnel at the first connection in it that breaks.
    """
    port, stop = free_port(), Event()
    command = [*kubectl.command, *(argument.replace("PORT", str(port)) for argument in arguments)]
    running: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        while not stop.is_set():
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                running[:] = [process]
            stop.wait(0.2)

    def open_() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    thread = Thread(target=keep)
    thread.start()
    try:
        wait_until(f"kubectl {' '.join(arguments)}", open_, seconds=30)
        yield port
    finally:
        stop.set()
        while thread.is_alive():
            for process in running:
                process.terminate()
            thread.join(0.2)


def _secret(kubectl: Kubectl, name: str) -> dict[str, str]:
    data = kubectl.get("secret", name, "--namespace=workflows")["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}
