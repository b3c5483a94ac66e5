"""`plumbline backup`: keep dumps and artifacts together, list them, bring them back."""

import time
from pathlib import Path
from typing import Annotated

import typer

from plumbline.backup.keep import Backup, Places, listed
from plumbline.core.commands import AsJson, application, print_json, storage

app = application(__doc__ or "")
Store = Annotated[str, typer.Option(envvar="BACKUP_STORE", parser=storage, help="A folder or s3://bucket/prefix.")]
Artifacts = Annotated[str, typer.Option(envvar="MLFLOW_ARTIFACTS", parser=storage, help="MLflow's.")]


def _say(done: Backup, began: float, as_json: bool) -> None:
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json({"name": done.name, "dumps": done.dumps, "artifacts": len(done.artifacts), "seconds": seconds})
    else:
        typer.echo(f"backup {done.name}: {len(done.dumps)} dumps, {len(done.artifacts)} artifacts in {seconds} s")


@app.command()
def keep(
    dumps: Annotated[Path, typer.Option(help="Folder of <database>.dump, made before.")],
    store: Store,
    artifacts: Artifacts,
    as_json: AsJson = False,
) -> None:
    """Keep the dumps, and the artifacts that are not kept yet."""
    from plumbline.backup.keep import keep as keep_dumps

    began = time.monotonic()
    _say(keep_dumps(Places(store, artifacts), dumps), began, as_json)


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
    as_json: AsJson = False,
) -> None:
    """Bring back the artifacts, and fetch the dumps of the databases that name them."""
    from plumbline.backup.keep import fetch as fetch_backup

    began = time.monotonic()
    _say(fetch_backup(Places(store, artifacts), name, out), began, as_json)
