"""The registry follows git: what environments serve becomes life cycle and aliases, what is barred becomes a mark.

Level-triggered: it compares and does what is missing, so running it twice, late or after a crash does no harm.
"""

from collections.abc import Iterator
from pathlib import PurePath

from plumbline.core.errors import Refused
from plumbline.promotion.delivery.documents import policy_path
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.governance import served_by
from plumbline.promotion.delivery.records import read_barred, read_policy, read_served
from plumbline.promotion.registry.client import Registry, Version
from plumbline.promotion.registry.lifecycle import Lifecycle, path_to

_ORDER = list(Lifecycle)


def sync(registry: Registry, tree: Checkout, model: str, only: str = "") -> list[str]:
    """Make the registry say what git says about a model; returns what was done and what could not be, a line each.

    With `only`, the alias of that environment alone is moved: others are where their own clusters put them.
    """
    return list(_sync(registry, tree, model, only))


def _sync(registry: Registry, tree: Checkout, model: str, only: str) -> Iterator[str]:
    environments = {}
    if tree.read(policy_path(model)) is not None or any(served_by(tree, model)):
        environments = read_policy(tree, model).spec.environments  # else the model was deleted, with its gate
    versions = [version for version in registry.versions(model) if version.semver is not None]
    wanted: dict[str, Lifecycle] = {}
    for name, environment in environments.items():
        if only not in ("", name):
            aliased = [item.number for item in versions if name in item.aliases]
            wanted |= {n: max(wanted.get(n, Lifecycle.NONE), environment.lifecycle, key=_ORDER.index) for n in aliased}
            continue
        served = read_served(tree, name, model)
        if served is None:
            continue
        registered = [item for item in versions if item.number == served.spec.lineage.registryVersion]
        if not registered or registered[0].digest != served.spec.artifact.digest:
            yield f"{name} serves {served.spec.version}, which the registry does not know by this digest"
            continue
        number = registered[0].number
        wanted[number] = max(wanted.get(number, Lifecycle.NONE), environment.lifecycle, key=_ORDER.index)
        if name not in registered[0].aliases:
            registry.alias(registered[0], name)
            yield f"alias {name} → {served.spec.version}"
    for version in versions:
        yield from _withdraw(registry, tree, version, only)
    for version in versions:
        yield from _mark(registry, tree, version)
    for version in versions:
        yield from _move(registry, version, wanted.get(version.number))
    for version in registry.versions(model):  # anew, with the aliases of now
        if version.semver is not None:
            registry.describe(version)


def _withdraw(registry: Registry, tree: Checkout, version: Version, only: str) -> Iterator[str]:
    """An environment that serves no version of the model any more has its alias on none."""
    for name in version.aliases:
        concerned = name == only if only else tree.is_folder(f"clusters/{name}")
        if concerned and read_served(tree, name, version.model) is None:
            registry.remove_alias(version, name)
            yield f"alias {name} taken from {version.semver}: {name} serves none"


def _mark(registry: Registry, tree: Checkout, version: Version) -> Iterator[str]:
    barred = read_barred(tree, version.model, version.digest)
    mark = "" if barred is None or barred.override is not None else f"{barred.metric}: {barred.reason}"
    if mark != version.rejected:
        registry.tag(version, {"rejected": mark})
        version.tags["rejected"] = mark
        yield f"{version.semver} {'rejected: ' + mark if mark else 'no longer rejected'}"


def _move(registry: Registry, version: Version, wanted: Lifecycle | None) -> Iterator[str]:
    target = wanted or (Lifecycle.ARCHIVED if version.lifecycle in _ORDER[1:3] or version.rejected else None)
    if target is None:
        return
    try:
        for step in path_to(version.lifecycle, target):
            registry.move(version, step)
            yield f"{version.semver} is {step}"
    except Refused as refusal:
        yield f"{version.semver}: {refusal}"


def archive_unused(registry: Registry, tree: Checkout, days: float) -> Iterator[Version]:
    """Archive the versions of each model with a gate that no environment took in so many days, but for the newest."""
    for path in tree.names("policies/promotion", "*.yaml"):
        versions = [version for version in registry.versions(PurePath(path).stem) if version.semver is not None]
        for version in versions[:-1]:
            if version.lifecycle is Lifecycle.NONE and registry.age_days(version) > days:
                registry.move(version, Lifecycle.ARCHIVED)
                yield version


def move_by_hand(registry: Registry, tree: Checkout, model: str, semver: str, target: Lifecycle) -> None:
    """Move a version that no environment serves; raises Refused for an illegal move or one that contradicts git."""
    version = registry.find(model, semver)
    for name in read_policy(tree, model).spec.environments:
        served = read_served(tree, name, model)
        if served is not None and served.spec.artifact.digest == version.digest:
            raise Refused(f"{name} serves {model} {semver}: change what git says, and `plumbline promote sync` follows")
    registry.move(version, target)
