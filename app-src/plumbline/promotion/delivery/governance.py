"""What people decide against a version: reject it, so that it is not served again."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from plumbline.core.documents import DocumentError
from plumbline.core.errors import PlumblineError, Refused
from plumbline.core.names import SemVer, plain_name
from plumbline.core.release import Release
from plumbline.promotion.delivery.documents import Barred, Lineage, checked, dump, release_path
from plumbline.promotion.delivery.git import Change, Checkout, Subject, checkout
from plumbline.promotion.delivery.hold import Hold, held
from plumbline.promotion.delivery.past import back_to, past
from plumbline.promotion.delivery.proposal import Delivered, write
from plumbline.promotion.delivery.records import barred_place, read_barred
from plumbline.promotion.delivery.release_text import edit, move
from plumbline.promotion.delivery.state import digests_of, served_by
from plumbline.promotion.registry.attestation import require_attested
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import WEIGHTS
from plumbline.promotion.settings import Settings


@dataclass(frozen=True)
class Rejection:
    """What a rejection did in git."""

    digest: str
    delivered: Delivered | None
    """None where git said so already."""
    reverted: dict[str, str]
    """{environment: its move back, `v1.0.1 → v1.0.0`}."""
    stranded: tuple[str, ...]
    """Environments that serve the version and have no earlier release to go back to."""
    skipped: tuple[str, ...] = ()
    """What of the files' history could not be read, a line each."""


def reject(registry: Registry, settings: Settings, model: str, version: str, metric: str, reason: str) -> Rejection:
    """Bar a version's digest and take it out of every environment, in one commit that names the failed metric.

    Git needs no registry for that: a digest that is served is read from release.yaml, so that a rollback works while
    MLflow is down (`plumbline promote sync` marks the version later). Each release.yaml goes back to the newest release
    before that is not barred, by the same token-wise edit as a promotion. Running it twice changes nothing more.
    """
    plain_name(model, "model", like="flights")  # before they become paths
    SemVer.parse(version)

    def culprit(tree: Checkout) -> str:
        served = served_by(tree, model, lambda _: None)
        digests = {item.spec.artifact.digest for _, item in served if item.spec.version == version}
        return digests.pop() if len(digests) == 1 else registry.find(model, version).digest

    return bar(settings, model, version, culprit, metric, reason, partial(lineage_of, registry, settings, model))


def lineage_of(registry: Registry, settings: Settings, model: str, digest: str) -> Lineage | None:
    """What bars a digest's model in another file too, as registration signed it; None where nobody can tell now."""
    try:
        version = next((version for version in registry.versions(model) if version.digest == digest), None)
        if version is None:
            return None
        require_attested(registry, settings, version)
    except PlumblineError:
        return None
    return Lineage(weights=version.tags.get(WEIGHTS) or None, recipe=version.made_by or None, run=version.run)


def bar(
    settings: Settings,
    model: str,
    version: str,
    culprit: Callable[[Checkout], str],
    metric: str,
    reason: str,
    lineage: Callable[[str], Lineage | None] = lambda _: None,
) -> Rejection:
    """Bar the digest (of an artifact or an image) that `culprit` names on the newest main, as `reject` does.

    Where it names none (empty: main has moved on), nothing is changed.
    """
    reverted: dict[str, str] = {}
    left: list[str] = []
    skipped: list[str] = []
    digest = "sha256:" + "0" * 64
    checked(Barred, model=model, version=version, digest=digest, metric=metric, reason=reason)

    def change() -> Change | None:
        nonlocal digest
        reverted.clear()
        left.clear()
        skipped.clear()
        digest = culprit(tree)
        if not digest:
            return None
        files = {}
        recorded = read_barred(tree, model, digest)
        # This decision is the newer one.
        if recorded is None or recorded.override is not None or recorded.stays is not None:
            about = {"model": model, "version": version, "digest": digest, "metric": metric, "reason": reason}
            record = checked(Barred, **about, lineage=lineage(digest))
            files[barred_place(tree, model, digest)] = dump(record)
        for environment, release in served_by(tree, model, skipped.append):
            if digest not in digests_of(release):
                continue
            if (why := _kept(tree, environment, model)) is not None:
                skipped.append(f"{environment} still serves {model} {version}: {why}")
            else:
                _revert(tree, environment, release, digest, files, reverted, left, skipped)
        if not files:
            return None
        message = _rejection_message(model, version, metric, reason, digest, reverted, left)
        return Change(files, message, Subject("rejection", model, version))

    with checkout(settings) as tree:
        delivered = write(tree, change)
    return Rejection(digest, delivered, dict(reverted), tuple(left), tuple(dict.fromkeys(skipped)))


def _kept(tree: Checkout, environment: str, model: str) -> Hold | PlumblineError | None:
    """What keeps a model as it is: a hold, or a record that can't be read and may be one."""
    try:
        return held(tree, environment, model)
    except (DocumentError, Refused) as error:
        return error


def stranded(environment: str, model: str, version: str) -> str:
    """What is to be said and done of an environment that still serves a version that is barred."""
    return (
        f"{environment} still serves {model} {version}: it has no earlier release. "
        f"Promote another version there, or delete {release_path(environment, model)} by hand"
    )


def _revert(
    tree: Checkout,
    environment: str,
    release: Release,
    digest: str,
    files: dict[str, str],
    reverted: dict[str, str],
    left: list[str],
    skipped: list[str],
) -> None:
    path = release_path(environment, release.model)
    entries = past(tree, environment, release.model, skipped.append)
    good = back_to(tree, environment, release, None, entries, lambda other: digest not in digests_of(other))
    if good is None:
        left.append(environment)
        return
    try:
        files[path] = edit(tree.read(path) or "", good.release, source=path, earlier_text=good.text)
    except Refused:  # a legal file that no token can be replaced in: as it stood then
        files[path] = good.text
    reverted[environment] = move(release, good.release)


def _rejection_message(
    model: str, version: str, metric: str, reason: str, digest: str, reverted: dict[str, str], left: list[str]
) -> str:
    where = f"({', '.join(sorted(reverted))})" if reverted else ""
    back = ", ".join(sorted(set(reverted.values()))) or version
    moves = [f"{environment}: {moved}" for environment, moved in sorted(reverted.items())]
    moves += [f"{environment}: still {version}, no earlier release" for environment in left]
    body = [f"Failed: {metric}", f"Reason: {reason}", f"Barred: {digest}", *moves]
    return f"{model}{where}: {back}, rejected by {metric}\n\n" + "\n".join(body) + "\n"
