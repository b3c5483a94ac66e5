"""What an environment's release.yaml said before, and where a rollback may go: never to what failed already."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from plumbline.core.documents import DocumentError
from plumbline.core.release import Release, parse_release
from plumbline.promotion.delivery.cluster import Served
from plumbline.promotion.delivery.documents import release_path
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.state import bar_of

_FAILED = re.compile(r"^Gave-up: (\S+) (\S+) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Past:
    """A release that the file named."""

    commit: str
    release: Release
    text: str
    """The file as it stood: written back byte for byte it is the same ReplicaSet, so nothing climbs a ladder again."""


Say = Callable[[str], None]


def gave_up(served: Served) -> str:
    """The line of a commit message that keeps later rollbacks from what failed."""
    return f"Gave-up: {served.version} {served.digest} {served.image}\n"


def past(tree: Checkout, environment: str, model: str, say: Say) -> list[Past]:
    """Every release of the file's history, newest first; `say` is told of each commit that is skipped and why."""
    path = release_path(environment, model)
    entries = []
    for commit, text in tree.history(path):
        try:
            release = parse_release(text, source=path)
        except DocumentError as error:
            say(f"{path} of commit {commit[:12]} is skipped: {error.reason}")
            continue
        if release.model != model:
            say(f"{path} of commit {commit[:12]} is skipped: it is the release of {release.model}")
            continue
        entries.append(Past(commit, release, text))
    return entries


def back_to(
    tree: Checkout,
    environment: str,
    failed: Release,
    stable: Served | None,
    entries: list[Past],
    wanted: Callable[[Release], bool] = lambda _: True,
) -> Past | None:
    """What an environment goes back to, of all its past, when a release failed there or may not be served.

    Another release that is stable, if git named it and it may be served; whatever else git named was not stable last.
    Where none is, or the failed one itself: the newest wanted release that nobody barred and that did not fail before,
    of those that the branch itself named, and only without one, of those that a merged line named between two of its
    commits, which no cluster has seen. None where there is none: then a person decides.
    """
    legal = [
        entry
        for entry in entries
        if entry.release.spec != failed.spec and wanted(entry.release) and not bar_of(tree, environment, entry.release)
    ]
    proved = next((entry for entry in legal if Served.of(entry.release) == stable), None)
    if proved is not None or stable not in (None, Served.of(failed)):
        return proved
    failures = reverts(tree, environment, failed.model)
    branch = tree.mainline()
    passed = {Served.of(failed)}
    left: list[Past] = []
    for entry in entries:
        passed |= failures.get(entry.commit, set())
        if entry in legal and Served.of(entry.release) not in passed:
            left.append(entry)
    return next((entry for entry in left if entry.commit in branch), left[0] if left else None)


def reverts(tree: Checkout, environment: str, model: str) -> dict[str, set[Served]]:
    """{commit: the releases that it gave up} of the file's history."""
    path = release_path(environment, model)
    log = tree.git("log", "--full-history", "--format=%x00%H%n%B", "--grep=^Gave-up: ", "--", path).text
    commits = (part.partition("\n") for part in log.split("\0") if part)
    return {commit: {Served(*names) for names in _FAILED.findall(body)} for commit, _, body in commits}
