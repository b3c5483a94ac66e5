"""`plumbline new-model` and `remove-model`: all files of a model, written and taken away."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from plumbline.core import programs
from plumbline.core.commands import application
from plumbline.core.errors import Misuse, Refused
from plumbline.core.names import plain_name
from plumbline.tree.render.build import environments
from plumbline.tree.values import read_values

app = application(__doc__ or "")

_LARGEST = 10_000_000

Name = Annotated[str, typer.Argument(help="Lower-case letters and digits, e.g. churn.")]
Root = Annotated[Path, typer.Option(help="The work tree.", exists=True, file_okay=False)]


@app.command("new-model")
def new_model(
    name: Name,
    task: Annotated[Literal["binary", "multiclass", "regression"], typer.Option(help="What it predicts.")],
    data: Annotated[
        Path | None,
        typer.Option(help="A CSV file to make the fields of; made-up customers without one.", dir_okay=False),
    ] = None,
    target: Annotated[str, typer.Option(help="The column to predict; the last one without it.")] = "",
    positive: Annotated[str, typer.Option(help="The label that a binary model looks for; the rarer one.")] = "",
    root: Root = Path(),
) -> None:
    """Write everything that a new model needs; nothing that exists is changed."""
    from plumbline.scaffold import example
    from plumbline.scaffold.files import owner_of, places, texts
    from plumbline.scaffold.look import look

    envs = _environments(name, root)
    if there := [place for place in places(name, envs) if (root / place).exists()]:
        raise Misuse(f"{name}: {', '.join(there)} is there already; choose another name, or `plumbline remove-model`")
    csv = _content(data) if data else example.csv(task)
    description = look(csv, str(data or "the example"), task, target, positive)
    values = [read_values(root, environment) for environment in envs]
    for path, content in texts(name, description, csv, values, owner_of(root)).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        typer.echo(path)
    answer = f" ({', '.join(description.labels)})" if description.labels else ""
    fields = ", ".join(f"{field.name} ({field.type})" for field in description.fields)
    typer.echo(f"\n{description.target}{answer} from {fields}")
    for line in description.left_out:
        typer.echo(f"left out: {line}")
    typer.echo(
        f"\nLook at app-src/models/{name}/__init__.py and card.yaml, commit, then: plumbline train run --model {name}"
    )


@app.command("remove-model")
def remove_model(
    name: Name,
    root: Root = Path(),
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask about files that git does not have.")] = False,
) -> None:
    """Take away everything that new-model writes; what was registered, approved or barred stays on record."""
    from plumbline.scaffold.files import places

    envs = _environments(name, root)
    there = [place for place in places(name, envs) if (root / place).exists()]
    if not there:
        raise Misuse(f"there is no model {name!r} in {root.resolve()}")
    if served := _served(name, root, envs):
        raise Refused(
            f"{', '.join(served)} names a release of {name}: delete it in a pull request first, so that the cluster "
            "takes the model out (docs/add-a-model.md)"
        )
    status = ("status", "--porcelain", "--ignored", "--untracked-files=all")
    lost = _git(root, *status, "--", *there).splitlines()
    if lost and not yes:
        typer.echo("\n".join(line[3:] for line in lost))
        typer.confirm(f"{len(lost)} files are not in git as they are here. Remove them?", abort=True)
    for place in there:
        if (root / place).is_dir():
            shutil.rmtree(root / place)
        else:
            (root / place).unlink()
        typer.echo(f"removed {place}")


def _environments(name: str, root: Path) -> list[str]:
    """The environments of the tree that a model of this name is for."""
    plain_name(name, "NAME", like="churn")
    if "-" in name:  # a folder of Python, too
        raise Misuse(f"NAME: {name!r} has a hyphen, which no folder of Python can have; expected like churn")
    if not (envs := environments(root)):
        raise Misuse(f"{root.resolve()}: no clusters/<env>/environment.yaml here; name the work tree with --root")
    return envs


def _served(name: str, root: Path, envs: list[str]) -> list[str]:
    """The releases of a model that the work tree has, or the last commit still."""
    releases = [f"clusters/{environment}/models/{name}/release.yaml" for environment in envs]
    here = [path for path in releases if (root / path).exists()]
    committed = _git(root, "ls-tree", "-r", "--name-only", "HEAD", "--", *releases).splitlines()
    return sorted({*here, *committed})


def _git(root: Path, *arguments: str) -> str:
    done = programs.git(*arguments, cwd=root)
    if done.code:
        raise Misuse(f"git can't say what would be lost: {done.error.strip()}")
    return done.text


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Misuse(f"--data: {path}: cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise Misuse(
            f"--data: {path} has {len(content):,} bytes, and more than {_LARGEST:,} don't belong into git; give its "
            "first rows, then let `fetch` in data.py get all of them"
        )
    return content
