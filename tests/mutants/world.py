"""The shipped models, trained and promoted as they are, and what it takes to bring in a bad one in their place."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import onnx
import services
from approvals import Approver, approvers
from integration.promotion.conftest import Remote
from mlflow import MlflowClient
from mlflow.entities import Param
from mutants.forms import SAMPLES

from plumbline.core.release import Release
from plumbline.promotion.delivery import approve as approving
from plumbline.promotion.delivery.approval import APPROVERS
from plumbline.promotion.delivery.documents import release_path
from plumbline.promotion.delivery.follow import sync
from plumbline.promotion.delivery.git import Checkout, checkout
from plumbline.promotion.delivery.promote import promote
from plumbline.promotion.delivery.state import forbidden
from plumbline.promotion.gate.audit import audit
from plumbline.promotion.gate.gate import Request
from plumbline.promotion.gate.judged import Judged, judge
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.register import register
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "ghcr.io/plumbline/model-server@sha256:" + "a" * 64
ADA = Approver("Ada")
"""Approves for production, and made none of it."""
ENVIRONMENTS = ("staging", "production")
Change = Callable[[Path], None]
"""What is done to the files of a sound run: bundle/ and evaluation/."""


@dataclass
class World:
    """One MLflow, one release store, one repository, and what a sound run of each model left behind."""

    registry: Registry
    settings: Settings
    remote: Remote
    folder: Path
    runs: dict[str, Path] = field(default_factory=dict)
    """{model: the work folder of its sound run}."""
    sound: dict[str, Version] = field(default_factory=dict)
    """What staging serves, and of flights production too."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def client(self) -> MlflowClient:
        return self.registry.client

    def new(self, name: str) -> Path:
        """A folder that is not there yet."""
        return self.folder / f"{name}-{next(self.numbers)}"

    def train(self, model: str) -> str:
        """A sound run, by the command that people and Workflows use; its id."""
        work = self.runs[model] = self.new(model)
        command = [sys.executable, "-m", "plumbline", "train", "run", f"--model={model}", "--trials=1"]
        command += [f"--sample={SAMPLES[model]}", f"--work={work}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split()[-1]

    def plant(self, model: str, *changes: Change, tags: Mapping[str, str] = {}) -> str:
        """Log a run as training does, with the files of the sound one after these changes; its id.

        Its file is always another than the sound one's, so that its bytes are not those of a version that there is.
        """
        folder = self.new("planted")
        for name in ("bundle", "evaluation"):
            shutil.copytree(self.runs[model] / name, folder / name)
        file = onnx.load(folder / "bundle/model.onnx")
        file.doc_string = folder.name
        (folder / "bundle/model.onnx").write_bytes(file.SerializeToString())
        for change in changes:
            change(folder)
        sound = self.client.get_run(json.loads((self.runs[model] / "run.json").read_text())["id"])
        kept = {name: value for name, value in sound.data.tags.items() if name in TAGS}
        run = str(self.client.create_run(sound.info.experiment_id, tags=kept | dict(tags)).info.run_id)
        self.client.log_batch(run, params=[Param(name, value) for name, value in sound.data.params.items()])
        self.client.log_artifacts(run, str(folder))
        self.client.set_terminated(run)
        return run

    def judge(self, run: str) -> Judged:
        """As the step that has no key."""
        return judge(self.registry, self.settings, run)

    def register(self, run: str, found: Judged | None = None) -> Version:
        """As the two steps do: what is judged goes to registration as a text."""
        text = (found or self.judge(run)).model_dump_json()
        return register(self.registry, self.settings, run, Judged.model_validate_json(text)).version

    def planted(self, model: str, *changes: Change, **more: Any) -> Version:
        """A registered version with these changes."""
        return self.register(self.plant(model, *changes, **more))

    def promote(self, version: Version, environment: str = "staging", image: str = IMAGE, again: str = "") -> None:
        """Through the gate, by commit."""
        request = Request(version.model, str(version.semver), environment, image, again)
        promote(self.registry, self.settings, request, "commit")

    def bring(self, model: str, *changes: Change, **more: Any) -> None:
        """All the way to a commit."""
        self.promote(self.planted(model, *changes, **more))

    def follow(self, model: str) -> None:
        """The registry after git: what is served there is proved."""
        with checkout(self.settings) as tree:
            sync(self.registry, tree, model)

    def approve(self, version: Version, by: Approver = ADA) -> None:
        """A signed approval for production, brought to git."""
        request = Request(version.model, str(version.semver), "production", IMAGE)
        theirs = self.settings.model_copy(update={"approver_key": by.key(self.folder)})
        text, _ = approving.sign(self.registry, theirs, request, "read the card", timedelta(days=1))
        approving.record(self.settings, request, text)

    def release(self, model: str, environment: str = "staging") -> Release:
        return self.remote.release(environment, model)

    def text(self, model: str, environment: str = "staging") -> str:
        """Of what git says that the environment serves."""
        self.remote.pull()
        return (self.remote.work / release_path(environment, model)).read_text()

    @contextmanager
    def committed(self, files: Mapping[str, str | None]) -> Iterator[None]:
        """A commit by hand, and its revert."""
        self.remote.pull()
        if not files:
            yield
            return
        before = self.remote.git("rev-parse", "HEAD").strip()
        self.remote.commit(dict(files))
        try:
            yield
        finally:
            self.remote.pull()
            self.remote.git("revert", "--no-edit", "--no-commit", f"{before}..HEAD")
            self.remote.git("commit", "--quiet", "--allow-empty", "-m", "back")
            self.remote.git("push", "--quiet", "origin", "main")

    def audited(self, files: Mapping[str, str | None] | None = None) -> str:
        """What the audit of a pull request with these files says; empty where it has no objection."""
        with self.committed(files or {}):
            return "; ".join(audit(self.registry, self.settings, self.remote.work)[0])

    def validated(self, environment: str, files: Mapping[str, str | None]) -> str:
        """What `tree validate` says of every release of an environment, offline."""
        with self.committed(files):
            tree = Checkout(self.remote.work, self.settings)
            served = [path.parts[-2] for path in self.remote.work.glob(f"clusters/{environment}/models/*/release.yaml")]
            return "; ".join(
                reason
                for model in served
                for reason in forbidden(tree, environment, self.remote.release(environment, model))
            )

    def started(self, text: str, seconds: float = 60) -> str:
        """Start a server of this release.yaml: "ready", or why it is not."""
        folder = self.new("server")
        folder.mkdir()
        (folder / "release.yaml").write_text(text)
        port, metrics = services.free_port(), services.free_port()
        environment = {
            **{name: os.environ[name] for name in os.environ if name.startswith("AWS_")},
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "app-src"),
            "SERVING_RELEASE": str(folder / "release.yaml"),
            "SERVING_PUBLIC_KEY": str(self.settings.public_key),
            "SERVING_CACHE_DIR": str(folder / "cache"),
            "SERVING_PORT": str(port),
            "SERVING_METRICS_PORT": str(metrics),
            "SERVING_DRAIN_SECONDS": "0",
        }
        command = [str(ROOT / ".venv-serving/bin/python"), "-m", "plumbline", "serve"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + seconds
            while time.monotonic() < until and process.poll() is None:
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5)
                except httpx.TransportError:
                    time.sleep(0.1)
                    continue
                if answer.status_code == 200:
                    return "ready"
                if not (detail := answer.json()["detail"]).startswith("the model is being loaded"):
                    return str(detail)
                time.sleep(0.1)
            raise AssertionError((folder / "log").read_text())
        finally:
            process.kill()
            process.wait(10)


TAGS = ("model", "data.version", "data.digest", "code.commit", "code.dirty", "workflow", "mlflow.user")


def begin(world: World) -> None:
    """Bring the shipped models, as they are, through all of it: what refuses a mutant must let these pass."""
    files: dict[str, str | None] = {APPROVERS: approvers(ADA.entry())}
    for model in SAMPLES:
        for name in (f"policies/promotion/{model}.yaml", f"app-src/models/{model}/__init__.py"):
            files[name] = (ROOT / name).read_text()
        for environment in ENVIRONMENTS:
            files[f"clusters/{environment}/kustomization.yaml"] = "resources: []\n"
            files[f"clusters/{environment}/models/{model}/kustomization.yaml"] = "resources: []\n"
    world.remote.commit(files, "what is shipped")
    for model in SAMPLES:
        version = world.sound[model] = world.register(world.train(model))
        world.promote(version)
        world.follow(model)
    world.approve(world.sound["flights"])
    world.promote(world.sound["flights"], "production")
    world.follow("flights")
    assert world.audited() == ""
    # Another file with the same weights is as good: what refuses a mutant is not that it is one.
    world.promote(world.planted("diabetes"))
    world.follow("diabetes")
    world.sound["diabetes"] = world.registry.find("diabetes", world.release("diabetes").spec.version)
    for model in SAMPLES:
        assert (said := world.started(world.text(model))) == "ready", said
