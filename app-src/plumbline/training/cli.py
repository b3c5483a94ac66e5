"""`plumbline train`: the steps one by one (as a Workflow's pods run them) or all in a row, and what belongs to them."""

import logging
import os
import signal
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.core import reach
from plumbline.core.commands import AsJson, application
from plumbline.core.durations import duration
from plumbline.core.errors import Accident, Inconclusive, Misuse, Refused
from plumbline.core.settings import load

if TYPE_CHECKING:
    from plumbline.training.work import Settings

app = application(__doc__ or "")
ModelOption = Annotated[str, typer.Option("--model", help="its folder in TRAINING_MODELS")]
WorkOption = Annotated[
    Path, typer.Option("--work", file_okay=False, help="folder through which the steps hand on their results")
]
KeptOption = Annotated[
    Path | None,
    typer.Option("--work", file_okay=False, help="kept, so that a broken run is taken up; else temporary"),
]
SampleOption = Annotated[float, typer.Option(help="share of the rows to train and choose on")]
TrialsOption = Annotated[int, typer.Option(help="hyperparameter trials")]
ExperimentOption = Annotated[str, typer.Option(help="<model>/<purpose>; <model>/training if not given")]
SeedOption = Annotated[int, typer.Option(help="of all that is random")]
SAMPLE_TRIALS, TRIALS = 3, 10


@app.callback()
def _set_up() -> None:
    """Configure logging for all commands."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("plumbline.training").setLevel(logging.INFO)
    for name in ("mlflow", "alembic", "skl2onnx", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns that an environment made by uv has no pip, and scikit-learn of a name that MLflow itself uses.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*was renamed to `y_proba`", category=FutureWarning)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # Threads that spin while they wait cost more than they gain on shared cores, and a sum that is split over as many
    # threads as there are cores has other last digits on another machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _settings(model: str, sample: float, trials: int, experiment: str, seed: int) -> "Settings":
    from plumbline.training.model import folder_of
    from plumbline.training.work import Settings

    trials = trials or (SAMPLE_TRIALS if sample < 1 else TRIALS)
    experiment = experiment or f"{model}/training"
    settings = load(Settings, model=model, experiment=experiment, sample=sample, trials=trials, seed=seed)
    folder_of(model)  # a model that is not there is said before a server is asked
    return settings


@app.command()
def run(
    model: ModelOption,
    sample: SampleOption = 1.0,
    trials: TrialsOption = 0,
    experiment: ExperimentOption = "",
    seed: SeedOption = 0,
    work: KeptOption = None,
) -> None:
    """All steps in a row; the last line is `run <id of the MLflow run>`."""
    settings = _settings(model, sample, trials, experiment, seed)
    reach.tracking_server(patient=True)
    typer.echo(f"run {_all_steps(settings, work)}")


def _all_steps(settings: "Settings", work: Path | None) -> str:
    from plumbline.training import steps
    from plumbline.training.work import Work

    # What stops a pod or a CI job ends the run like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="training-") as temporary:
        return steps.run_all(Work(work or Path(temporary)), settings)


@app.command()
def rerun(
    run: Annotated[str, typer.Argument(metavar="RUN", help="id of a finished run")],
    anyway: Annotated[bool, typer.Option("--anyway", help="also with other code or data than the run's")] = False,
    work: KeptOption = None,
) -> None:
    """Train once more as a run was, and compare: ends with 10 where metrics or bytes of the model differ."""
    from plumbline.training import rerun as again
    from plumbline.training import tracking

    reach.tracking_server(patient=True)
    before = again.recorded(run)
    if others := list(again.differences_here(before)):
        typer.echo("\n".join(others), err=True)
        if not anyway:
            raise Refused(
                f"run {run} can't be made again here, as {len(others)} things differ; --anyway trains all the same"
            )
    made = _all_steps(before.settings, work)
    tracking.tag(made, "rerun.of", run)
    changed = list(again.differences(before, after := again.recorded(made)))
    typer.echo(
        "\n".join(changed) or f"the same: {len(after.metrics)} metrics, and model.onnx and schema.json byte by byte"
    )
    typer.echo(f"run {made}")
    if changed:
        raise typer.Exit(Refused.exit_code)


@app.command()
def collect(
    model: ModelOption,
    since: Annotated[Any, typer.Option(parser=duration, metavar="DURATION", help="of the log")] = "90d",
    place: Annotated[str, typer.Option(help="the folder of the models in git")] = "app-src/models",
    run: Annotated[str, typer.Option(help="of the version that is served: has git newer data than it learnt?")] = "",
    verdict_file: Annotated[Path | None, typer.Option(help="gets one word: ready, proposed or known")] = None,
) -> None:
    """Make labelled answers of the log the model's next data: in MLflow by digest, in git by pull request.

    `ready`: git has newer data than --run learnt, so training comes first. `known`: git has these very rows. Too few
    days are inconclusive (exit code 11), with a file the word `few`.
    """
    from plumbline.training.collect import bring
    from plumbline.training.model import load as load_model

    definition = load_model(model)
    reach.tracking_server()
    try:
        word, told = bring(definition, since, place, run)
    except Inconclusive as error:
        if verdict_file is None:
            raise
        word, told = "few", str(error)
    typer.echo(told)
    if verdict_file is not None:
        verdict_file.write_text(word + "\n", encoding="utf-8")


@app.command()
def data(
    model: ModelOption,
    work: WorkOption,
    sample: SampleOption = 1.0,
    trials: TrialsOption = 0,
    experiment: ExperimentOption = "",
    seed: SeedOption = 0,
) -> None:
    """First step: begin a run in the work folder and get the data that dvc.lock pins."""
    from plumbline.training import steps
    from plumbline.training.work import Work

    here, settings = Work(work), _settings(model, sample, trials, experiment, seed)
    reach.tracking_server(patient=True)
    steps.run("data", lambda: steps.fetch(here, settings), here)


def _step(name: str, work: Path) -> None:
    from plumbline.training import steps
    from plumbline.training.work import Work

    if name not in ("validate", "features"):
        reach.tracking_server(patient=True)
    here = Work(work)
    steps.run(name, lambda: steps.STEPS[name](here), here)


@app.command()
def validate(work: WorkOption) -> None:
    """Check the raw tables against their schemas."""
    _step("validate", work)


@app.command()
def features(work: WorkOption) -> None:
    """Join the views as of each row's moment, split by time, fill the vocabularies."""
    _step("features", work)


@app.command()
def search(
    work: WorkOption,
    part: Annotated[int, typer.Option(help="which part of the trials, from 0")] = 0,
    parts: Annotated[int, typer.Option(help="over how many processes or pods the trials are spread")] = 1,
) -> None:
    """Run the trials of one part, as nested MLflow runs; the trials are the same however they are spread."""
    from plumbline.training import search as searching
    from plumbline.training import steps
    from plumbline.training.work import Work

    reach.tracking_server(patient=True)
    here = Work(work)
    steps.run(
        "search" if parts == 1 else f"search-{part}", lambda: f"{searching.search(here, part, parts)} trials", here
    )


@app.command()
def train(
    work: WorkOption,
    trials: Annotated[Path | None, typer.Option(help="JSON list of trials that ran elsewhere")] = None,
) -> None:
    """Fit the baseline, and the candidate with the parameters of the best trial."""
    from plumbline.training import search as searching
    from plumbline.training.work import Work

    if trials is not None:
        searching.accept(Work(work), trials)
    _step("train", work)


@app.command()
def evaluate(work: WorkOption) -> None:
    """Judge on the test window: report, slices, plots, held-out rows."""
    _step("evaluate", work)


@app.command()
def convert(work: WorkOption) -> None:
    """Write the ONNX bundle and compare it with the native model."""
    _step("convert", work)


@app.command()
def finish(work: WorkOption) -> None:
    """Last step: end the MLflow run; prints `run <id>`."""
    from plumbline.training import tracking
    from plumbline.training.work import Work

    reach.tracking_server(patient=True)
    typer.echo(f"run {tracking.finish(Work(work))}")


@app.command()
def report(
    model: ModelOption,
    workflow: Annotated[str, typer.Option(help="its name, as in TRAINING_WORKFLOW")],
    status: Annotated[str, typer.Option(help="how it ended: Succeeded, Failed or Error")],
) -> None:
    """When a Workflow has ended: tag its MLflow runs with how, and fail those that it left unfinished."""
    from plumbline.training import tracking

    reach.tracking_server()
    for run in tracking.report(model, workflow, status):
        typer.echo(f"run {run} {status}")


@app.command()
def fetch(
    model: ModelOption, out: Annotated[Path, typer.Option(help="folder to write; replaced if it is there")]
) -> None:
    """Write a model's raw data, unchecked: what dvc.yaml runs to make a new version of them."""
    from plumbline.training.model import load, own_code
    from plumbline.training.work import written

    definition = load(model)
    with written(out) as temporary, own_code("fetch()"):
        temporary.mkdir()
        definition.fetch(temporary)


@app.command()
def materialise(
    redis_url: Annotated[str, typer.Option(envvar="FEATURES_REDIS_URL", help="the online store")],
    model: Annotated[str, typer.Option(help="its folder in TRAINING_MODELS; every model's views if not given")] = "",
    data: Annotated[
        Path | None,
        typer.Option(help="raw tables in place of the declared sources: those of `plumbline train fetch`, say"),
    ] = None,
    as_of: Annotated[str, typer.Option(help="moment whose newest values are written, e.g. 2013-12-30T12:00Z")] = "now",
    replay: Annotated[bool, typer.Option(help="store old values as if they were of now, for a demonstration")] = False,
) -> None:
    """Write the newest values of views to the online store, from the sources that the models' folders declare."""
    import pandas as pd

    from plumbline.training.materialise import fill
    from plumbline.training.materialise import materialise as write
    from plumbline.training.model import names_of

    if data is None and (replay or as_of != "now"):
        raise typer.BadParameter("another moment is for --data: a source says what is so now")
    if data is not None and not model:
        raise typer.BadParameter("--data are the tables of one model: name it with --model")
    now = pd.Timestamp.now(tz="UTC")
    try:
        moment = now if as_of == "now" else pd.Timestamp(as_of)
        moment = moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")
    except ValueError as error:
        raise typer.BadParameter(f"{as_of!r} is no moment; expected one like 2013-12-30T12:00Z") from error
    reach.redis(redis_url, "FEATURES_REDIS_URL")
    if data is not None:
        for view, count in write(model, data, redis_url, moment, now if replay else moment).items():
            typer.echo(f"{view}: {count} entities as of {moment.isoformat()}")
        return
    faults = []
    for name in [model] if model else names_of():
        try:
            for view, count in fill(name, redis_url, now).items():
                typer.echo(f"{name}, {view}: {count} entities as of {now.isoformat()}")
        except (Accident, Misuse) as error:  # one model's source or folder is not another's matter
            faults.append(str(error))
    if faults:
        raise Accident("; ".join(faults))


@app.command()
def runs(
    model: ModelOption,
    where: Annotated[str, typer.Option(help='MLflow filter, e.g. "metrics.roc_auc > 0.7"')] = "",
    order: Annotated[str, typer.Option(help='e.g. "metrics.roc_auc DESC"')] = "attributes.start_time DESC",
    limit: int = 20,
    as_json: AsJson = False,
) -> None:
    """Find runs of a model over its experiments, by metric, parameter or tag."""
    from plumbline.training import tracking

    reach.tracking_server()
    matching = tracking.find(model, where=where, order=order, limit=limit)
    if as_json:
        typer.echo("[]" if matching is None else matching.to_json(orient="records", date_format="iso", indent=2))
        return
    if matching is None or matching.empty:
        typer.echo(f"no runs of {model} match")
        return
    columns = [
        name
        for name in (
            "run_id",
            "status",
            "tags.semver",
            "tags.code.commit",
            "tags.data.version",
            "metrics.roc_auc",
            "metrics.rmse",
        )
        if name in matching.columns and matching[name].notna().any()
    ]
    typer.echo(matching[columns].to_string(index=False))
