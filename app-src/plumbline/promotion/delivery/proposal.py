"""How a change reaches the branch: pushed, or where a forge is set as a pull request that a rerun finds again."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatch

from plumbline.core.documents import DocumentError
from plumbline.core.errors import PlumblineError, Refused
from plumbline.promotion.delivery.forge import Forge, Pull, Wanted, connect
from plumbline.promotion.delivery.git import Change, Checkout, Subject, commit_and_push
from plumbline.promotion.delivery.records import read_policy

_OF_THE_MOMENT = re.compile(r"^\s*(at|gate): .*\n", re.MULTILINE)
"""Lines that differ each time the same is decided: when it was, and the digest of a report with its latencies."""
_URGENT = {"rollback", "rejection"}
_LONGEST = 60_000
"""Characters of a description; GitHub takes 65,536."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where a change went."""

    commit: str
    branch: str
    waiting: str = ""
    """The pull request that is to be merged, in words; empty where the branch has the change."""

    def __str__(self) -> str:
        return f"waiting for {self.waiting}" if self.waiting else f"commit {self.commit}"


def write(tree: Checkout, make: Callable[[], Change | None]) -> Delivered | None:
    """Bring what `make` makes of the newest main to the branch; None where it made nothing.

    Raises as `commit_and_push` does, and what a forge answers (forge.answer).
    """
    settings = tree.settings
    if not settings.forge:
        commit = commit_and_push(tree, settings.attempts, make)
        return Delivered(commit, tree.branch) if commit is not None else None
    change = make()
    if change is None:
        return None
    if change.subject is None:
        raise PlumblineError(f"no subject to name a branch by: {change.message}")
    return _propose(tree, connect(settings), change, change.subject)


def merges_itself(tree: Checkout, model: str, environments: Collection[str]) -> bool:
    """Whether the model's policy lets the forge merge a change of these environments without a person."""
    rules = read_policy(tree, model).spec.environments
    return bool(environments) and all(name in rules and rules[name].merge == "automatic" for name in environments)


def _propose(tree: Checkout, forge: Forge, change: Change, subject: Subject) -> Delivered:
    """Open the change's pull request, or find it and bring it up to date. Each step may be repeated after a crash."""
    base, branch = tree.head(), subject.branch
    pull, there = forge.newest(branch), tree.tip(branch)
    if there and pull is not None and pull.state == "closed":
        raise Refused(f"{pull} was closed without a merge: reopen it, or delete the branch {branch} to propose it anew")
    if there and (by := tree.git("show", "--no-patch", "--format=%ae", there).text.strip()) != _author(tree):
        raise Refused(f"the branch {branch} has a commit of {by}: merge or delete it first; it is never overwritten")
    commit = there if there and _stands(tree, there, base, change) else ""
    pushed = not commit
    if pushed:
        commit = tree.commit(change)
        tree.push(branch, replacing=there)
    if pull is None or pull.state != "open":
        pull = forge.create(tree.branch, _wanted(tree, change, subject, base))
    elif pushed or not pull.labels.issuperset(_labels(subject)):  # a crash may have come between
        forge.update(pull, _wanted(tree, change, subject, base))
    _supersede(tree, forge, pull, subject)
    unmerged = _merge(forge, pull) if _automatic(tree, change, subject) else ""
    now = forge.newest(branch) or pull
    if now.state == "merged":
        return Delivered(commit, tree.branch)
    return Delivered(commit, branch, f"{now}{unmerged}")


def _author(tree: Checkout) -> str:
    return tree.settings.author_email


def _stands(tree: Checkout, there: str, base: str, change: Change) -> bool:
    """Whether the branch holds this very change of files that main has not touched since."""
    if tree.git("diff", "--quiet", f"{there}~1", base, "--", *change.files, check=False).code != 0:
        return False
    texts = {name: tree.git("show", f"{there}:{name}", check=False).text for name in change.files}
    return all(lasting(texts[name]) == lasting(text) for name, text in change.files.items())


def lasting(text: str) -> str:
    """What of a file is the same each time the same is decided."""
    return _OF_THE_MOMENT.sub("", text)


def _automatic(tree: Checkout, change: Change, subject: Subject) -> bool:
    touched = {name.split("/")[1] for name in change.files if name.startswith("clusters/")}
    environments = touched | ({subject.environment} if subject.environment else set())
    try:
        return bool(subject.model) and merges_itself(tree, subject.model, environments)
    except (Refused, DocumentError):  # a policy that is gone or broken lets nothing merge by itself, and stops nothing
        return False


def _merge(forge: Forge, pull: Pull) -> str:
    """Ask for an automatic merge; what is against it is said, and the pull request waits for a person."""
    try:
        forge.merge(pull)
    except Refused as error:
        return f"; it does not merge by itself: {error}"
    return ", which merges once its checks have passed"


def _supersede(tree: Checkout, forge: Forge, pull: Pull, subject: Subject) -> None:
    """Close what this one makes pointless: earlier promotions to the same place or of what is rejected, older data."""
    patterns = {
        "promotion": f"promote/{subject.environment}/{subject.model}/*",
        "rollback": f"promote/{subject.environment}/{subject.model}/{subject.version}",
        "rejection": f"promote/*/{subject.model}/{subject.version}",
        "data": f"data/{subject.model}/*",
    }
    pattern = patterns.get(subject.kind)
    for other in forge.opened() if pattern else []:
        if other.number != pull.number and fnmatch(other.branch, pattern or ""):
            forge.close(other, f"Superseded by {pull}.")
            tree.remove(other.branch)


def _labels(subject: Subject) -> tuple[str, ...]:
    model = (f"model:{subject.model}",) if subject.model else ()
    where = (f"environment:{subject.environment}",) if subject.environment else ()
    return (subject.kind, *model, *where, *(("urgent",) if subject.kind in _URGENT else ()))


def _wanted(tree: Checkout, change: Change, subject: Subject, base: str) -> Wanted:
    title, _, trailers = change.message.partition("\n")
    urgent = subject.kind in _URGENT
    title = f"Urgent: {title}" if urgent else title
    parts = [
        "**A rollback: what is served now failed. Merge this first.**" if urgent else "",
        f"```\n{trailers.strip()}\n```",
        subject.details,
        f"## What changes in the cluster\n\n{_rendered(tree, change, base)}",
    ]
    body = "\n\n".join(part for part in parts if part)
    return Wanted(subject.branch, title, body[:_LONGEST], _labels(subject))


def _rendered(tree: Checkout, change: Change, base: str) -> str:
    """`plumbline tree diff` of the commit; where it can't be rendered, why, and the difference of the files."""
    from plumbline.tree.diff import diff, markdown

    try:
        return "\n".join(markdown(found) for found in diff(tree.path, base) if found.changes) or "Nothing.\n"
    except (PlumblineError, OSError) as error:
        text = tree.git("diff", "--no-color", base, "HEAD", "--", *change.files).text
        words = " ".join(str(error).split())[:300]
        return f"Not rendered ({words}). The files:\n\n```diff\n{text.rstrip()}\n```"
