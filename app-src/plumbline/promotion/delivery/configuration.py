"""Which commits changed a model's pods other than by release.yaml: their configuration, its base, a third party."""

import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from plumbline.core.documents import DocumentError, load
from plumbline.core.errors import Refused
from plumbline.promotion.delivery.documents import release_path
from plumbline.promotion.delivery.git import Checkout

# These change no pod: what is served, how it climbs, what people read.
_NOT_PODS = ("release.yaml", "evidence.yaml", "canary.yaml", "*.md", "README")


class Changed(NamedTuple):
    """A commit that may have changed the pods."""

    commit: str
    author: str
    title: str

    def __str__(self) -> str:
        return f"{self.commit[:12]} '{self.title}' by {self.author}"


def changes(
    tree: Checkout, environment: str, model: str, since: str = "", *, release_too: bool = False
) -> list[Changed]:
    """Commits that changed what the model's pods are made of, newest first; those after `since` where it is given.

    With `release_too` those that changed release.yaml as well: one comment more is another ReplicaSet.
    """
    tree.complete()
    outside = [name for name in _NOT_PODS if not (release_too and name == "release.yaml")]
    places = [*_places(tree, environment, model), *(f":(exclude,glob)**/{name}" for name in outside)]
    range_ = f"{since}..HEAD" if since else "HEAD"
    # A merge that has lines of neither side names files too; one that only brings them together names none.
    shown = ("-c", "--name-only", "--format=%H%x00%an%x00%s")
    commits: dict[Changed, None] = {}
    for line in tree.git("log", "--full-history", *shown, range_, "--", *places).text.split("\n"):
        if "\0" in line:
            commit = Changed(*line.split("\0"))
        elif line:
            commits[commit] = None
    return list(commits)


def _places(tree: Checkout, environment: str, model: str) -> list[str]:
    """What Kustomize reads for the model's folder, or all of the environment where that is unclear."""
    own = posixpath.dirname(release_path(environment, model))
    read = sorted(_closure(tree, own))
    if any(place != own and not place.startswith(f"{own}/") for place in read):
        return read
    others = [name for name in tree.names(f"clusters/{environment}", "models/*") if name != own]
    return [f"clusters/{environment}", "kustomize", "apps", *(f":(exclude){name}" for name in others)]


def _closure(tree: Checkout, folder: str) -> set[str]:
    places: set[str] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        if place in places:
            continue
        places.add(place)
        try:
            text = tree.read(f"{place}/kustomization.yaml") if tree.is_folder(place) else None
            names = list(_texts(load(text or "")))
        except (Refused, DocumentError, yaml.YAMLError, RecursionError):
            continue  # what does not build is said by `plumbline tree validate`
        for name in names:
            # A ConfigMap's file may be given as key=file.
            path = posixpath.normpath(posixpath.join(place, name.rpartition("=")[2]))
            if not path.startswith("..") and _exists(tree, path) and path != ".":
                waiting.append(path)
    return places


def _exists(tree: Checkout, path: str) -> bool:
    try:
        return (tree.path / path).exists()
    except OSError:  # a text that can be no name: a patch of one long line
        return False


def _texts(value: Any) -> Iterator[str]:
    waiting, passed = [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif id(item) not in passed:  # anchors can make of a few lines more than anybody could walk through
            passed.add(id(item))
            waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
