"""`plumbline tree diff`: what a branch changes in each environment, and what that means, as Markdown."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from plumbline.core.documents import DocumentError
from plumbline.tree.difference import Change, differences
from plumbline.tree.documents import read_ladder, read_release
from plumbline.tree.git import git, left
from plumbline.tree.render.build import Objects, environments, render
from plumbline.tree.render.sync import OURS, syncs

_SHOWN = 200


@dataclass(frozen=True)
class EnvironmentDiff:
    """What a branch changes in one environment."""

    environment: str
    meanings: list[str]
    """What people mean by it: weights, releases, versions of third parties."""
    changes: list[Change]


def diff(root: Path, base: str) -> list[EnvironmentDiff]:
    """Compare the work tree with the commit at which it left `base`. Raises GitError or RenderError."""
    with _checkout(root, base) as before:
        return [_compare(before, root, name) for name in sorted({*environments(before), *environments(root)})]


def _compare(before: Path, after: Path, name: str) -> EnvironmentDiff:
    old = _all(render(before, name)) if name in environments(before) else []
    new = _all(render(after, name)) if name in environments(after) else []
    changes = differences(old, new)
    meanings = [*_meanings(before, after, name), *_versions(old, new)] if changes else []
    return EnvironmentDiff(name, meanings, changes)


def markdown(found: EnvironmentDiff) -> str:
    """One environment's difference as a comment on a pull request shows it."""
    changes = found.changes
    if not changes:
        return f"### {found.environment}\n\nNo change.\n"
    touched = {change.object for change in changes}
    left_out = len(changes) - _SHOWN
    return "\n".join(
        [
            f"### {found.environment}\n",
            *(f"- {meaning}" for meaning in found.meanings),
            f"\n<details><summary>{len(touched)} objects, {len(changes)} fields</summary>\n\n```diff",
            *(line for change in changes[:_SHOWN] for line in _lines(change)),
            *([f"# … and {left_out} more: run `make diff`"] if left_out > 0 else []),
            "```\n</details>\n",
        ]
    )


def _all(folders: dict[str, Objects]) -> Objects:
    return [item for objects in folders.values() for item in objects]


def _lines(change: Change) -> Iterator[str]:
    where = f"{change.object} {change.field}".strip()
    for sign, value in (("-", change.before), ("+", change.after)):
        if value != "nothing":
            yield from (f"{sign} {where}: {line}" for line in str(value).splitlines() or [""])


def _meanings(before: Path, after: Path, environment: str) -> Iterator[str]:
    """What people mean by the change of a model: its weights, its release."""
    folder = Path("clusters") / environment / "models"
    for model in sorted({path.name for tree in (before, after) for path in (tree / folder).glob("*/")}):
        old, new = before / folder / model, after / folder / model
        yield from (f"**{model}: {what}**" for what in [*_weights(old, new), *_release(old, new)])


def _weights(before: Path, after: Path) -> Iterator[str]:
    old, new = _ladder(before), _ladder(after)
    if len(old) == len(new):
        yield from (f"weight {left} → {right}" for left, right in zip(old, new, strict=True) if left != right)
    else:
        yield f"weights {', '.join(map(str, old)) or 'none'} → {', '.join(map(str, new)) or 'none'}"


def _ladder(folder: Path) -> tuple[int, ...]:
    try:
        return read_ladder((folder / "canary.yaml").read_text(encoding="utf-8")).weights
    except (DocumentError, OSError):
        return ()  # what is wrong with it is for `plumbline tree validate` to say


def _release(before: Path, after: Path) -> Iterator[str]:
    old, new = _served(before), _served(after)
    for what in old or new:
        if old.get(what) != new.get(what):
            yield f"{what} {old.get(what, 'none')} → {new.get(what, 'none')}"


def _served(folder: Path) -> dict[str, str]:
    try:
        spec = read_release((folder / "release.yaml").read_text(encoding="utf-8")).spec
    except (DocumentError, OSError):
        return {}
    return {
        "version": spec.version,
        "model": spec.artifact.digest.removeprefix("sha256:")[:12],
        "threshold": str(spec.threshold),
        "image": spec.image.rpartition(":")[2][:12],
        "approved by": spec.evidence.approvedBy or "nobody",
    }


def _versions(old: Objects, new: Objects) -> Iterator[str]:
    """Third parties that come, go or change their version."""
    before, after = (
        {sync.application: sync.revision for sync in syncs(objects, []) if sync.url != OURS} for objects in (old, new)
    )
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}"


@contextmanager
def _checkout(root: Path, base: str) -> Iterator[Path]:
    """The tree of the commit at which HEAD left `base`."""
    with TemporaryDirectory(prefix="diff-") as folder:
        with tarfile.open(fileobj=BytesIO(git(root, "archive", left(root, base)))) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)
