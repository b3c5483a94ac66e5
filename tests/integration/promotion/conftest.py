"""Runs as training leaves them, of a tiny model; a bare repository as the remote; a key pair."""

import itertools
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from approvals import Approver, approvers
from mlflow import MlflowClient
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression

from plumbline.core.metrics.clusters import Clusters
from plumbline.core.metrics.figures import build
from plumbline.core.release import Release, parse_release
from plumbline.core.schema import ModelSchema, Output
from plumbline.promotion.delivery import approve as approving
from plumbline.promotion.delivery.approval import APPROVERS
from plumbline.promotion.delivery.promote import How, Outcome, promote
from plumbline.promotion.gate.gate import Request
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.register import register
from plumbline.promotion.registry.signing import generate_keys
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings
from plumbline.training import metrics
from plumbline.training.report import Clustered, Interval, Period, Report, Slice

ROWS = 3_000
IMAGE = "ghcr.io/plumbline/model-server@sha256:" + "a" * 64
COMMIT = "c" * 40
LABELS = ("on_time", "late")
CARD = {
    "title": "A toy",
    "owner": "ml@plumbline.dev",
    "intended_use": "Tests.",
    "limits": ["Knows <script>alert(1)</script> nothing."],
    "compliance": {"personal_data": False},
}
SCHEMA: dict[str, Any] = {
    "fields": [
        {"name": "wind", "type": "number", "description": "Speed.", "example": 3.5, "unit": "m/s"},
        {"name": "visibility", "type": "number", "description": "Sight.", "example": 9.0, "unit": "km"},
        {
            "name": "carrier",
            "type": "category",
            "description": "Airline.",
            "example": "UA",
            "required": False,
            "vocabulary": ["UA", "DL", "B6"],
        },
    ],
    "output": {"task": "binary", "name": "late", "description": "Whether it is late.", "labels": list(LABELS)},
}
POLICY: dict[str, Any] = {
    "apiVersion": "plumbline.dev/v1",
    "kind": "PromotionPolicy",
    "metadata": {"name": "toy"},
    "spec": {
        "rules": {
            "images": ["ghcr.io/plumbline/model-server"],
            "metrics": [{"metric": "roc_auc", "bound": "low", "min": 0.6}],
            "beats_baseline": {"metric": "log_loss", "by": 0.01},
            "champion": {"metric": "log_loss", "margin": 0.005, "resamples": 200, "seed": 1},
            "slices": [{"column": "carrier", "metric": "roc_auc", "min": 0.55, "min_rows": 500}],
            "latency_p95_ms": 100,
            "size_mb": 5,
            "parity": {"max_abs_difference": 1e-5, "rows": 10_000},
            "card": ["owner", "intended_use", "limits", "compliance"],
        },
        "environments": {
            "staging": {"lifecycle": "Staging"},
            "production": {"lifecycle": "Production", "after": "staging", "approval": True},
        },
    },
}


@dataclass
class Recipe:
    """What a test wants a run to be."""

    model: str
    noise: float = 0.0
    """0 learns all there is, 1 nothing: features are mixed with noise before training."""
    seed: int = 0
    schema: dict[str, Any] = field(default_factory=lambda: SCHEMA)
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=lambda: CARD)
    native_shift: float = 0.0
    """Added to an output of the native model: what a bad conversion looks like."""
    status: str = "FINISHED"
    report: Callable[[Report], Report] = lambda report: report
    files: dict[str, bytes] = field(default_factory=dict)
    """More artifacts, or others in place of those that belong there."""


ADA = Approver("Ada")
"""Approves for production."""
_numbers = itertools.count(1)


def data(seed: int) -> tuple[dict[str, list[Any]], np.ndarray, np.ndarray]:
    """Rows, their encoded matrix and the truth."""
    generator = np.random.default_rng(seed)
    wind, visibility = generator.normal(5, 2, ROWS), generator.normal(8, 2, ROWS)
    carrier = generator.choice(["UA", "DL", "B6"], ROWS)
    score = 0.8 * (wind - 5) - 0.6 * (visibility - 8) + 0.3 * (carrier == "B6")
    truth = generator.random(ROWS) < 1 / (1 + np.exp(-score))
    rows = {"wind": wind.tolist(), "visibility": visibility.tolist(), "carrier": carrier.tolist()}
    matrix = np.column_stack(
        [wind, visibility, np.nan_to_num([{"UA": 0, "DL": 1, "B6": 2}.get(c, 0) for c in carrier])]
    )
    return rows, matrix.astype(np.float32), truth.astype(int)


@cache
def trained(noise: float, seed: int) -> tuple[bytes, np.ndarray]:
    """A model as ONNX, and its own answers on the holdout rows."""
    generator = np.random.default_rng(seed)
    _, matrix, truth = data(1)
    mixed = (1 - noise) * matrix + noise * generator.normal(5, 2, matrix.shape)
    model = LogisticRegression().fit(mixed, truth)
    onnx = convert_sklearn(
        model, initial_types=[("features", FloatTensorType([None, 3]))], options={"zipmap": False}, target_opset=18
    )
    return onnx.SerializeToString(), model.predict_proba(data(2)[1])


@cache
def judged(noise: float, seed: int) -> Report:
    """The report on the holdout rows; the baseline always answers the mean."""
    rows, _, late = data(2)
    _, native = trained(noise, seed)
    flat = np.tile([1 - late.mean(), late.mean()], (ROWS, 1))
    carrier = np.array(rows["carrier"])
    return Report(
        model="toy",
        metrics=_intervals(late, native),
        baseline=_intervals(late, flat),
        slices=tuple(
            Slice(column="carrier", value=name, rows=int(part.sum()), metrics=_intervals(late[part], native[part]))
            for name in ("UA", "DL", "B6")
            for part in [carrier == name]
        ),
        threshold=0.5,
        train=Period(first=date(2013, 1, 1), last=date(2013, 8, 31), rows=ROWS),
        test=Period(first=date(2013, 9, 1), last=date(2013, 12, 31), rows=ROWS),
        clusters=Clustered(by="", count=ROWS),
        baseline_threshold=0.5,
    )


def _intervals(late: np.ndarray, native: np.ndarray) -> dict[str, Interval]:
    measured = build(Output.model_validate(SCHEMA["output"]), late.astype(float), native, 0.5)
    return metrics.intervals(measured, Clusters.of_rows(len(late)), seed=1, resamples=20)


def artifacts(recipe: Recipe, folder: Path) -> Path:
    """Write bundle/, evaluation/ and plots/ as training does."""
    onnx, native = trained(recipe.noise, recipe.seed)
    schema = ModelSchema.model_validate({**recipe.schema, "model": recipe.model})
    rows, _, late = data(2)
    report = judged(recipe.noise, recipe.seed).model_copy(update={"model": recipe.model})
    table = pa.table(
        {
            **rows,
            "truth": [LABELS[value] for value in late],
            "slice_carrier": rows["carrier"],
            "native_on_time": native[:, 0] + recipe.native_shift,
            "native_late": native[:, 1],
            "_baseline_on_time": np.full(ROWS, 1 - late.mean()),
            "_baseline_late": np.full(ROWS, late.mean()),
        }
    )
    for name in ("bundle", "evaluation", "plots"):
        (folder / name).mkdir(parents=True)
    (folder / "bundle/model.onnx").write_bytes(onnx)
    (folder / "bundle/schema.json").write_text(schema.to_json())
    (folder / "evaluation/report.json").write_text(recipe.report(report).model_dump_json())
    (folder / "evaluation/card.yaml").write_text(yaml.safe_dump(recipe.card))
    pq.write_table(table, folder / "evaluation/holdout.parquet")
    (folder / "plots/roc.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name, content in recipe.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow on its embedded default, a database file and a folder; test_server.py has the real server."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="session")
def client(address: str) -> MlflowClient:
    return MlflowClient(address)


@pytest.fixture(scope="session")
def registry(address: str) -> Registry:
    return Registry(address)


@pytest.fixture(scope="session")
def log_run(client: MlflowClient, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], str]:
    """Log a run as training does; returns its id."""
    return lambda recipe: log(client, recipe, tmp_path_factory.mktemp("run"))


def log(client: MlflowClient, recipe: Recipe, folder: Path) -> str:
    """Log a run as training does; returns its id."""
    name = f"{recipe.model}/training"
    found = client.get_experiment_by_name(name)
    store = (folder / "store").as_uri() if urlparse(client.tracking_uri).scheme == "sqlite" else None
    identity = found.experiment_id if found else client.create_experiment(name, artifact_location=store)
    tags = {
        "model": recipe.model,
        "data.version": "1",
        "data.digest": "sha256:" + "d" * 64,
        "code.commit": COMMIT,
        "code.dirty": "false",
        "workflow": "",
        **recipe.tags,
    }
    run = str(client.create_run(identity, tags={key: value for key, value in tags.items() if value}).info.run_id)
    for key, value in recipe.params.items():
        client.log_param(run, key, value)
    client.log_artifacts(run, str(artifacts(recipe, folder / "artifacts")))
    client.set_terminated(run, recipe.status)
    return run


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return generate_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def standing(
    log_run: Callable[[Recipe], str],
    registry: Registry,
    keys: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Version:
    """A version that tests may judge and must not change."""
    remote = Remote(tmp_path_factory.mktemp("standing"))
    add_model(remote, "toy-standing")
    return register(registry, settings_of(remote, keys), log_run(Recipe("toy-standing"))).version


def settings_of(remote: "Remote", keys: tuple[Path, Path], **more: Any) -> Settings:
    """Those of a remote; one release store for all tests, as of an organisation."""
    store = (keys[0].parent / "releases").as_uri()
    return Settings(repo=remote.url, signing_key=keys[0], public_key=keys[1], store=store, **more)


class Remote:
    """A bare repository, and somebody who works with it by hand."""

    def __init__(self, folder: Path) -> None:
        self.url = str(folder / "remote.git")
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", self.url], check=True)
        self.git("init", "--quiet", "-b", "main")
        self.git("remote", "add", "origin", self.url)

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.work), "-c", "user.name=Ada", "-c", "user.email=ada@plumbline.dev", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def pull(self) -> None:
        self.git("fetch", "--quiet", "origin")
        self.git("reset", "--quiet", "--hard", "origin/main")

    def commit(self, files: dict[str, str | None], message: str = "by hand") -> None:
        """Write (or with None remove) files on the newest main and push."""
        if self.git("ls-remote", "origin", "main"):
            self.pull()
        for name, text in files.items():
            path = self.work / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)
        self.git("push", "--quiet", "origin", "main")

    def release(self, environment: str, model: str) -> Release:
        self.pull()
        return parse_release((self.work / f"clusters/{environment}/models/{model}/release.yaml").read_text())

    def log(self) -> list[str]:
        self.pull()
        return self.git("log", "--format=%s").splitlines()


def add_model(remote: Remote, model: str) -> None:
    """One folder per environment and a gate: what adding a model is."""
    policy = json.loads(json.dumps(POLICY))
    policy["metadata"]["name"] = model
    files: dict[str, str | None] = {
        f"policies/promotion/{model}.yaml": yaml.safe_dump(policy),
        APPROVERS: approvers(ADA.entry(), reviews=True),
    }
    for environment in ("staging", "production"):
        files[f"clusters/{environment}/kustomization.yaml"] = "resources: []\n"
        files[f"clusters/{environment}/models/{model}/kustomization.yaml"] = "resources: []\n"
    remote.commit(files, f"add {model}")


@pytest.fixture
def model() -> str:
    """A name of the test's own, so that tests share one registry."""
    return f"toy-{next(_numbers)}"


@pytest.fixture
def remote(tmp_path: Path, model: str) -> Remote:
    repository = Remote(tmp_path / "git")
    add_model(repository, model)
    return repository


@pytest.fixture
def registered(
    log_run: Callable[[Recipe], str], registry: Registry, settings: Settings, model: str
) -> Callable[..., Version]:
    """Log and register a run of the test's model; returns its version."""

    def make(**recipe: Any) -> Version:
        return register(registry, settings, log_run(Recipe(**{"model": model, **recipe}))).version

    return make


@pytest.fixture
def bump(registry: Registry, settings: Settings, model: str) -> Callable[..., Outcome]:
    """Promote a version of the test's model by commit."""

    def make(version: str, environment: str = "staging", how: How = "commit", **more: Any) -> Outcome:
        request = Request(
            model, version, environment, **{"image": IMAGE, "pull_request": how == "pull request", **more}
        )
        return promote(registry, settings, request, how)

    return make


@pytest.fixture
def settings(remote: Remote, keys: tuple[Path, Path]) -> Settings:
    return settings_of(remote, keys)


@pytest.fixture
def approve(registry: Registry, settings: Settings, model: str, tmp_path: Path) -> Callable[..., str]:
    """Approve a version of the test's model, as Ada or somebody else; returns where git holds it."""

    def make(version: str, by: Approver = ADA, environment: str = "production", image: str = IMAGE) -> str:
        request = Request(model, version, environment, image)
        theirs = settings.model_copy(update={"approver_key": by.key(tmp_path)})
        text, _ = approving.sign(registry, theirs, request, "read the card", timedelta(days=1))
        given, _ = approving.record(settings, request, text)
        return given.approval.path

    return make
