"""`plumbline promote`: the keys that sign releases, and which of them are believed."""

from pathlib import Path
from typing import Annotated

import typer
from tabulate import tabulate

from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.errors import Refused
from plumbline.core.settings import load
from plumbline.promotion.delivery.git import checkout
from plumbline.promotion.registry.keys import add, remove, uses
from plumbline.promotion.registry.signing import generate_keys
from plumbline.promotion.settings import Settings

app = application(__doc__ or "")

KeyFile = Annotated[
    Path, typer.Option("--file", envvar="PROMOTION_PUBLIC_KEY", help="The public keys that are believed.")
]


@app.command()
def keygen(folder: Annotated[Path, typer.Argument(help="Where the two PEM files go.")]) -> None:
    """Make a signing key pair for local use."""
    private, public = generate_keys(folder)
    typer.echo(f"PROMOTION_SIGNING_KEY={private}\nPROMOTION_PUBLIC_KEY={public}")


@app.command()
def keys(file: KeyFile, as_json: AsJson = False) -> None:
    """Print which key signed what each environment serves; 10 where something served is of none of them."""
    with checkout(load(Settings)) as tree:
        signed = uses(tree, file.read_bytes())
    if as_json:
        print_json(signed)
    else:
        rows = [(name or "none of these", "; ".join(served) or "nothing") for name, served in signed.items()]
        typer.echo(tabulate(rows, ("key", "served of it"), tablefmt="plain"))
    if signed.get(""):
        raise typer.Exit(Refused.exit_code)


@app.command()
def add_key(key: Annotated[Path, typer.Argument(help="The public half of the next key, PEM.")], file: KeyFile) -> None:
    """Believe one more key: before anything is signed with it. Servers read their file again by themselves."""
    typer.echo("\n".join(add(file, key)))


@app.command()
def remove_key(
    key: Annotated[str, typer.Argument(help="Its id, or how that begins.")],
    file: KeyFile,
    stolen: Annotated[
        bool, typer.Option("--stolen", help="Also where something served is signed with it: no new pod loads that.")
    ] = False,
) -> None:
    """Believe a key no more; refused while an environment serves what it alone signed."""
    with checkout(load(Settings)) as tree:
        lost = remove(tree, file, key, stolen=stolen)
    for line in lost:
        typer.secho(f"no new pod loads it: {line}; promote another version there", err=True, fg="red")
