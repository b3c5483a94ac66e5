"""`plumbline tree`: render, compare and check what the tree declares."""

import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from plumbline.core.commands import AsJson, application, print_json
from plumbline.core.errors import Refused
from plumbline.tree.render.build import as_yaml, environments, render, without_release

app = application(__doc__ or "")

Root = Annotated[Path, typer.Option(help="The work tree.", exists=True, file_okay=False)]

Base = Annotated[str, typer.Option(help="The branch to compare with; main, if not given.")]


@app.command("render")
def render_all(
    out: Annotated[Path, typer.Option(help="Where the YAML goes: <out>/<environment>/<folder>.yaml.")],
    root: Root = Path(),
) -> None:
    """Write what Argo CD would apply, one file for each folder that it syncs."""
    for environment in environments(root):
        folders = render(root, environment)
        for folder, objects in folders.items():
            own = f"clusters/{environment}"
            # The environment's own folder is what the Application `platform` syncs.
            name = "platform" if folder == own else folder.removeprefix(f"{own}/")
            file = out / environment / f"{name}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(as_yaml(objects), encoding="utf-8")
        examples = without_release(root, environment)
        note = f"; with an example release: {', '.join(examples)}" if examples else ""
        typer.echo(f"{out / environment}: {sum(map(len, folders.values()))} objects of {len(folders)} folders{note}")


@app.command("diff")
def print_diff(root: Root = Path(), base: Base = "", as_json: AsJson = False) -> None:
    """Print what the work tree changes in each environment, and what that means, as Markdown."""
    from plumbline.tree.diff import diff, markdown, reach

    changes = diff(root, base)
    if as_json:
        print_json([asdict(item) for item in changes])
    else:
        typer.echo("\n".join([reach(changes), *map(markdown, changes)]))


@app.command("validate")
def validate_all(
    root: Root = Path(),
    base: Base = "",
    foreign: Annotated[
        bool, typer.Option("--foreign", help="The tree is somebody else's: run no code of it, and let it set no rule.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Refuse what a cluster would refuse, and what no cluster would notice: each with its place and the reason."""
    from plumbline.tree.validate.validate import validate

    started = time.monotonic()
    problems = validate(root, base, lambda line: typer.echo(f"» {line}", err=as_json), Path() if foreign else None)
    if as_json:
        print_json([asdict(problem) for problem in problems])
    else:
        for problem in problems:
            typer.secho(f"✗ {problem}", err=True, fg="red")
        count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "no problem"
        typer.echo(f"{count} in {time.monotonic() - started:.0f} s")
    if problems:
        raise typer.Exit(Refused.exit_code)


@app.command("bootstrap")
def bootstrap_one(
    environment: Annotated[str, typer.Argument(help="A folder of clusters/.")],
    root: Root = Path(),
    context: Annotated[str | None, typer.Option(help="Of the kubeconfig; its current one if not given.")] = None,
    minutes: Annotated[float, typer.Option(help="To wait for the Applications.")] = 15,
) -> None:
    """Take an empty cluster to this repository; from then on Argo CD follows git by itself."""
    from plumbline.tree.bootstrap import bootstrap

    bootstrap(root, environment, context, minutes)


@app.command("api-key")
def make_api_key(
    name: Annotated[str, typer.Argument(help="Of the caller.")],
    file: Annotated[Path, typer.Option(help="The file of hashes (keys.yaml of the Secret api-keys); made if absent.")],
    retire: Annotated[
        bool, typer.Option("--retire", help="Make no key: the caller's second one becomes its only.")
    ] = False,
    owner: Annotated[str | None, typer.Option(help="Of a new caller: whom to ask.")] = None,
    rate: Annotated[float | None, typer.Option(help="Of a new caller: requests a second, over all pods.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Of a new caller: what it may ask; all if not given.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="Of a new caller: feedback, vocabulary or tester.")] = None,
    days: Annotated[int, typer.Option(help="Until the key expires.", min=1)] = 365,
) -> None:
    """Make a key and put its hash into the file: a new caller's, or the second one of a caller that the file has.

    The key is printed, once; the file holds none.
    """
    from plumbline.tree import api_keys

    text = api_keys.read_text(file)
    if retire:
        file.write_text(api_keys.retire(text, name), encoding="utf-8")
        return
    asked = {"owner": owner, "rate": rate, "models": model, "roles": role}
    expires = datetime.now(UTC).date() + timedelta(days=days)
    more = {field: value for field, value in asked.items() if value}
    key, text = api_keys.issue(text, name, expires, more)
    file.write_text(text, encoding="utf-8")
    typer.echo(key)


@app.command("adopt")
def adopt_all(
    repository: Annotated[str, typer.Option(help="https://git.acme.example/ml/platform.git")],
    registry: Annotated[str, typer.Option(help="Of your images: registry.acme.example/ml")],
    domain: Annotated[str, typer.Option(help="Of names such as argocd.production.<domain>.")],
    region: Annotated[str, typer.Option(help="Of AWS, e.g. eu-west-3.")],
    buckets: Annotated[str, typer.Option(help="What names of buckets begin with: acme, for acme-production-mlflow.")],
    teams: Annotated[str, typer.Option(help="The organisation of the teams in .github/CODEOWNERS.")],
    root: Root = Path(),
) -> None:
    """Make a fork yours: rewrite what environment.yaml says, and what repeats it, in one commit."""
    from plumbline.tree.adopt import Adopter, adopt

    written = adopt(root, Adopter(repository, registry, domain, region, buckets, teams))
    typer.echo(f"{len(written)} files in one commit" if written else "nothing to do: the tree says so already")


@app.command("copy-environment")
def copy_one(
    source: Annotated[str, typer.Argument(help="A folder of clusters/.")],
    name: Annotated[str, typer.Argument(help="Of the new folder, and of the environment.")],
    region: Annotated[str, typer.Option(help="Of AWS; the source's if not given.")] = "",
    buckets: Annotated[
        str, typer.Option(help="What its buckets begin with; the source's with the new name in it.")
    ] = "",
    after: Annotated[str, typer.Option(help="The environment that serves a release first; as for the source.")] = "",
    root: Root = Path(),
) -> None:
    """Make a second environment of the same class, which names nothing of the first and serves nothing yet."""
    from plumbline.tree.copies import copy_environment
    from plumbline.tree.fill_in import to_fill_in

    written = copy_environment(root, source, name, region=region, buckets=buckets, after=after)
    typer.echo("\n".join([*written, *map(str, to_fill_in(root, name))]))


@app.command("outputs")
def write_all_outputs(
    environment: Annotated[str, typer.Argument(help="A folder of clusters/ and of terraform/environments/.")],
    file: Annotated[typer.FileText, typer.Argument(help="What `terraform output -json` wrote; - for a pipe.")],
    root: Root = Path(),
) -> None:
    """Write what Terraform made into clusters/<env>: registry, domain, region, buckets, and where its services are."""
    from plumbline.tree.outputs import write_outputs

    written = write_outputs(root, environment, file.read(), getattr(file, "name", "-"))
    typer.echo("\n".join(written) if written else "nothing to do: the folder says so already")
