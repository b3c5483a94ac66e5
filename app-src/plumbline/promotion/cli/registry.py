"""`plumbline promote`: versions in the registry, their life cycle and their cards."""

import tempfile
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.durations import duration
from plumbline.core.errors import Misuse
from plumbline.core.settings import load
from plumbline.promotion.cli.options import Model, Version, model_name
from plumbline.promotion.delivery import follow
from plumbline.promotion.delivery.git import checkout
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.lifecycle import Lifecycle
from plumbline.promotion.settings import Settings

app = application(__doc__ or "")


@app.command()
def register(
    run: Annotated[str, typer.Option(help="MLflow run id.")],
    judged: Annotated[
        Path | None, typer.Option(help="What `judge` wrote of the run: then neither model nor rows are opened here.")
    ] = None,
    version_file: Annotated[Path | None, typer.Option(help="Write the version alone to this file too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check, sign, number and describe a finished run's model; the last line is `version v1.0.0`."""
    from plumbline.promotion.gate.judged import Judged
    from plumbline.promotion.registry.register import register as register_run

    outcome = None if judged is None else Judged.read(judged)
    done = register_run(Registry(), load(Settings), run, outcome)
    if version_file is not None:
        version_file.write_text(str(done.version.semver), encoding="utf-8")
    if as_json:
        parity = done.parity and asdict(done.parity)
        print_json(asdict(done.version) | {"parity": parity, "same_bytes": done.same_bytes})
        return
    if done.same_bytes:
        rejected = f", which was rejected for {done.version.rejected}" if done.version.rejected else ""
        typer.echo(f"no new version: run {run} made the bytes of {done.version.semver}{rejected}; added to its lineage")
    elif done.parity is None:
        typer.echo(f"run {run} was registered before; its statement is beside its bytes")
    else:
        typer.echo(f"parity: {done.parity.largest:.3g} at most on {done.parity.rows:,} rows")
    typer.echo(f"digest {done.version.digest}\nversion {done.version.semver}")


@app.command("list")
def list_versions(
    model: Annotated[str, typer.Option(help="One model; all where it is left out.")] = "",
    condition: Annotated[
        str, typer.Option("--filter", help="MLflow's search, e.g. \"tags.lifecycle = 'Staging'\".")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Versions with life cycle, aliases, data and code."""
    parts = [f"name = '{model_name(model)}'"] if model else []
    versions = Registry().search(" and ".join([*parts, *([condition] if condition else [])]))
    versions = sorted(versions, key=lambda item: (item.model, int(item.number)))
    if as_json:
        print_json([asdict(version) for version in versions])
        return
    if not versions:
        typer.echo("no such version is registered", err=True)
    for version in versions:
        state = f"{version.lifecycle}{', rejected' if version.rejected else ''}"
        made = f"code {version.tags['code.commit'][:12]} data {version.tags['data.digest'][:19]}"
        served = f" aliases {','.join(version.aliases)}" if version.aliases else ""
        typer.echo(f"{version.model} {version.semver} {state}{served} {version.digest[:19]} {made}")


@app.command()
def transition(
    model: Model, version: Version, to: Annotated[str, typer.Option(help="Staging, Production or Archived.")]
) -> None:
    """Move a version in its life cycle by hand; illegal moves are refused. What git serves is moved by `sync`."""
    if to not in set(Lifecycle):
        raise Misuse(f"--to {to!r}: expected one of {', '.join(Lifecycle)}")
    with checkout(load(Settings)) as tree:
        follow.move_by_hand(Registry(), tree, model_name(model), version, Lifecycle(to))
    typer.echo(f"{model} {version} is {to}")


@app.command()
def archive(model: Model, version: Version) -> None:
    """Archive a version that no environment serves."""
    transition(model, version, "Archived")


@app.command()
def archive_unused(older_than: Annotated[str, typer.Option(help="Since they were made, e.g. 180d.")]) -> None:
    """Archive versions that no environment ever took; the newest of a model is kept."""
    with checkout(load(Settings)) as tree:
        for version in follow.archive_unused(Registry(), tree, duration(older_than) / timedelta(days=1)):
            typer.echo(f"{version.model} {version.semver} is Archived")


@app.command("card")
def show_card(
    model: Model,
    version: Version,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
) -> None:
    """Render the model card anew with today's life cycle and approval, store it, and print it."""
    from plumbline.promotion.registry.card import render_again

    with checkout(load(Settings)) as tree, tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        text, page = render_again(Registry(), tree, model_name(model), version, Path(folder))
        if html is not None:
            html.write_bytes(page.read_bytes())
        typer.echo(text.read_text(encoding="utf-8"))
