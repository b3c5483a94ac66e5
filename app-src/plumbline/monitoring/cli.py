"""`plumbline monitor`: store the log, read it out, judge experiments and drift."""

import logging
import signal
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from plumbline.core import reach
from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.documents import require
from plumbline.core.durations import duration
from plumbline.core.logs import Json
from plumbline.core.settings import load
from plumbline.monitoring.canary import cli as canary
from plumbline.monitoring.experiment import cli as experiment
from plumbline.monitoring.log.connect import DATABASE, connected, opened
from plumbline.monitoring.log.queries import window
from plumbline.monitoring.log.settings import Settings
from plumbline.monitoring.log.store import Store
from plumbline.monitoring.policy import Drift, read_policy

app = application(__doc__ or "")
app.add_typer(canary.app, name="canary")
app.add_typer(experiment.app, name="experiment")

_EXIT_CODES = {"none": 0, "drift": 10, "inconclusive": 11}


Duration = Annotated[Any, typer.Option(parser=duration, metavar="DURATION")]
DriftPolicies = Annotated[Path, typer.Option(help="The folder with drift/<model>.yaml, if it has one.")]


@app.command()
def consume(until_empty: Annotated[bool, typer.Option(help="Stop when both streams are read.")] = False) -> None:
    """Store the streams `predictions` and `feedback` in PostgreSQL, each entry in effect exactly once."""
    # First of all: a stop that comes while the rest is imported is a clean one too.
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())

    from prometheus_client import REGISTRY

    from plumbline.monitoring.log import port
    from plumbline.monitoring.log.consumer import Consumer
    from plumbline.monitoring.log.metrics import Metrics
    from plumbline.monitoring.quality import Quality

    _log_as_json()
    settings = load(Settings)
    if until_empty:
        reach.redis(str(settings.redis_url), "MONITORING_REDIS_URL")
        reach.postgresql(str(settings.database_url), DATABASE)
    with closing(Store(str(settings.database_url))) as store:
        consumer = Consumer(settings, store, Metrics())
        if settings.metrics_port and not until_empty:
            quality = Quality(store)
            REGISTRY.register(quality)
            threading.Thread(target=quality.run, args=[stop], name="quality", daemon=True).start()
            port.serve(consumer, settings.metrics_port)
        consumer.run(stop, until_empty=until_empty)


@app.command()
def migrate(
    wait: Annotated[
        Any, typer.Option(parser=duration, metavar="DURATION", help="For a server that is starting, e.g. 4m.")
    ] = None,
) -> None:
    """Make the database where it is missing, and bring its tables to this version: before its consumers start."""
    from plumbline.monitoring.log import database

    _log_as_json()
    settings = load(Settings)
    made = database.create(str(settings.database_url), wait or timedelta())
    with opened() as store:
        applied = store.migrate()
    typer.echo("\n".join(["made the database"] * made + [f"applied {name}" for name in applied]) or "nothing to do")


@app.command()
def prune(older_than: Duration) -> None:
    """Drop the partitions of days that ended longer ago than this, and dead letters and drift checks as old."""
    if older_than < timedelta(days=1):
        raise typer.BadParameter("the log is dropped by whole days; expected at least 1d", param_hint="--older-than")
    with opened() as store:
        store.migrate()
        dropped = store.prune((datetime.now(UTC) - older_than).date())
    typer.echo("\n".join(f"dropped {name}" for name in dropped) or "nothing is that old")


@app.command()
def readout(
    model: Annotated[str, typer.Option()],
    since: Duration = None,
    policies: DriftPolicies = Path("policies"),
    as_json: AsJson = False,
) -> None:
    """What each version did in each role and arm: counts, quality, scores and business value, with 95 % intervals.

    Quality is the metric that the policy judges live answers by, else accuracy or absolute error.
    """
    from plumbline.monitoring.experiment import readout as readouts

    span, quality = window(model, since and datetime.now(UTC) - since), _drift_policy(policies, model).quality
    with connected() as connection:
        log_lines = readouts.read(connection, span, quality, str(_drift_path(policies, model)))
    if as_json:
        print_json(readouts.as_json(log_lines))
    else:
        typer.echo(readouts.as_table(log_lines))


@app.command()
def drift(
    model: Annotated[str, typer.Option()],
    out: Annotated[Path, typer.Option(help="Folder for the page and the verdict.")],
    reference: Annotated[Path | None, typer.Option(help="A run's evaluation/holdout.parquet.")] = None,
    run: Annotated[str | None, typer.Option(help="The MLflow run to fetch that file from.")] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0.01, help="Length of the window that ends now; the policy's windows if not given."),
    ] = None,
    version: Annotated[str | None, typer.Option(help="Whose answers; the run's if not given.")] = None,
    policies: DriftPolicies = Path("policies"),
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 10 for drift, 11 for inconclusive.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the log with the data that a model was judged on, and leave a page, a verdict and metrics.

    The file `verdict` holds one word, drift, none or inconclusive: an Argo Workflow branches on it.
    """
    if (reference is None) == (run is None):
        raise typer.BadParameter("give either --reference or --run")
    from plumbline.monitoring.drift import checks
    from plumbline.monitoring.drift import data as drift_data
    from plumbline.monitoring.drift import report as drift_files
    from plumbline.monitoring.drift.blocks import Window
    from plumbline.monitoring.drift.judge import judge, windows

    until, policy = datetime.now(UTC), _drift_policy(policies, model)
    spans = windows(policy, hours)
    if run:
        version = drift_data.version_of(model, run, version)
    before, schema = (drift_data.from_holdout(reference), None) if reference else drift_data.from_run(run or "")
    require(policy.faults(before.output, before.fields), str(_drift_path(policies, model)))
    with connected() as connection:
        version = version or drift_data.only_version(connection, model, until - spans[-1], until)
        sides = [drift_data.from_log(connection, policy, until - span, until, version) for span in spans]
    if schema:
        drift_data.require_rows(schema, sides[-1], f"the log of {model} {version}")
        sides = [drift_data.as_compared(schema, side) for side in sides]
    judged = [
        judge(before, now, policy, Window(until, span, len(spans)), version or "")
        for span, now in zip(spans, sides, strict=True)
    ]
    check = drift_files.telling(judged)
    drift_files.write(check, out)
    with opened() as store, store.connection() as connection:
        checks.keep(connection, drift_files.as_json(check))
    if as_json:
        print_json(drift_files.as_json(check))
    else:
        kinds = [f"  {kind}: {verdict}" for kind, verdict in check.kinds.items()]
        answers = f"  {check.rows:,} rows answered by {version or 'no version'}, {check.labelled:,} of them labelled"
        others = [f"  {(one.until - one.since).total_seconds() / 3600:g} hours: {one.verdict}" for one in judged]
        reason = [f"  {check.reason}"] if check.reason else []
        typer.echo("\n".join([check.verdict, *kinds, *(others if len(judged) > 1 else []), answers, *reason]))
    raise typer.Exit(_EXIT_CODES[check.verdict] if exit_code else 0)


@app.command()
def alert(
    name: Annotated[str, typer.Option(help="What happened, e.g. WorkflowFailed.")],
    subject: Annotated[str, typer.Option(help="To which Workflow or model.")],
    text: Annotated[str, typer.Option(help="What a person should know, or a Workflow's list of failed nodes.")],
    url: Annotated[str, typer.Option(envvar="MONITORING_ALERTMANAGER_URL", help="Alertmanager's address.")],
) -> None:
    """Send one alert to Alertmanager, and to the log."""
    from plumbline.monitoring.alert import readable, send

    typer.echo(f"{name}: {subject}\n{readable(text)}")
    send(url, name, subject, text)


def _drift_path(policies: Path, model: str) -> Path:
    return policies / "drift" / f"{model}.yaml"


def _drift_policy(policies: Path, model: str) -> Drift:
    path = _drift_path(policies, model)
    return read_policy(path, Drift, model) if path.exists() else Drift(model=model)


def _log_as_json() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(Json())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # The pool repeats for every connection what the consumer says once for every try.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
