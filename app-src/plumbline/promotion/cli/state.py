"""`plumbline promote`: what git, cluster and registry say, and how they come to agree."""

import json
from datetime import timedelta
from typing import Annotated

import typer
from tabulate import tabulate

from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.durations import duration
from plumbline.core.errors import Inconclusive, Refused
from plumbline.core.settings import load
from plumbline.promotion.cli.options import Env, Model, Models, PullRequest, model_name, model_names, writing
from plumbline.promotion.delivery import cluster as clusters
from plumbline.promotion.delivery import follow
from plumbline.promotion.delivery import reconcile as reconciliation
from plumbline.promotion.delivery.git import checkout
from plumbline.promotion.delivery.records import require_environment
from plumbline.promotion.delivery.releases import Since
from plumbline.promotion.delivery.releases import releases as releases_of
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings

app = application(__doc__ or "")


@app.command()
def sync(model: Model) -> None:
    """Make the registry say what git says: marks, and where no cluster is followed life cycle and aliases too."""
    settings = load(Settings)
    facts: follow.Facts | None = {} if settings.follows == "cluster" else None
    with checkout(settings) as tree:
        for line in follow.sync(Registry(), tree, model_name(model), facts):
            typer.echo(line)


@app.command()
def reconcile(
    env: Env,
    model: Models = None,
    alertmanager: Annotated[
        str, typer.Option(envvar="MONITORING_ALERTMANAGER_URL", help="Told of a configuration whose canary failed.")
    ] = "",
    length: Annotated[
        str, typer.Option("--for", help="Do it each minute for so long, e.g. 55m; once if not given.")
    ] = "",
    pull_request: PullRequest = False,
    as_json: AsJson = False,
) -> None:
    """Do the next step towards git, cluster and registry agreeing; safe at any time, and again. JSON: a line a step."""

    def warn(model: str, text: str) -> None:
        from plumbline.monitoring.alert import AlertError, send

        if not alertmanager:
            return
        try:
            send(alertmanager, "ConfigurationAborted", f"{model}({env})", text)
        except AlertError as error:  # git, cluster and registry agree all the same
            typer.secho(str(error), err=True)

    settings = writing(pull_request)
    lasts = duration(length) if length else timedelta(0)
    steps = reconciliation.reconcile(Registry(), settings, clusters.Cluster(), env, model_names(model), warn, lasts)
    for step in steps:  # each is said when it is done: a later one may fail
        typer.echo(json.dumps(step._asdict()) if as_json else f"{step.model}({step.environment}): {step.did}")


@app.command()
def status(env: Env, model: Models = None, as_json: AsJson = False) -> None:
    """Print what git, cluster and registry say side by side; exit code 10 where they differ or what is named is barred.

    Exit code 11 where git's files of a model can't be read and all else agrees. Where no cluster is configured it is
    not asked, and the verdict is about git and registry.
    """
    cluster = clusters.Cluster() if clusters.Cluster.is_configured() else None
    rows = reconciliation.status(Registry(), load(Settings), cluster, env, model_names(model))
    if as_json:
        print_json([row._asdict() for row in rows])
    else:
        sides = [row[:-1] for row in rows]
        typer.echo(
            tabulate(sides, ("model", "git", "cluster", "registry", ""), tablefmt="plain", disable_numparse=True)
        )
        for row in rows:
            if row.reason:
                typer.echo(f"{row.model}: {row.reason}")
    verdicts = {row.verdict for row in rows} - {"agree"}
    if verdicts:
        raise typer.Exit(Inconclusive.exit_code if verdicts == {"unknown"} else Refused.exit_code)


@app.command()
def releases(
    model: Models = None,
    env: Annotated[str, typer.Option("--env", help="One environment; all where it is left out.")] = "",
    history: Annotated[bool, typer.Option("--history", help="What was served before as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what each environment serves, since when and by whom, from git alone."""
    with checkout(load(Settings)) as tree:
        if env:
            require_environment(tree, env)
        rows = list(releases_of(tree, model_names(model), env, history=history))
    if as_json:
        print_json([row._asdict() for row in rows])
    elif rows:
        typer.echo(tabulate(rows, Since._fields, tablefmt="plain", disable_numparse=True))
    else:
        typer.echo("no environment serves such a model", err=True)
