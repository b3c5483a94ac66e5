"""Pull requests of promotion that main has overtaken: closed with a sentence, so that nobody merges what is decided."""

from collections.abc import Iterator

from plumbline.core.documents import DocumentError
from plumbline.core.errors import Accident, PlumblineError, Refused
from plumbline.core.release import Release, parse_release
from plumbline.promotion.delivery.documents import release_path
from plumbline.promotion.delivery.forge import connect
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.proposal import lasting
from plumbline.promotion.delivery.records import read_served
from plumbline.promotion.delivery.state import bar_of

_OF_A_RELEASE = ("promote", "rollback")


def close_overtaken(tree: Checkout, environment: str, models: list[str]) -> Iterator[tuple[str, str]]:
    """Close what main has by now, or decided otherwise, of an environment's models, all where none is given.

    Yields (model, what was closed and why, or why one could not be looked at); the branch is deleted too, so that the
    same can be proposed anew. One with a person's commit stays theirs. Raises as the forge answers, and the last error
    where one was not looked at: then main has not been gone through.
    """
    forge, failed = connect(tree.settings), None
    for pull in forge.opened():
        kind, _, rest = pull.branch.partition("/")
        place, _, model = rest.rpartition("/")[0].rpartition("/")
        if (kind, place) != ("reject", "") and (
            kind not in (*_OF_A_RELEASE, "approve", "step") or place != environment
        ):
            continue
        if models and model not in models:
            continue
        try:
            if (tip := _tip(tree, pull.branch)) and (why := _overtaken(tree, kind, environment, model, tip)):
                forge.close(pull, f"Overtaken: {why}.")
                tree.remove(pull.branch)
                yield model, f"closed {pull}: {why}"
        except PlumblineError as error:
            failed = error
            yield model, f"{pull}: {error}"
    if failed is not None:
        raise failed


def _tip(tree: Checkout, branch: str) -> str:
    """The branch's newest commit, with what leads to it; empty where it is gone, or holds what somebody else made."""
    tree.complete()
    there = f"refs/remotes/origin/{branch}"
    fetch = ("fetch", "--quiet", "--no-tags", "--filter=blob:none", "origin", f"+refs/heads/{branch}:{there}")
    if (fetched := tree.git(*fetch, check=False)).code:
        if "couldn't find remote ref" in fetched.error:
            return ""
        raise Accident(f"git: {fetched.error}")
    makers = tree.git("log", "--format=%ae", f"HEAD..{there}").text.split("\n")
    return tree.git("rev-parse", there).text.strip() if set(makers) == {tree.settings.author_email, ""} else ""


def _overtaken(tree: Checkout, kind: str, environment: str, model: str, tip: str) -> str:
    """Why nobody needs it any more; empty where somebody may."""
    base = tree.git("merge-base", "HEAD", tip).text.strip()
    files = tree.git("diff", "--name-only", "--no-renames", base, tip).text.split("\n")[:-1]
    if all(lasting(_text(tree, "HEAD", name)) == lasting(_text(tree, tip, name)) for name in files):
        return f"{tree.branch} has all of it already"
    if kind not in _OF_A_RELEASE or any(_bars(tree, name) for name in files):
        return ""
    path = release_path(environment, model)
    before, wanted = _release(tree, base, path), _release(tree, tip, path)
    try:
        now = read_served(tree, environment, model)
    except Refused:  # said of the model; what it will name is not known yet
        return ""
    if (before and before.spec) != (now and now.spec):
        by = tree.git("log", "-1", "--format=%h '%s'", "--", path).text.strip()
        again = "promote it again" if kind == "promote" else "what fails now is rolled back anew"
        return f"{environment} names {_name(now)} since {by}, and this was made of {_name(before)}; {again}"
    if kind == "promote" and wanted is not None and (barred := bar_of(tree, environment, wanted)) is not None:
        return f"{wanted.spec.version} is barred for {barred.metric}: {barred.reason}"
    return ""


def _bars(tree: Checkout, name: str) -> bool:
    """Whether it is a record of what is barred that main lacks: nobody else would write it down again."""
    return name.startswith("policies/barred/") and not _text(tree, "HEAD", name)


def _text(tree: Checkout, commit: str, name: str) -> str:
    """A file of a commit; empty where it has none. Its text may have to be fetched, and raises Accident then."""
    there = tree.git("ls-tree", "--name-only", commit, "--", name).text
    return tree.git("show", f"{commit}:{name}").text if there else ""


def _release(tree: Checkout, commit: str, path: str) -> Release | None:
    text = _text(tree, commit, path)
    try:
        return parse_release(text, source=path) if text else None
    except DocumentError:
        return None


def _name(release: Release | None) -> str:
    return release.spec.version if release is not None else "no release"
