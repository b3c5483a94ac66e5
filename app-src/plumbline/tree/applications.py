"""Which Applications come, go or change between two trees, and what Argo CD deletes with that.

As Argo CD does it: an ApplicationSet takes away the Applications whose folder is gone, and these cascade; an
Application that is declared itself goes without what it made; whatever leaves the folder of one that stays is pruned.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from plumbline.tree.difference import key_of
from plumbline.tree.render.build import Object
from plumbline.tree.render.environment import Environment
from plumbline.tree.render.sync import Sync
from plumbline.tree.validate.cluster import name_of

STATEFUL = (
    "PersistentVolumeClaim",
    "StatefulSet",
    "Prometheus",
    "Alertmanager",
    "Rollout",
    "Namespace",
    "ApplicationSet",
)
"""What holds data, serves, or holds what does."""
_NAMED = 12


class Owned(NamedTuple):
    """An object as it will stand in the cluster, and the Application that brings it there."""

    sync: Sync
    item: Object


def owned(tree: Environment) -> dict[str, Owned]:
    """{key of an object, with the namespace that Argo CD puts it in: the object} of all that is synced."""
    by_folder, everywhere = tree.by_folder(), _cluster_wide(tree)
    by_key: dict[str, Owned] = {}
    for folder, objects in tree.folders.items():
        sync = by_folder.get(folder)
        for item in objects if sync is not None else []:
            assert sync is not None  # noqa: S101 - said to mypy
            metadata = item["metadata"]
            if "namespace" not in metadata and (item["apiVersion"].rpartition("/")[0], item["kind"]) not in everywhere:
                item = item | {"metadata": metadata | {"namespace": sync.namespace}}
            by_key[key_of(item)] = Owned(sync, item)
    return by_key


def changed_applications(old: Environment | None, new: Environment | None) -> Iterator[str]:
    """What people must know of it, a line each; None is an environment that is not there."""
    before, after = _by_name(old), _by_name(new)
    had, has = _served(old), _served(new)
    for name in sorted(before.keys() | after.keys()):
        if name not in before:
            yield f"**Application {name} comes**: {_described(after[name], new)}"
        elif name not in after and new is None and not before[name].made_by:
            continue  # told of the environment as a whole: its root Application finds no folder
        elif name not in after:
            yield f"**Application {name} goes**: {_gone(before[name], old, had)}"
        else:
            yield from _changed(name, before[name], after[name], had)
    for name in sorted(before.keys() & after.keys()):
        yield from _pruned(name, after[name], had, has)
    yield from _namespaces(_spaces(before, had), _spaces(after, has))


def _spaces(applications: dict[str, Sync], objects: dict[str, Owned]) -> set[str]:
    """Namespaces of the Applications, and those that their objects name."""
    named = {entry.item["metadata"].get("namespace", "") for entry in objects.values()} - {""}
    return {sync.namespace for sync in applications.values()} | named


def _by_name(tree: Environment | None) -> dict[str, Sync]:
    """The Applications that there are; a model that serves nothing yet has none."""
    return {sync.application: sync for sync in (tree.syncs if tree else []) if tree and sync.path not in tree.unserved}


def _served(tree: Environment | None) -> dict[str, Owned]:
    there = _by_name(tree)
    return {key: entry for key, entry in (owned(tree) if tree else {}).items() if entry.sync.application in there}


def _described(sync: Sync, tree: Environment | None) -> str:
    where = sync.path if tree is not None and sync.url == tree.url else f"{sync.url} {sync.revision}"
    return f"{where} into the namespace {sync.namespace}"


def _gone(sync: Sync, tree: Environment | None, had: dict[str, Owned]) -> str:
    if tree is None or sync.url != tree.url:
        what = "what it made"
        return f"Argo CD deletes {what}" if sync.cascades else f"{what} stays in the cluster, and nobody's"
    made = [entry for entry in had.values() if entry.sync.application == sync.application]
    if not sync.cascades:
        return f"{_few(made)} stay in the cluster, and nobody's"
    kept = [entry for entry in made if sync.option(entry.item, "Delete") == "false"]
    # One object that asks for it holds up all of them.
    asks = any(sync.option(entry.item, option) == "confirm" for entry in made for option in ("Delete", "Prune"))
    when = ", once a person confirms it" if asks else ""
    stays = f"; {_few(kept)} stay" if kept else ""
    return f"Argo CD deletes {_few([entry for entry in made if entry not in kept])}{when}{stays}"


def _changed(name: str, old: Sync, new: Sync, had: dict[str, Owned]) -> Iterator[str]:
    for what in ("namespace", "path", "project", "url"):
        left, right = getattr(old, what), getattr(new, what)
        if left != right:
            yield f"**Application {name}**: {'repository' if what == 'url' else what} {left} → {right}"
    if old.made_by and old.made_by != new.made_by:
        made = [entry for entry in had.values() if entry.sync.application == name]
        does = f"deletes {_few(made)} with the ApplicationSet {old.made_by}" if old.cascades else "deletes nothing"
        yield f"**Application {name}**: owner {old.made_by} → {new.made_by or 'itself'}: Argo CD {does}"


def _pruned(name: str, new: Sync, had: dict[str, Owned], has: dict[str, Owned]) -> Iterator[str]:
    """What leaves an Application that stays."""
    left = {key: entry for key, entry in had.items() if entry.sync.application == name}
    moved = {key: has[key].sync.application for key in left if key in has and has[key].sync.application != name}
    for key, owner in sorted(moved.items()):
        deletes = f"; Argo CD deletes it if it syncs {name} first" if new.prunes else ""
        yield f"**{name_of(left[key].item)}**: owner {name} → {owner}{deletes}"
    # What stands in the cluster is asked for its options, which are those of before.
    gone = [
        Owned(replace(entry.sync, options=new.options), entry.item) for key, entry in left.items() if key not in has
    ]
    for option, does in (
        ("", "deletes" if new.prunes else "no longer declares, and nobody deletes,"),
        ("confirm", "deletes, once a person confirms it,"),
        ("false", "no longer declares, and keeps,"),
    ):
        some = [entry for entry in gone if _prune(entry) == option]
        if some:
            yield f"**Application {name}** {does} {_few(some)}"


def _prune(entry: Owned) -> str:
    option = entry.sync.option(entry.item, "Prune")
    return option if option in ("confirm", "false") else ""


def _few(entries: list[Owned]) -> str:
    """Names of objects with their namespaces, what is stateful first."""
    first = sorted(entries, key=lambda entry: (entry.item["kind"] not in STATEFUL, key_of(entry.item)))
    names = [key_of(entry.item).lstrip("/") for entry in first]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(names[:_NAMED]) or "nothing") + more


def _namespaces(before: set[str], after: set[str]) -> Iterator[str]:
    yield from (f"**Namespace {name} comes**" for name in sorted(after - before))
    yield from (
        f"**Namespace {name}** is left by its last Application, which does not delete the namespace itself"
        for name in sorted(before - after)
    )


def _cluster_wide(tree: Environment) -> set[tuple[str, str]]:
    """(group, kind) of what has no namespace, as far as a project of the tree allows it; no other may be synced."""
    projects = tree.of_kind("AppProject")
    rights = [right for item in projects for right in item["spec"].get("clusterResourceWhitelist") or []]
    return {(right["group"], right["kind"]) for right in rights}
