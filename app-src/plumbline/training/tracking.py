"""MLflow: experiments, the run that all steps write into, its nested runs, and the search for runs.

MLflow takes 3 s to import, so each function imports it itself: `training --help` and the data steps do without.
"""

import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from plumbline.core import reach
from plumbline.core.errors import Accident
from plumbline.training.model import Params
from plumbline.training.provenance import code_version
from plumbline.training.report import Interval
from plumbline.training.work import DataVersion, Work

_METRICS_OF_A_CALL = 500
log = logging.getLogger(__name__)


class Run(BaseModel):
    """The run that a work directory writes into: `run.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    experiment: str


def open_run(work: Work) -> Run:
    """Begin the parent run, or take up the one that this work directory has."""
    import mlflow

    path = work.root / "run.json"
    if path.exists():
        run = work.read(path, Run)
        mlflow.MlflowClient().update_run(run.id, status="RUNNING")
        return run
    settings, data = work.settings, work.read(work.data_version, DataVersion)
    experiment = _experiment(settings.experiment)
    commit, dirty = code_version(settings.model)
    tags = {
        "model": settings.model,
        "data.version": data.version,
        "data.digest": data.digest,
        "code.commit": commit,
        "code.dirty": str(dirty).lower(),
        "workflow": os.environ.get("TRAINING_WORKFLOW", ""),
        # MLflow's own tag; who signs in there is told from who approves.
        "mlflow.user": os.environ.get("MLFLOW_TRACKING_USERNAME") or os.environ.get("USER", ""),
    }
    name = (
        f"{settings.model} {datetime.now(UTC):%Y-%m-%d %H:%M:%S} {settings.sample * 100:g} % of the rows, "
        f"{settings.trials} trials, {commit[:7]}{'+' if dirty else ''}"
    )
    created = mlflow.MlflowClient().create_run(experiment, run_name=name, tags={**tags, "mlflow.runName": name})
    run = Run(id=created.info.run_id, experiment=settings.experiment)
    work.write(path, run)
    with parent(work):
        mlflow.log_params({"sample": settings.sample, "trials": settings.trials, "seed": settings.seed})
    return run


def _experiment(name: str) -> str:
    """The experiment's id; made if it is not there, with tags by which a model's experiments are found."""
    import mlflow
    from mlflow.exceptions import MlflowException

    model, _, purpose = name.partition("/")
    client = mlflow.MlflowClient()
    if (experiment := client.get_experiment_by_name(name)) is None:
        try:
            return client.create_experiment(name, tags={"model": model, "purpose": purpose})
        except MlflowException:
            # Somebody else made it between the two calls.
            if (experiment := client.get_experiment_by_name(name)) is None:
                raise
    return str(experiment.experiment_id)


@contextmanager
def parent(work: Work) -> Iterator[str]:
    """Write into the parent run, which runs on until `finish`: MLflow's own block would call it finished each time."""
    import mlflow

    run = work.read(work.root / "run.json", Run)
    mlflow.set_experiment(run.experiment)
    mlflow.start_run(run_id=run.id)
    status = "FAILED"
    try:
        yield run.id
        status = "RUNNING"
    finally:
        mlflow.end_run(status)


@contextmanager
def child(work: Work, name: str, tags: Mapping[str, str]) -> Iterator[str]:
    """A nested run; it carries the parent's model and data tags, so that it is found alone as well."""
    import mlflow

    run = work.read(work.root / "run.json", Run)
    data = work.read(work.data_version, DataVersion)
    inherited = {"model": work.settings.model, "data.version": data.version, "data.digest": data.digest}
    mlflow.set_experiment(run.experiment)
    with mlflow.start_run(run_name=name, parent_run_id=run.id, tags={**inherited, **tags}) as nested:
        yield str(nested.info.run_id)


@contextmanager
def autologging() -> Iterator[None]:
    """Whatever is fitted inside is logged by MLflow itself: parameters, learning curves, training scores.

    Models and data sets are logged once, by hand, with what belongs to them. Switching it costs a second and more.
    """
    import mlflow.sklearn
    import mlflow.xgboost

    def switch(on: bool) -> None:
        shared = {"log_models": False, "log_datasets": False, "silent": True, "disable": not on}
        mlflow.xgboost.autolog(**shared)
        mlflow.sklearn.autolog(log_post_training_metrics=False, **shared)

    switch(True)
    try:
        yield
    finally:
        switch(False)


def log_params(params: Params) -> None:
    """The parameters under the names that the search knows them by."""
    import mlflow

    mlflow.log_params({f"search_{name}": value for name, value in params.items()})


def log_metrics(values: Mapping[str, float]) -> None:
    """Metrics of the run that is open, in as many calls as MLflow wants: a hundred labels have over a thousand."""
    import mlflow

    items = list(values.items())
    for first in range(0, len(items), _METRICS_OF_A_CALL):
        mlflow.log_metrics(dict(items[first : first + _METRICS_OF_A_CALL]))


def log_report(metrics: Mapping[str, Interval], baseline: Mapping[str, Interval], threshold: float | None) -> None:
    """The metrics on the test window, with their intervals, beside the baseline's."""
    values = {}
    for prefix, group in (("", metrics), ("baseline_", baseline)):
        for name, interval in group.items():
            values[prefix + name] = interval.value
            values[f"{prefix}{name}_low"], values[f"{prefix}{name}_high"] = interval.low, interval.high
    log_metrics(values if threshold is None else {**values, "threshold": threshold})


def log_data(work: Work, rows: int, context: str) -> None:
    """Name the data in the run's inputs: DVC's version as digest, the stage of dvc.yaml as source.

    With rows of the log the version is longer than MLflow takes, and the digest is that of all files.
    """
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    data, model = work.read(work.data_version, DataVersion), work.settings.model
    source = CodeDatasetSource({"dvc.stage": f"{model}/dvc.yaml:data", "data.digest": data.digest})
    # Only what is known of the data is logged: letting MLflow look at each row takes a minute and more.
    digest = data.digest.removeprefix("sha256:")[:32] if "+" in data.version else data.version.removesuffix(".dir")
    dataset = MetaDataset(source, name=model, digest=digest)  # type: ignore[abstract]
    mlflow.log_input(dataset, context, tags={"rows": str(rows)})
    mlflow.log_metric(f"rows_{context}", rows)


def finish(work: Work) -> str:
    """End the run well; returns its id."""
    import mlflow

    run = work.read(work.root / "run.json", Run)
    mlflow.MlflowClient().set_terminated(run.id, "FINISHED")
    return run.id


def tag(run: str, name: str, value: str) -> None:
    """Say something more of a run."""
    import mlflow

    mlflow.MlflowClient().set_tag(run, name, value)


def data_version(run: str) -> str:
    """Which data a run learnt; empty where it does not say."""
    import mlflow

    return str(mlflow.MlflowClient().get_run(run).data.tags.get("data.version", ""))


def kept_run(model: str, digest: str) -> str:
    """The run of `<model>/data` that keeps the file of this digest; empty where there is none."""
    import mlflow

    client = mlflow.MlflowClient()
    if (experiment := client.get_experiment_by_name(f"{model}/data")) is None:
        return ""
    where = f"tags.\"data.digest\" = '{digest}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment.experiment_id], where, max_results=1)
    return runs[0].info.run_id if runs else ""


def keep_file(model: str, digest: str, path: Path) -> str:
    """Keep a file in a run of `<model>/data`; returns the run's id."""
    import mlflow

    client = mlflow.MlflowClient()
    run = client.create_run(_experiment(f"{model}/data"), run_name=path.stem[:12], tags={"data.digest": digest})
    client.log_artifact(run.info.run_id, str(path))
    client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)


def abandon(work: Work, status: Literal["FAILED", "KILLED"]) -> None:
    """End the run badly, if one was begun; an MLflow that is away by now is said, for the failure itself is worse."""
    import mlflow
    from mlflow.exceptions import MlflowException

    path = work.root / "run.json"
    if not path.exists():
        return
    run = work.read(path, Run)
    try:
        reach.tracking_server()
        mlflow.MlflowClient().set_terminated(run.id, status)
        log.error("run %s is %s", run.id, status)
    except (Accident, MlflowException) as error:
        log.error("run %s is %s, and MLflow calls it RUNNING: %s", run.id, status, error)


def report(model: str, workflow: str, status: str) -> list[str]:
    """Tag a Workflow's runs with how it ended, and fail those that it left unfinished; returns their ids."""
    import mlflow

    runs = find(model, where=f"tags.workflow = '{workflow}'")
    if runs is None or runs.empty:
        return []
    client = mlflow.MlflowClient()
    for run_id, state in zip(runs["run_id"], runs["status"], strict=True):
        client.set_tag(run_id, "workflow.status", status)
        if state == "RUNNING":
            client.set_terminated(run_id, "FAILED")
    return list(runs["run_id"])


def find(model: str, *, where: str = "", order: str = "attributes.start_time DESC", limit: int = 20) -> Any:
    """Parent runs of a model over all its experiments, as a frame: MLflow's search, with the hierarchy built in.

    `where` is MLflow's filter, e.g. `metrics.roc_auc > 0.7 and tags.data.digest = 'sha256:…'`.
    """
    import mlflow

    experiments = mlflow.search_experiments(filter_string=f"name LIKE '{model}/%'")
    ids = [experiment.experiment_id for experiment in experiments]
    kept = " and ".join(filter(None, [f"tags.model = '{model}'", "params.trials != ''", where]))
    return mlflow.search_runs(ids, filter_string=kept, order_by=[order], max_results=limit) if ids else None


def log_folder(folder: Path, name: str) -> None:
    """The files of a folder as artifacts of the run that is open."""
    import mlflow

    mlflow.log_artifacts(str(folder), name)


def log_model(library: str, estimator: Any) -> None:
    """The native model in MLflow's own format; XGBoost as JSON, LightGBM as text, scikit-learn as skops: no pickle."""
    import skops.io  # type: ignore[import-untyped]

    from plumbline.training.converters import FLAVOURS

    package, module = FLAVOURS[library]
    flavour = importlib.import_module(module)
    # Named here, as MLflow would find them out by loading the model in another process, for 10 s and more.
    options: dict[str, Any] = {"pip_requirements": [f"{package}=={version(package)}", f"numpy=={version('numpy')}"]}
    if library == "xgboost":
        options["model_format"] = "json"
    if library == "lightgbm":
        estimator = estimator.booster_  # the estimator around it would be pickled
    if library == "sklearn":
        # skops holds no code; the types listed are those of the estimator that was fitted right here.
        trusted = skops.io.get_untrusted_types(data=skops.io.dumps(estimator))
        options.update(serialization_format="skops", skops_trusted_types=trusted)
    flavour.log_model(estimator, name="model", **options)
