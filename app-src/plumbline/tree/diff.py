"""`plumbline tree diff`: what a branch changes in each environment, and what that means, as Markdown."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from plumbline.core.documents import DocumentError
from plumbline.tree.applications import Owned, changed_applications, owned
from plumbline.tree.difference import Change, differences
from plumbline.tree.documents import read_ladder, read_release
from plumbline.tree.git import git, left
from plumbline.tree.render.build import Objects, RenderError, environments
from plumbline.tree.render.environment import Environment

_SHOWN = 200


@dataclass(frozen=True)
class EnvironmentDiff:
    """What a branch changes in one environment."""

    environment: str
    meanings: list[str]
    """What people mean by it: Applications, deletions, weights, releases, versions of third parties."""
    changes: list[Change]
    unknown: list[str] = field(default_factory=list)
    """What could not be compared, and why: of it nobody says that it stays as it is."""

    @property
    def reached(self) -> bool:
        """Whether the change reaches the environment, as far as that can be told."""
        return bool(self.meanings or self.changes or self.unknown)


def diff(root: Path, base: str) -> list[EnvironmentDiff]:
    """Compare the work tree with the commit at which it left `base`.

    What does not build in the base is told as unknown, so that a change that mends it can be judged. Raises GitError,
    and RenderError for a work tree that does not build.
    """
    with _checkout(root, base) as before:
        return [_compare(before, root, name) for name in sorted({*environments(before), *environments(root)})]


def _compare(before: Path, after: Path, name: str) -> EnvironmentDiff:
    new = Environment.load(after, name) if name in environments(after) else None
    try:
        old = Environment.load(before, name, partly=True) if name in environments(before) else None
    except RenderError as error:
        reason = f"the base does not build, so what changes is unknown: {error}"
        return EnvironmentDiff(name, list(_meanings(before, after, name)), [], [reason])
    broken = set(old.broken) if old is not None else set()
    unknown = [
        f"{folder} does not build in the base, so what changes there is unknown: {error}"
        for folder, error in sorted(old.broken.items() if old is not None else [])
    ]
    if new is not None:
        new = replace(new, folders={path: items for path, items in new.folders.items() if path not in broken})
    changes = differences(_objects(old), _objects(new))
    meanings = [*_coming(old, new), *changed_applications(old, new)]
    if changes or broken:
        meanings += [*_meanings(before, after, name), *_versions(old, new)]
    return EnvironmentDiff(name, meanings, changes, unknown)


def reach(environments: list[EnvironmentDiff]) -> str:
    """The first line: which environments a change reaches."""
    return f"Reaches {', '.join(item.environment for item in environments if item.reached) or 'no environment'}.\n"


def markdown(difference: EnvironmentDiff) -> str:
    """One environment's difference as a comment on a pull request shows it."""
    if not difference.reached:
        return f"### {difference.environment}\n\nNo change.\n"
    changes = difference.changes
    touched = {change.object for change in changes}
    left_out = len(changes) - _SHOWN
    fields = [
        f"\n<details><summary>{len(touched)} objects, {len(changes)} fields</summary>\n\n```diff",
        *(line for change in changes[:_SHOWN] for line in _lines(change)),
        *([f"# … and {left_out} more: run `make diff`"] if left_out > 0 else []),
        "```\n</details>\n",
    ]
    return "\n".join(
        [
            f"### {difference.environment}\n",
            *(f"- **unknown**: {' '.join(reason.split())}" for reason in difference.unknown),
            *(f"- {meaning}" for meaning in difference.meanings),
            *(fields if changes else [""]),
        ]
    )


def _coming(old: Environment | None, new: Environment | None) -> Iterator[str]:
    if old is None and new is not None:
        yield f"**The environment {new.name} comes**"
    if new is None and old is not None:
        yield (
            f"**The environment {old.name} goes**: its root Application finds no folder any more; what no "
            "ApplicationSet made stays in the cluster as it is"
        )


def _objects(tree: Environment | None) -> Objects:
    """All objects of an environment, in their namespaces; each with the Application that owns it."""
    return [] if tree is None else [_marked(entry) for entry in owned(tree).values()]


def _marked(entry: Owned) -> dict[str, object]:
    return entry.item | {"owner": f"Application/{entry.sync.application}"}


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


def _versions(old: Environment | None, new: Environment | None) -> Iterator[str]:
    """Third parties that come, go or change their version."""
    before, after = (
        {sync.application: sync.revision for sync in (tree.syncs if tree else []) if tree and sync.url != tree.url}
        for tree in (old, new)
    )
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}"


@contextmanager
def _checkout(root: Path, base: str) -> Iterator[Path]:
    """The tree of the commit at which HEAD left `base`, with every link as a link, wherever it leads."""
    with TemporaryDirectory(prefix="diff-") as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        tree = Path(folder) / "tree"
        git(root, "read-tree", left(root, base), environment=index)
        git(root, "checkout-index", "--all", "--quiet", f"--prefix={tree}/", environment=index)
        yield tree
