"""`plumbline promote`: what an environment serves, as commits to git."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.durations import duration
from plumbline.core.errors import PlumblineError, Refused
from plumbline.core.settings import load
from plumbline.promotion.cli.options import Again, Env, Image, Model, PullRequest, Version, writing
from plumbline.promotion.delivery import follow, governance
from plumbline.promotion.delivery.git import checkout
from plumbline.promotion.delivery.served import write
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings

app = application(__doc__ or "")


@app.command("run")
def promote(
    model: Model,
    version: Version,
    env: Env,
    image: Image = "",
    dry_run: Annotated[bool, typer.Option(help="Show the diff and the verdicts; change nothing.")] = False,
    pull_request: Annotated[
        Path | None,
        typer.Option(
            help="Push a branch, open its pull request if PROMOTION_FORGE is set, write its description to this file."
        ),
    ] = None,
    again: Again = "",
    as_json: AsJson = False,
) -> None:
    """Commit to git that an environment serves a version, if every rule passes."""
    from plumbline.promotion.delivery import promote as promotion
    from plumbline.promotion.gate.gate import Request

    settings, registry = load(Settings), Registry()
    request = Request(model, version, env, image or None, again, pull_request is not None)
    how: promotion.How = "dry run" if dry_run else "pull request" if pull_request else "commit"
    outcome = promotion.promote(registry, settings, request, how)
    say = partial(typer.echo, err=as_json)
    if as_json:
        print_json(asdict(outcome))
    if outcome.judgement is None:
        say(f"{env} serves {model} {version} already; nothing to do")
    else:
        say(f"{outcome.judgement.table()}\n\n{outcome.diff}")
        outcome.judgement.require()
    if pull_request is not None and outcome.commit:
        card = promotion.card_of(registry, model, version)
        pull_request.write_text(promotion.pull_request(request, outcome, card), encoding="utf-8")
        say(f"branch {outcome.branch}; description in {pull_request}")
    if outcome.waiting:
        say(f"waiting for {outcome.waiting}")
    elif not dry_run and pull_request is None:
        if outcome.commit:
            say(f"commit {outcome.commit} on {outcome.branch}")
        _follow(registry, settings, model, err=as_json)


@app.command()
def served(env: Env, out: Annotated[Path, typer.Option(help="Folder to write, for a Workflow.")]) -> None:
    """Write what git says that an environment serves: models.json, releases/<model>.yaml, and the policies."""
    with checkout(load(Settings)) as tree:
        for model in write(tree, env, out):
            typer.echo(f"{model['model']} {model['version']}")


@app.command()
def approve(
    model: Model,
    version: Version,
    env: Env,
    image: Image = "",
    reason: Annotated[str, typer.Option(help="Why it may be served.")] = "",
    length: Annotated[str, typer.Option("--for", help="It ends by itself: 12h, 14d; 90d at most.")] = "14d",
    detached: Annotated[
        bool, typer.Option(help="Print the signed approval as one line, for --signed or a Workflow's form.")
    ] = False,
    signed: Annotated[str, typer.Option(help="Commit what --detached printed, whoever it is that brings it.")] = "",
    again: Again = "",
    pull_request: PullRequest = False,
) -> None:
    """Judge a version and sign, with PROMOTION_APPROVER_KEY, that an environment may serve it; git keeps it."""
    from plumbline.promotion.delivery import approve as approving
    from plumbline.promotion.gate.gate import Request

    settings, registry = writing(pull_request), Registry()
    request = Request(model, version, env, image or None, again)
    if signed:
        text = approving.from_line(signed)
    elif not detached and (given := approving.standing(registry, settings, request)) is not None:
        typer.echo(f"{model} {version} is approved already: {given}")
        return
    else:
        text, judgement = approving.sign(registry, settings, request, reason, duration(length))
        typer.echo(judgement.table(), err=detached)
    if detached:
        typer.echo(approving.one_line(text))
        return
    given, delivered = approving.record(settings, request, text)
    typer.echo(f"approved by {given}")
    typer.echo(str(delivered) if delivered else "git says so already")


@app.command()
def reject(
    model: Model,
    version: Version,
    metric: Annotated[str, typer.Option(help="What failed, e.g. error-rate.")],
    reason: Annotated[str, typer.Option(help="How it failed.")],
    pull_request: PullRequest = False,
) -> None:
    """Bar a version's bytes and take it out of every environment, in one commit; 10 where one still serves it."""
    settings, registry = writing(pull_request), Registry()
    done = governance.reject(registry, settings, model, version, metric, reason)
    for environment, moved in done.reverted.items():
        typer.echo(f"{environment}: {moved}")
    typer.echo(str(done.delivered) if done.delivered else f"{model} {version} is barred already")
    for line in done.skipped:
        typer.echo(line)
    if done.delivered is None or not done.delivered.waiting:
        _follow(registry, settings, model)
    for environment in done.stranded:
        typer.secho(f"barred, and {governance.stranded(environment, model, version)}", err=True, fg="red")
    if done.stranded:
        raise typer.Exit(Refused.exit_code)


def _follow(registry: Registry, settings: Settings, model: str, err: bool = False) -> None:
    """Bring the registry after git, which has the truth by now: `plumbline promote sync` repairs what fails here."""
    if settings.follows == "cluster":
        typer.echo("the registry follows when the cluster serves it: `plumbline promote reconcile`", err=err)
        return
    try:
        with checkout(settings) as tree:
            for line in follow.sync(registry, tree, model):
                typer.echo(line, err=err)
    except PlumblineError as error:
        typer.secho(
            f"git is done, the registry not yet: {error}. Run `plumbline promote sync --model {model}`", err=True
        )
