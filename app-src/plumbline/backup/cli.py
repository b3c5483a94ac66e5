"""`plumbline backup`: keep dumps and artifacts together, list them, bring them back."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from plumbline.backup.keep import Places, listed
from plumbline.core.commands import AsJson, application, print_json, storage

app = application(__doc__ or "")
Store = Annotated[str, typer.Option(envvar="BACKUP_STORE", parser=storage, help="A folder or s3://bucket/prefix.")]
Artifacts = Annotated[str, typer.Option(envvar="MLFLOW_ARTIFACTS", parser=storage, help="MLflow's.")]


@contextmanager
def _timed() -> Iterator[None]:
    """Say how long it took."""
    began = time.monotonic()
    yield
    typer.echo(f"{time.monotonic() - began:.1f} s")


@app.command()
def keep(
    dumps: Annotated[Path, typer.Option(help="Folder of <database>.dump, made before.")],
    store: Store,
    artifacts: Artifacts,
) -> None:
    """Keep the dumps, and the artifacts that are not kept yet."""
    from plumbline.backup.keep import keep as keep_dumps

    with _timed():
        done = keep_dumps(Places(store, artifacts), dumps)
        typer.echo(f"backup {done.name}: {len(done.dumps)} dumps, {len(done.artifacts)} artifacts")


@app.command("list")
def list_all(store: Store, as_json: AsJson = False) -> None:
    """The backups that are whole, oldest first."""
    names = listed(store)
    if as_json:
        print_json(names)
        return
    for name in names:
        typer.echo(name)


@app.command()
def fetch(
    out: Annotated[Path, typer.Option(help="Folder for the dumps.")],
    store: Store,
    artifacts: Artifacts,
    name: Annotated[str, typer.Option(help="As `plumbline backup list` prints it; the newest if not given.")] = "",
) -> None:
    """Bring back the artifacts, and fetch the dumps of the databases that name them."""
    from plumbline.backup.keep import fetch as fetch_backup

    with _timed():
        done = fetch_backup(Places(store, artifacts), name, out)
        typer.echo(f"backup {done.name}: {len(done.dumps)} dumps, {len(done.artifacts)} artifacts")
