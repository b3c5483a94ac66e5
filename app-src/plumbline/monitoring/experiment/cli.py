"""`plumbline monitor experiment`: judge treatment against control, say what that needs, and write its route."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.documents import require
from plumbline.core.durations import duration
from plumbline.core.errors import Inconclusive, Misuse, Refused
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.monitoring.log.connect import connected
from plumbline.monitoring.policy import read_policy

if TYPE_CHECKING:
    from plumbline.monitoring.experiment.rows import ExperimentLog
    from plumbline.scoring.scorer import Scorer

app = application(__doc__ or "", invoke_without_command=True)
Duration = Annotated[Any, typer.Option(parser=duration, metavar="DURATION")]
Policies = Annotated[Path, typer.Option(help="The folder with experiments/<model>.yaml.")]
_POLICIES = Path("policies")
_ENDED = timedelta(days=1)
"""Without an answer of treatment for so long, no experiment runs."""


@app.callback()
def judge(
    context: typer.Context,
    model: Annotated[str, typer.Option()] = "",
    since: Duration = None,
    policies: Policies = _POLICIES,
    control: Annotated[Path | None, typer.Option(help="Control's release.yaml; from git if not given.")] = None,
    treatment: Annotated[Path | None, typer.Option(help="Treatment's release.yaml; from git if not given.")] = None,
    public_key: Annotated[
        Path | None, typer.Option(envvar="PROMOTION_PUBLIC_KEY", help="Signatures of replayed models are checked.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Store the verdict for the analysis, and end with 0.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 10 for rollback, 11 for continue.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge treatment against control by the policy: promote, rollback, continue or inconclusive (exit code 11).

    The first line says the verdict. Without --since the experiment begins with treatment's newest version.
    """
    if context.invoked_subcommand is not None:
        return
    if not model:
        raise typer.BadParameter("give --model", param_hint="--model")
    from plumbline.monitoring.experiment import rows, told, verdict, verdicts

    if keep and not _path(policies, model).exists():
        typer.echo(f"{model} has no experiments: {_path(policies, model)} is not there")
        return
    path, policy = _policy(policies, model)
    now = datetime.now(UTC)
    with connected() as connection:
        log = rows.read(connection, policy, since and now - since)
    if keep and (log.versions.last is None or log.versions.last < now - _ENDED):
        typer.echo(f"{model}: nobody has got treatment for a day")
        return
    if log.rows:
        require(policy.faults(labels=log.answers_labels), str(path))
    data = log.data
    try:
        due = verdict.due_looks(policy, data.days)
        if policy.replays and due and log.rows and not data.faults and None not in _both(log):
            with _scorers(log, model, control, treatment, public_key) as (before, after):
                from plumbline.monitoring.experiment.replay import pairs

                data = replace(data, pairs=pairs(policy, log.rows, before, after))
        result = verdict.judge(policy, data)
    except Inconclusive as error:
        result = verdict.Result("inconclusive", str(error), float("nan"))
    document = told.as_json(model, result, log.versions, now)
    if keep:
        with connected() as connection:
            verdicts.keep(connection, document)
    if as_json:
        print_json(document)
    else:
        typer.echo(told.as_text(result, log.versions))
    if not keep:
        raise typer.Exit(_code(result.verdict, asked=exit_code))


@app.command()
def plan(
    model: Annotated[str, typer.Option()],
    callers: Annotated[
        int | None, typer.Option(min=1, help="Callers of both arms; read from the log if absent.")
    ] = None,
    rows_per_day: Annotated[int | None, typer.Option(min=1, help="Labelled rows a day, with --callers.")] = None,
    since: Annotated[Any, typer.Option(parser=duration, metavar="DURATION", help="Of the log's traffic.")] = "28d",
    policies: Policies = _POLICIES,
    as_json: AsJson = False,
) -> None:
    """Say how many weeks, rows and callers the policy needs at the present traffic, or at one that is given."""
    from dataclasses import asdict

    from plumbline.monitoring.experiment import plan as plans

    if (callers is None) != (rows_per_day is None):
        raise typer.BadParameter("give both --callers and --rows-per-day, or neither for the traffic of the log")
    path, policy = _policy(policies, model)
    if callers is not None and rows_per_day is not None:
        traffic = plans.Traffic(callers, rows_per_day)
    else:
        with connected() as connection:
            traffic = plans.measured(connection, model, datetime.now(UTC) - since)
        if not traffic.callers or not traffic.rows_per_day:
            raise Inconclusive(
                f"{path}: the log has no labelled rows of callers of {model} in that time;"
                " give --callers and --rows-per-day"
            )
    needed = plans.needs(policy, traffic)
    if as_json:
        print_json({"traffic": asdict(traffic), "needs": [asdict(need) for need in needed]})
    else:
        typer.echo(plans.as_text(policy, traffic, needed))


@app.command()
def route(
    model: Annotated[str, typer.Option()],
    policies: Policies = _POLICIES,
) -> None:
    """Write policies/experiments/<model>/kustomization.yaml: who gets treatment, by the policy's share and salt."""
    from plumbline.monitoring.experiment import route as routes

    _, policy = _policy(policies, model)
    path = routes.path(policies, model)
    path.parent.mkdir(exist_ok=True)
    path.write_text(routes.text(policy), encoding="utf-8")
    typer.echo(f"wrote {path}")


def _both(log: "ExperimentLog") -> tuple[str | None, str | None]:
    """The two versions, as far as they answered."""
    return log.versions.control, log.versions.treatment


@contextmanager
def _scorers(
    log: "ExperimentLog", model: str, control: Path | None, treatment: Path | None, public_key: Path | None
) -> "Iterator[tuple[Scorer, Scorer]]":
    """Both versions, fetched and verified: from the releases that are given, else from git's history."""
    from plumbline.core.release import read_release
    from plumbline.scoring.scorer import Scorer

    if public_key is None or not public_key.is_file():
        raise Misuse("PROMOTION_PUBLIC_KEY (--public-key): expected the PEM file that both models are verified with")
    with ExitStack() as stack:
        scorers = []
        for path, version in zip((control, treatment), _both(log), strict=True):
            release = read_release(path) if path is not None else _from_git(model, version or "")
            if (release.model, release.spec.version) != (model, version):
                raise Misuse(f"{path}: is {release.model} {release.spec.version}, the log has {model} {version}")
            scorers.append(stack.enter_context(Scorer.fetch(release, path or Path("release.yaml"), public_key)))
        yield scorers[0], scorers[1]


def _from_git(model: str, version: str) -> Any:
    from plumbline.core.settings import load
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.delivery.releases import served_as
    from plumbline.promotion.settings import Settings

    with checkout(load(Settings)) as tree:
        served = next(served_as(tree, model, version), None)
    if served is None:
        raise Inconclusive(f"git never named {model} {version}, so it can't be asked again")
    return served[1]


def _path(policies: Path, model: str) -> Path:
    return policies / "experiments" / f"{model}.yaml"


def _policy(policies: Path, model: str) -> tuple[Path, Experiment]:
    path = _path(policies, model)
    return path, read_policy(path, Experiment, model)


def _code(verdict: str, *, asked: bool) -> int:
    if verdict == "inconclusive" or (asked and verdict == "continue"):
        return Inconclusive.exit_code
    return Refused.exit_code if asked and verdict == "rollback" else 0
