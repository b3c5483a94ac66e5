"""`plumbline monitor canary`: what a canary's verdict needs, and whether it answers as its signed model does."""

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.durations import duration
from plumbline.core.errors import Inconclusive, Misuse, Refused

app = application(__doc__ or "")


@app.callback()
def _group() -> None:
    """What a canary's verdict needs in traffic and time, and whether it answers as its signed model does."""


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
    needed = plans.plan(rules, per_second, failing)
    if as_json:
        print_json({"perSecond": per_second, **asdict(needed)})
    else:
        typer.echo(plans.as_text(model, env, per_second, rules, needed))


@app.command()
def replay(
    release: Annotated[Path, typer.Option(help="The release.yaml that the canary was made from.", dir_okay=False)],
    public_key: Annotated[
        Path, typer.Option(envvar="PROMOTION_PUBLIC_KEY", help="The PEM file that the model is verified with.")
    ],
    rows: Annotated[int, typer.Option(min=1, max=20_000, help="Of the log, drawn by chance.")] = 300,
    since: Annotated[Any, typer.Option(parser=duration, metavar="DURATION", help="Of the log.")] = "1d",
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 10 where an answer differs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the signed model again what a version was asked, and compare: one answer of another row is enough to tell.

    Inconclusive (exit code 11) where the log has none of its answers.
    """
    from plumbline.core.release import read_release
    from plumbline.monitoring.canary import replay as replays
    from plumbline.monitoring.log.connect import connected
    from plumbline.scoring.scorer import Scorer

    spec = read_release(release)
    version = spec.spec.version
    with connected() as connection:
        logged = replays.read(connection, spec.model, version, datetime.now(UTC) - since, rows)
    if not logged:
        raise Inconclusive(f"the log has no answer of {spec.model} {version} in that time")
    with Scorer.fetch(spec, release, public_key) as scorer:
        replayed = replays.compare(scorer, logged)
    if as_json:
        print_json(asdict(replayed))
    else:
        typer.echo(
            f"{spec.model} {version}: {replayed.different} of {replayed.rows} answers are not the signed model's"
        )
        if replayed.example is not None:
            typer.echo(f"  the worst is {replayed.furthest:.3g} away: {replayed.example}")
    raise typer.Exit(Refused.exit_code if exit_code and replayed.different else 0)


@app.command()
def check(
    env: Annotated[str, typer.Option("--env", help="Environment: a folder of clusters/.")],
    public_key: Annotated[
        Path, typer.Option(envvar="PROMOTION_PUBLIC_KEY", help="The PEM file that the models are verified with.")
    ],
    rows: Annotated[int, typer.Option(min=1, max=20_000, help="Of the log, drawn by chance.")] = 300,
    keep: Annotated[bool, typer.Option("--keep", help="Store what is found for the analysis.")] = False,
    as_json: AsJson = False,
) -> None:
    """Replay each canary that answers now, and stable; and hold what lies between them against the gate's holdout.

    Releases and evidence are those of git (PROMOTION_REPO). Without a canary nothing is done.
    """
    from plumbline.core.settings import load
    from plumbline.monitoring.canary import check as checking
    from plumbline.monitoring.canary import checks
    from plumbline.monitoring.log.connect import connected
    from plumbline.promotion.delivery.git import checkout
    from plumbline.promotion.delivery.records import require_environment
    from plumbline.promotion.settings import Settings
    from plumbline.scoring.scorer import Scorer

    now = datetime.now(UTC)
    fetch = partial(Scorer.fetch, path=Path("release.yaml"), public_key=public_key)
    with connected() as connection:
        if not checking.canaries(connection, now):
            typer.echo("[]" if as_json else "no canary has answered lately")
            return
        with checkout(load(Settings)) as tree:
            require_environment(tree, env)
            results = list(checking.check(connection, tree, env, fetch, now, rows))
        if keep:
            for one in results:
                checks.keep(connection, checks.as_json(one))
    if as_json:
        print_json([checks.as_json(one) for one in results])
    else:
        typer.echo("\n".join(map(checks.as_text, results)) or "no canary is of what git names")
