"""What Argo CD makes of the tree: every folder that it syncs, built with the Kustomize that the tests pin."""

import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from plumbline.core import programs
from plumbline.core.documents import DocumentError
from plumbline.core.errors import Misuse
from plumbline.tree import tools
from plumbline.tree.render.example import example_release
from plumbline.tree.values import read_values

# What a build reads; the rest of a work tree is large and of no concern to it.
READ = ("apps", "argo", "clusters", "kustomize", "policies")

Object = dict[str, Any]
Objects = list[Object]


class Loader(yaml.CSafeLoader):
    """PyYAML's safe loader, to which a lone `=` is a text, as it is to everybody but YAML 1.1."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


class RenderError(Misuse):
    """A folder does not build, or builds with a warning; the message names it."""


def environments(root: Path) -> list[str]:
    """The names of the environments: the folders of clusters/ that say their name in environment.yaml."""
    return sorted(path.parent.name for path in root.glob("clusters/*/environment.yaml"))


def synced(root: Path, environment: str) -> list[str]:
    """The folders of an environment that Argo CD builds: its own, its workloads, its models. Components are not."""
    files = (root / "clusters" / environment).rglob("kustomization.yaml")
    return sorted(str(path.parent.relative_to(root)) for path in files if _kind(path) == "Kustomization")


def render(root: Path, environment: str) -> dict[str, Objects]:
    """{folder, relative to root: the objects that it renders to}. Raises RenderError.

    A model without release.yaml renders with an example release: what will run is checked before anything is served.
    """
    folders, broken = render_apart(root, environment)
    for error in broken.values():
        raise error
    return folders


def render_apart(root: Path, environment: str) -> tuple[dict[str, Objects], dict[str, "RenderError"]]:
    """What `render` returns of the folders that build, and {folder: why it does not} of the others."""
    with complete(root, environment) as tree:

        def attempt(folder: str) -> Objects | RenderError:
            try:
                return build(tree, folder)
            except RenderError as error:
                return error

        names = synced(tree, environment)
        with ThreadPoolExecutor() as pool:
            built = dict(zip(names, pool.map(attempt, names), strict=True))
    return (
        {name: objects for name, objects in built.items() if not isinstance(objects, RenderError)},
        {name: error for name, error in built.items() if isinstance(error, RenderError)},
    )


def without_release(root: Path, environment: str) -> list[str]:
    """The models of an environment that serve nothing yet."""
    folders = (root / "clusters" / environment / "models").glob("*/kustomization.yaml")
    return sorted(path.parent.name for path in folders if not (path.parent / "release.yaml").exists())


@contextmanager
def complete(root: Path, environment: str) -> Iterator[Path]:
    """A copy of the tree in which every model of the environment has a release; Kustomize reads nothing outside."""
    with TemporaryDirectory(prefix="render-") as copy:
        tree = Path(copy).resolve()
        for name in READ:
            if (root / name).is_dir():
                # Links as links: Kustomize says which lead out of the tree, and one that leads nowhere stops nothing.
                shutil.copytree(root / name, tree / name, symlinks=True)
        for model in without_release(tree, environment):
            folder = tree / "clusters" / environment / "models" / model
            (folder / "release.yaml").write_text(
                example_release(model, *_registry(root, environment)), encoding="utf-8"
            )
        yield tree


def _registry(root: Path, environment: str) -> list[str]:
    """Where the environment's images come from; none where its file does not say so, as those of before did not."""
    try:
        return [read_values(root, environment).registry]
    except DocumentError:
        return []  # said by `plumbline tree validate`


def build(tree: Path, folder: str, *, warnings: bool = False) -> Objects:
    """One `kustomize build`; a warning is an error unless it may be a third party's: nobody reads Argo CD's log."""
    done = programs.run(tools.kustomize(), "build", tree / folder, missing="run `make tools`")
    if done.code or (done.error and not warnings):
        raise RenderError(f"{folder}: {done.error.replace(f'{tree}/', '')}")
    return [item for item in yaml.load_all(done.text, Loader) if item is not None]


def as_yaml(objects: Iterable[Object]) -> str:
    """All of them in one text; PyYAML's writer in Python takes ten times as long as libyaml's."""
    return yaml.dump_all(objects, Dumper=yaml.CSafeDumper, sort_keys=False)


def _kind(path: Path) -> str:
    """Of a kustomization.yaml; one that can't be read counts as one that Argo CD builds, which then says why not."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return "Kustomization"
    return str(document.get("kind", "Kustomization")) if isinstance(document, dict) else "Kustomization"
