"""Why a canary failed: a verdict may only act on what differs between canary and stable.

| differs | what a failed analysis does |
| --- | --- |
| the artifact alone, or the image alone | back to stable, and that digest is barred |
| several of artifact, image, threshold, configuration | back to stable; none is barred: the next canary tells |
| only what has no digest: the threshold, where the artifact is, the version's name | back to stable |
| nothing of the release | nothing: the release is innocent, the commit that changed the pods is named |
"""

from dataclasses import dataclass

from plumbline.core.release import Release
from plumbline.promotion.delivery.cluster import RELEASE_TEXT, Running, Served
from plumbline.promotion.delivery.configuration import Changed, changes
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.past import Past, reverts
from plumbline.promotion.delivery.state import digests_of

CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True)
class Cause:
    """What differs between the canary of a release and what is stable."""

    differs: tuple[str, ...]
    """Each candidate in words that name it."""
    culprit: str
    """The digest that a failed analysis bars; empty where that is not proved."""
    of_release: bool
    """Whether any of it is the release's, so that going back to stable's release undoes it."""
    commits: tuple[Changed, ...]
    """Commits that changed the pods otherwise, newest first."""

    def __str__(self) -> str:
        return " and ".join(self.differs) or CONFIGURATION


def is_configuration(running: Running) -> bool:
    """Whether canary and stable run one release, so that the canary is one of the pods around it.

    Without asking git: a threshold that somebody changed by hand is found by `cause_of` alone.
    """
    on_the_way = running.failure is not None or bool(running.pods)
    return on_the_way and running.stable == running.wanted


def cause_of(tree: Checkout, environment: str, failed: Release, running: Running, entries: list[Past]) -> Cause:
    """What differs between the canary of `failed`, which is what main names, and stable; `entries` are all the past."""
    stable, wanted = running.stable, Served.of(failed)
    if stable is None:
        return Cause(("everything, for nothing was stable before",), "", True, ())
    artifact, image = digests_of(failed)
    candidates = []
    if wanted.digest != stable.digest:
        candidates.append((f"artifact {artifact}", artifact))
    if wanted.image != stable.image:
        same_bytes = image == stable.digests[1]
        candidates.append((f"image {failed.spec.image}", "" if same_bytes else image))
    # A version's threshold goes with its bytes.
    if wanted.digest == stable.digest and (other := _without_digest(tree, environment, failed, running, entries)):
        candidates.append((other, ""))
    if not candidates:
        commits = changes(tree, environment, failed.model, _began(tree, entries, failed), release_too=True)
        return Cause((), "", False, tuple(commits))
    # A cluster that compared the pods knows; else each commit since git first named stable's release may be in the
    # canary alone: that a rollback named it again since then says nothing of what its pods ran with.
    stood = [entry.commit for entry in entries if Served.of(entry.release) == stable]
    commits = changes(tree, environment, failed.model, stood[-1] if stood else "")
    if set(running.pods) - {RELEASE_TEXT} if running.pods is not None else commits:
        named = "; ".join(map(str, commits[:3])) or "no commit of ours"
        candidates.append((f"{CONFIGURATION} ({named})", ""))
    culprit = candidates[0][1] if len(candidates) == 1 else ""
    return Cause(tuple(words for words, _ in candidates), culprit, True, tuple(commits))


def _without_digest(tree: Checkout, environment: str, failed: Release, running: Running, entries: list[Past]) -> str:
    """What of the release differs although its bytes are stable's: its name, or what somebody changed by hand."""
    stable = running.stable
    if stable is not None and failed.spec.version != stable.version:
        return f"version {stable.version} → {failed.spec.version} of the same bytes"
    if running.pods is not None and RELEASE_TEXT not in running.pods:
        return ""
    began = _began(tree, entries, failed)
    if not began or began in reverts(tree, environment, failed.model):
        return ""  # it was taken back already
    digest = failed.spec.artifact.digest
    bytes_of_stable = (entry.release for entry in entries if entry.release.spec.artifact.digest == digest)
    before = next((release for release in bytes_of_stable if release.spec != failed.spec), None)
    if before is None or not (changed := _by_hand(before, failed)):
        return ""
    if running.pods is None and changes(tree, environment, failed.model, began):
        return ""  # the pods were changed after the release, so it was stable by then
    return changed


def _by_hand(before: Release, after: Release) -> str:
    """What servers read of two releases of the same bytes that differs."""
    values = [
        ("threshold", before.spec.threshold, after.spec.threshold),
        ("artifact.uri", before.spec.artifact.uri, after.spec.artifact.uri),
        ("artifact.schemaDigest", before.spec.artifact.schemaDigest, after.spec.artifact.schemaDigest),
    ]
    return ", ".join(f"{name} {old} → {new}" for name, old, new in values if old != new)


def _began(tree: Checkout, entries: list[Past], failed: Release) -> str:
    """The branch's own commit with which the file began to name this release, whatever was merged and left since."""
    commit, main = "", tree.mainline()
    for entry in entries:
        if entry.commit not in main:
            continue
        if entry.release.spec != failed.spec:
            break
        commit = entry.commit
    return commit
