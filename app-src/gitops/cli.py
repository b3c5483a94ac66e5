"""`gitops …`: render what the tree declares. Exit codes: 0 done, 1 refused, 2 usage."""

import time
from pathlib import Path
from typing import Annotated

import typer
import yaml

from gitops.api_server import ApiServerError
from gitops.cluster import ClusterError
from gitops.crds import CrdError
from gitops.git import GitError
from gitops.render import RenderError, environments, render, without_release
from gitops.security import SecurityError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)

Root = Annotated[Path, typer.Option(help="The work tree.", exists=True, file_okay=False)]

Base = Annotated[str, typer.Option(help="The branch to compare with; main, if not given.")]


@app.callback()
def _main() -> None:
    """Tools of the GitOps tree."""


@app.command("render")
def render_all(
    out: Annotated[Path, typer.Option(help="Where the YAML goes: <out>/<environment>/<folder>.yaml.")],
    root: Root = Path(),
) -> None:
    """Write what Argo CD would apply, one file for each folder that it syncs."""
    for environment in environments(root):
        try:
            folders = render(root, environment)
        except RenderError as error:
            typer.secho(str(error), err=True, fg="red")
            raise typer.Exit(1) from error
        for folder, objects in folders.items():
            own = f"clusters/{environment}"
            # The environment's own folder is what the Application `platform` syncs.
            name = "platform" if folder == own else folder.removeprefix(f"{own}/")
            file = out / environment / f"{name}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(yaml.safe_dump_all(objects, sort_keys=False), encoding="utf-8")
        examples = without_release(root, environment)
        note = f"; with an example release: {', '.join(examples)}" if examples else ""
        typer.echo(f"{out / environment}: {sum(map(len, folders.values()))} objects of {len(folders)} folders{note}")


@app.command("diff")
def print_diff(root: Root = Path(), base: Base = "") -> None:
    """Print what the work tree changes in each environment, and what that means, as Markdown."""
    from gitops.diff import diff

    try:
        typer.echo(diff(root, base))
    except (GitError, RenderError) as error:
        typer.secho(str(error), err=True, fg="red")
        raise typer.Exit(1) from error


@app.command("validate")
def validate_all(root: Root = Path(), base: Base = "") -> None:
    """Refuse what a cluster would refuse, and what no cluster would notice: each with its place and the reason."""
    from gitops.validate import validate

    started = time.monotonic()
    try:
        problems = validate(root, base, lambda line: typer.echo(f"» {line}"))
    except (ApiServerError, ClusterError, CrdError, SecurityError) as error:
        typer.secho(f"✗ {error}", err=True, fg="red")
        raise typer.Exit(1) from error
    for problem in problems:
        typer.secho(f"✗ {problem}", err=True, fg="red")
    count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "no problem"
    typer.echo(f"{count} in {time.monotonic() - started:.0f} s")
    if problems:
        raise typer.Exit(1)


@app.command("versions")
def print_versions(root: Root = Path()) -> None:
    """Print docs/versions.md: every version in use, from what pins it."""
    from gitops.versions import table

    typer.echo(table(root), nl=False)
