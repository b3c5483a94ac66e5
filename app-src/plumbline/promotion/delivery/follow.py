"""The registry follows: what environments serve becomes life cycle and aliases, what git bars becomes a mark.

Level-triggered: it compares and does what is missing, so running it twice, late or after a crash does no harm.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePath

from plumbline.core.errors import Refused
from plumbline.core.release import Release
from plumbline.promotion.delivery.cluster import Served
from plumbline.promotion.delivery.documents import gate_name, policy_path
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.records import read_barred, read_policy, read_served
from plumbline.promotion.delivery.state import environments_of
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.lifecycle import Lifecycle, path_to
from plumbline.promotion.registry.version import Version

_ORDER = list(Lifecycle)


Facts = Mapping[str, Served | None]
"""What each environment has stable, None for nothing; of others nothing is known, and their aliases stay."""


def sync(
    registry: Registry, tree: Checkout, model: str, facts: Facts | None = None, listed: list[Version] | None = None
) -> list[str]:
    """Make the registry say what is served of a model; returns what was done and what could not be, a line each.

    `facts` are what clusters have stable; where there are none (no cluster is followed), git's word is taken for all.
    `listed` are its versions, for whoever asked for them just now.
    """
    versions = _finished(registry.versions(model) if listed is None else listed)
    done = list(_sync(registry, tree, model, facts, versions))
    for version in _finished(registry.versions(model)) if done else versions:  # with the aliases of now
        registry.describe(version)
    return done


def _finished(versions: list[Version]) -> list[Version]:
    return [version for version in versions if version.semver is not None]


def _sync(
    registry: Registry, tree: Checkout, model: str, facts: Facts | None, versions: list[Version]
) -> Iterator[str]:
    environments = {}
    if tree.read(policy_path(model)) is not None or environments_of(tree, model):
        environments = read_policy(tree, model).spec.environments  # else the model was deleted, with its gate
    if facts is None:
        named = {name: read_served(tree, name, model) for name in _environments(tree)}
        facts = {name: None if release is None else Served.of(release) for name, release in named.items()}
    wanted: dict[str, Lifecycle] = {}
    # Whose alias no version has: another one than is served would be a lie, as of a registry that was restored.
    nobody = {name: "none" for name, served in facts.items() if served is None}
    for name, environment in environments.items():
        if (served := facts.get(name)) is None:
            # Where nothing is served, the alias is taken away below.
            numbers = [] if name in facts else [item.number for item in versions if name in item.aliases]
        else:
            numbers = []
            for version in _registered(versions, served):
                numbers = [version.number]
                yield from _serves(registry, version, name, served)
            if not numbers:
                nobody[name] = f"{served.version} of {served.digest[:19]}"
                yield f"{name} serves {served.version}, which the registry does not know by this digest"
        wanted |= {n: max(wanted.get(n, Lifecycle.NONE), environment.lifecycle, key=_ORDER.index) for n in numbers}
    for version in versions:
        for name in version.aliases:
            if name in nobody:
                registry.remove_alias(version, name)
                yield f"alias {name} taken from {version.semver}: {name} serves {nobody[name]}"
    for version in versions:
        yield from _mark(registry, tree, version)
    for version in versions:
        yield from _move(registry, version, wanted.get(version.number))


def _environments(tree: Checkout) -> list[str]:
    return [path.split("/")[1] for path in tree.names("clusters", "*") if tree.is_folder(path)]


def _registered(versions: list[Version], served: Served) -> list[Version]:
    return [item for item in versions if item.digest == served.digest and str(item.semver) == served.version][:1]


def _serves(registry: Registry, version: Version, environment: str, served: Served) -> Iterator[str]:
    if not version.proved(environment):
        registry.tag(version, {f"proved.{environment}": served.image})
        version.tags[f"proved.{environment}"] = served.image
    if environment not in version.aliases:
        registry.alias(version, environment)
        yield f"alias {environment} → {version.semver}"


def trainers(registry: Registry, release: Release, versions: list[Version]) -> dict[str, str]:
    """Who trained what a release names, as far as the registry, which has these versions of its model, knows it."""
    named = _registered(_finished(versions), Served.of(release))
    return {user: did for item in named for user, did in registry.trainers(item).items()}


def unjudged(registry: Registry, environment: str, release: Release, versions: list[Version]) -> Iterator[str]:
    """Why a release that git names did not come through the gate, as far as its run shows; nothing where it did.

    `plumbline promote audit` reads the report as well. Of a model that the registry does not know nothing is said.
    """
    versions, spec = _finished(versions), release.spec
    if not versions:
        return
    if not _registered(versions, Served.of(release)):
        yield f"{spec.version} is not registered by the digest that git names"
    elif gate_name(environment, spec.version, spec.evidence.gate) not in registry.names(spec.lineage.run, "gate"):
        yield f"the gate of {environment} never judged {spec.version}: its run has no report {spec.evidence.gate[:19]}"


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
        versions = _finished(registry.versions(PurePath(path).stem))
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
