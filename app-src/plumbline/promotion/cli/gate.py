"""`plumbline promote`: what is judged, and nothing is changed."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from tabulate import tabulate

from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.errors import Inconclusive, Refused
from plumbline.core.settings import load
from plumbline.promotion.cli.options import Again, Env, Model, Version
from plumbline.promotion.delivery.forge import RELIES_ON, connect
from plumbline.promotion.delivery.git import checkout
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings

app = application(__doc__ or "")


@app.command()
def judge(
    run: Annotated[str, typer.Option(help="MLflow run id.")],
    out: Annotated[Path, typer.Option(help="Write what was found to this file: what `register --judged` believes.")],
) -> None:
    """Open a finished run's model and rows, where no key is: made anew from git's data, loaded in a process apart."""
    from plumbline.promotion.gate.judged import judge as judge_run

    outcome = judge_run(Registry(), load(Settings), run)
    out.write_text(outcome.model_dump_json(indent=2) + "\n", encoding="utf-8")
    rows = (
        f"made anew from {outcome.data[:19]}…"
        if outcome.data
        else "as the run has them: no folder here defines the model"
    )
    typer.echo(f"parity: {outcome.parity:.3g} at most on {outcome.rows:,} rows, {rows}\ndigest {outcome.bundle}")


@app.command()
def check(
    model: Model,
    version: Version,
    env: Env,
    image: Annotated[str, typer.Option(help="Judge this image too.")] = "",
    again: Again = "",
    report: Annotated[Path | None, typer.Option(help="Write the report, as JSON, to this file too.")] = None,
    awaiting_approval: Annotated[
        bool, typer.Option(help="Judge all but the approval, which is still to come.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print what each rule says; nothing is changed."""
    from plumbline.promotion.gate.gate import Request, candidate, examine

    settings, request = load(Settings), Request(model, version, env, image or None, again, awaiting=awaiting_approval)
    with checkout(settings) as tree, candidate(Registry(), settings, model, version) as subject:
        judgement = examine(tree, request, subject)
    typer.echo(judgement.to_json() if as_json else judgement.table())
    if report is not None:
        report.write_text(judgement.to_json(), encoding="utf-8")
    judgement.require()


@app.command()
def audit(
    path: Annotated[Path, typer.Option(help="Work tree of the repository.")] = Path(),
    since: Annotated[
        str, typer.Option(help="A commit: release.yaml as it had it need no registry that answers, e.g. HEAD^1.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Check every release.yaml, policy and record of a work tree against the registry: for pull requests."""
    from plumbline.promotion.gate.audit import audit as audit_tree

    warn = partial(typer.secho, err=True, fg="yellow")
    problems, judged = audit_tree(Registry(), load(Settings), path, since, warn)
    if as_json:
        print_json({"judged": judged, "refused": problems})
    else:
        for problem in problems:
            typer.secho(problem, err=True, fg="red")
        typer.echo(f"{judged} files judged, {len(problems)} refused")
    if problems:
        raise typer.Exit(Refused.exit_code)


@app.command()
def forge_check(as_json: AsJson = False) -> None:
    """Compare the live rules of the branch with those that the design relies on; 10 where one is missing."""
    settings = load(Settings)
    rules = connect(settings).rules(settings.branch)
    held = {rule: rules.get(rule) for rule in RELIES_ON}
    if as_json:
        print_json(held)
    else:
        words = {True: "yes", False: "no", None: "unknown: the token may not see it"}
        typer.echo(tabulate([(rule, words[held[rule]], RELIES_ON[rule]) for rule in RELIES_ON], tablefmt="plain"))
    if False in held.values():
        raise typer.Exit(Refused.exit_code)
    if None in held.values():
        raise typer.Exit(Inconclusive.exit_code)
