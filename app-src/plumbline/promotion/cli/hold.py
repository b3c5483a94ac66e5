"""`plumbline promote`: a person's word to the automation."""

from typing import Annotated

import typer

from plumbline.core.commands import application
from plumbline.core.durations import duration
from plumbline.core.settings import load
from plumbline.promotion.cli.options import By, Env, Model, environment_name, model_name
from plumbline.promotion.delivery import cluster, step
from plumbline.promotion.delivery import hold as holds
from plumbline.promotion.settings import Settings

app = application(__doc__ or "")

OneModel = Annotated[str, typer.Option("--model", help="One model; every one of the environment if not given.")]


@app.command()
def hold(
    env: Env,
    by: By,
    reason: Annotated[str, typer.Option(help="Why nothing may move.")],
    length: Annotated[str, typer.Option("--for", help="It ends by itself: 4h, 3d; 90d at most.")],
    model: OneModel = "",
) -> None:
    """Let no automation move a model of an environment, or without --model any: a freeze. Recorded in git."""
    one = model_name(model) if model else None
    record, delivered = holds.hold(load(Settings), environment_name(env), one, by, reason, duration(length))
    typer.echo(f"{record}\n{delivered}")


@app.command()
def thaw(
    env: Env,
    by: By,
    reason: Annotated[str, typer.Option(help="Why it may move again.")],
    model: OneModel = "",
) -> None:
    """End a hold, or without --model the freeze of the environment, before its time."""
    delivered = holds.thaw(load(Settings), environment_name(env), model_name(model) if model else None, by, reason)
    typer.echo(str(delivered) if delivered else f"{model or env} is not {'held' if model else 'frozen'}")


@app.command()
def resume(model: Model) -> None:
    """Have the canary of the cluster at hand judged again, which an inconclusive analysis paused."""
    typer.echo(f"{model}: {step.resume(cluster.Cluster(), model_name(model))}")


@app.command()
def skip(
    model: Model,
    env: Env,
    by: By,
    reason: Annotated[str, typer.Option(help="Why it may go on unjudged.")],
) -> None:
    """Let the canary of the cluster at hand pass one inconclusive step; who and why is recorded in git first."""
    delivered, number = step.skip(
        load(Settings), cluster.Cluster(), environment_name(env), model_name(model), by, reason
    )
    goes_on = (
        "" if delivered is not None and delivered.waiting else f"goes on after step {number} without its verdict; "
    )
    typer.echo(f"{model}: {goes_on}{delivered or 'git says so already'}")
