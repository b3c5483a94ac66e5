"""`plumbline monitor canary`: what a canary's verdict needs in traffic and time."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.durations import duration
from plumbline.core.errors import Inconclusive, Misuse

app = application(__doc__ or "")


@app.callback()
def _group() -> None:
    """What a canary's verdict needs in traffic and time."""


@app.command()
def plan(
    model: Annotated[str, typer.Option()],
    env: Annotated[str, typer.Option("--env", help="Environment: a folder of clusters/.")],
    per_second: Annotated[
        float | None, typer.Option(min=1e-6, help="Predictions a second; read from the log if absent.")
    ] = None,
    failing: Annotated[
        float, typer.Option(min=0, max=0.5, help="The share of predictions that fails whoever answers.")
    ] = 0.0,
    since: Annotated[Any, typer.Option(parser=duration, metavar="DURATION", help="Of the log's traffic.")] = "7d",
    root: Annotated[Path, typer.Option(help="The tree.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Say after how many answers and how long a canary is promoted or taken back, by its environment's own numbers."""
    from plumbline.monitoring.canary import plan as plans
    from plumbline.monitoring.log.connect import connected
    from plumbline.tree.render.build import build, complete

    folder = f"clusters/{env}/models/{model}"
    if not (root / folder).is_dir():
        raise Misuse(f"{folder} is not there; expected a model of an environment")
    with complete(root, env) as tree:
        rules = plans.Rules.of(build(tree, folder), model)
    if per_second is None:
        with connected() as connection:
            per_second = plans.measured(connection, model, datetime.now(UTC) - since, since.total_seconds())
        if not per_second:
            raise Inconclusive(f"the log has no predictions of {model} in that time; give --per-second")
    found = plans.plan(rules, per_second, failing)
    if as_json:
        print_json({"perSecond": per_second, **asdict(found)})
    else:
        typer.echo(plans.as_text(model, env, per_second, rules, found))
