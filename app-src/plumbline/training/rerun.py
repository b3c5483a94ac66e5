"""The same training once more: what a run recorded, what is different here, and whether the result is the same."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from plumbline.core.artifact import MODEL, SCHEMA
from plumbline.core.digests import sha256
from plumbline.core.errors import Accident, Misuse
from plumbline.training.data import pinned
from plumbline.training.model import folder_of
from plumbline.training.provenance import code_version, unchanged_since
from plumbline.training.work import Settings

_TAGS = ("model", "data.version", "code.commit", "code.dirty")
_PARAMETERS = ("sample", "trials", "seed")


@dataclass(frozen=True)
class Recorded:
    """What MLflow has of a run."""

    id: str
    settings: Settings
    commit: str
    dirty: bool
    data: str
    """DVC's version."""
    metrics: Mapping[str, float]
    files: Mapping[str, str]
    """{file of bundle/: its digest}."""


def recorded(run_id: str) -> Recorded:
    """Read a run; raises Misuse where MLflow has none of this id, or it is not a whole training that is finished."""
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    try:
        run = client.get_run(run_id)
        experiment = client.get_experiment(run.info.experiment_id).name
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise Accident(f"MLflow: {error.message}") from error
        raise Misuse(
            f"RUN: MLflow has no run {run_id!r}: {error.message}; `plumbline train runs` lists them"
        ) from error
    tags, parameters = run.data.tags, run.data.params
    if missing := [*(name for name in _TAGS if name not in tags), *(n for n in _PARAMETERS if n not in parameters)]:
        raise Misuse(f"RUN: {run_id} has no {', '.join(missing)}: it is no whole training, but perhaps a trial of one")
    if run.info.status != "FINISHED":
        raise Misuse(
            f"RUN: {run_id} is {run.info.status}: there is no result to compare with; use `plumbline train run`"
        )
    with tempfile.TemporaryDirectory(prefix="rerun-") as folder:
        bundle = Path(download_artifacts(run_id=run_id, artifact_path="bundle", dst_path=folder))
        files = {name: sha256((bundle / name).read_bytes()) for name in (MODEL, SCHEMA)}
    values = {name: parameters[name] for name in _PARAMETERS}
    return Recorded(
        id=run_id,
        settings=Settings.model_validate({"model": tags["model"], "experiment": experiment, **values}),
        commit=tags["code.commit"],
        dirty=tags["code.dirty"] != "false",
        data=tags["data.version"],
        metrics=run.data.metrics,
        files=files,
    )


def differences_here(run: Recorded) -> Iterator[str]:
    """What is not here as it was when the run was made: a line each, with what to do."""
    model = run.settings.model
    commit, dirty = code_version(model)
    if commit != run.commit and not unchanged_since(model, run.commit):
        yield f"code: the run's commit is {run.commit}, here is {commit}; `git checkout {run.commit}`"
    if dirty:
        yield "code: here are changes that no commit has; commit them or take them back"
    if run.dirty:
        yield "code: the run was made with changes that no commit has, and nobody can bring them back"
    if (version := pinned(folder_of(model))) != run.data:
        yield f"data: the run's version is {run.data}, dvc.lock here pins {version}; the run's commit has its dvc.lock"


def differences(before: Recorded, after: Recorded) -> Iterator[str]:
    """What came out otherwise: files of the bundle, then metrics."""
    for name in (MODEL, SCHEMA):
        if before.files[name] != after.files[name]:
            yield f"{name}: {before.files[name][:19]}… before, {after.files[name][:19]}… now"
    for name in sorted(before.metrics.keys() | after.metrics.keys()):
        one, other = before.metrics.get(name), after.metrics.get(name)
        if one != other:
            shown = ["none" if value is None else f"{value:.6g}" for value in (one, other)]
            yield f"{name}: {shown[0]} before, {shown[1]} now"
