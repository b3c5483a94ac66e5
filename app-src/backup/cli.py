"""`backup`: keep dumps and artifacts together, list what is kept, bring it back; PostgreSQL's tools dump and load."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from backup.keep import BackupError, Places, listed

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Store = Annotated[str, typer.Option(envvar="BACKUP_STORE", help="Where backups are: a folder or s3://bucket/prefix.")]
Artifacts = Annotated[str, typer.Option(envvar="MLFLOW_ARTIFACTS", help="Where MLflow keeps its artifacts.")]


@contextmanager
def _timed() -> Iterator[None]:
    """Say how long it took, or in one line why it failed."""
    began = time.monotonic()
    try:
        yield
    except BackupError as error:
        typer.echo(f"failed: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{time.monotonic() - began:.1f} s")


@app.command()
def keep(
    dumps: Annotated[Path, typer.Option(help="Folder of <database>.dump, made before.")],
    store: Store,
    artifacts: Artifacts,
) -> None:
    """Keep the dumps, and the artifacts that are not kept yet."""
    from backup.keep import keep as do

    with _timed():
        done = do(Places(store, artifacts), dumps)
        typer.echo(f"backup {done.name}: {len(done.dumps)} dumps, {len(done.artifacts)} artifacts")


@app.command("list")
def list_all(store: Store) -> None:
    """The backups that are whole, oldest first."""
    for name in listed(store):
        typer.echo(name)


@app.command()
def fetch(
    out: Annotated[Path, typer.Option(help="Folder for the dumps.")],
    store: Store,
    artifacts: Artifacts,
    name: Annotated[str, typer.Option(help="As `backup list` prints it; the newest if not given.")] = "",
) -> None:
    """Bring back the artifacts, and fetch the dumps of the databases that name them."""
    from backup.keep import fetch as do

    with _timed():
        done = do(Places(store, artifacts), name, out)
        typer.echo(f"backup {done.name}: {len(done.dumps)} dumps, {len(done.artifacts)} artifacts")
