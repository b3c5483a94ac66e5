"""Which release each environment serves, since when and by whom: read from the history of release.yaml in git."""

from collections.abc import Iterator
from itertools import groupby, takewhile
from typing import NamedTuple

from plumbline.core.documents import DocumentError
from plumbline.core.release import Release, Spec, parse_release
from plumbline.promotion.delivery.git import Checkout


class Since(NamedTuple):
    """One release of an environment."""

    model: str
    environment: str
    version: str
    since: str
    """When the commit that began it was made, ISO 8601."""
    by: str
    """Who approved it, or where nobody is named, the author of that commit."""
    commit: str


def releases(tree: Checkout, models: list[str], environment: str = "", *, history: bool = False) -> Iterator[Since]:
    """What environments serve, by model; with `history` what they served before as well, newest first.

    A commit that changes nothing of the release, such as one of a comment, does not begin a new one.
    """
    paths = [path.split("/") for path in tree.names("clusters", "*/models/*/release.yaml")]
    for _, name, _, model, _ in sorted(paths, key=lambda parts: (parts[3], parts[1])):
        if (models and model not in models) or environment not in ("", name):
            continue
        for since, _ in _since(tree, name, model):
            yield since
            if not history:
                break


def served_as(tree: Checkout, model: str, version: str) -> Iterator[tuple[Since, Release]]:
    """Where a version is or was served, with its release, the newest of each environment first."""
    pattern = f"clusters/*/models/{model}/release.yaml"
    tree.complete()
    # Of those too that no environment serves any more.
    paths = set(tree.git("log", "--full-history", "--name-only", "--format=", "--", pattern).text.split())
    for path in sorted(paths):
        for since, release in _since(tree, path.split("/")[1], model):
            if release.spec.version == version:
                yield since, release


def _since(tree: Checkout, environment: str, model: str) -> Iterator[tuple[Since, Release]]:
    main, entries = tree.mainline(), list(_releases(tree, environment, model))
    own = [index for index, (commit, _) in enumerate(entries) if commit in main]
    # As long as the branch named it, whatever was merged meanwhile and left out.
    stands = list(takewhile(lambda index: _spec(entries[index]) == _spec(entries[own[0]]), own))
    for _, group in groupby(entries[stands[-1] :] if stands else entries, _spec):
        commits = list(group)
        # A pull request's release is served since its merge; a line that was merged otherwise has only its own commits.
        commit, release = ([item for item in commits if item[0] in main] or commits)[-1]
        if release is None:
            continue
        spec = release.spec
        since, author = tree.git("show", "--no-patch", "--format=%cI%n%an", commit).text.strip().split("\n")
        yield Since(model, environment, spec.version, since, spec.evidence.approvedBy or author, commit[:12]), release


def _spec(item: tuple[str, Release | None]) -> Spec | None:
    return item[1].spec if item[1] is not None else None


def _releases(tree: Checkout, environment: str, model: str) -> Iterator[tuple[str, Release | None]]:
    path = f"clusters/{environment}/models/{model}/release.yaml"
    for commit, text in tree.history(path, deletions=True):
        try:
            yield commit, parse_release(text, source=path) if text else None
        except DocumentError:
            continue  # nothing was served by what could not be read
