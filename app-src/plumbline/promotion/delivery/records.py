"""What git says, read from a clone: policies, releases and barred digests. Judges nothing."""

from collections.abc import Iterator
from pathlib import PurePath

from plumbline.core.documents import DocumentError, parse
from plumbline.core.errors import Refused
from plumbline.core.release import Release, parse_release
from plumbline.promotion.delivery.documents import Barred, barred_path, policy_path, release_path
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.policy import Policy


def read_policy(tree: Checkout, model: str) -> Policy:
    """The gate of a model; raises Refused where git has none or it breaks its type."""
    path = policy_path(model)
    text = tree.read(path)
    if text is None:
        raise Refused(f"{path} is missing: a model without a gate is not promoted; copy another model's and adapt it")
    policy = parse(text, Policy, path)
    if policy.metadata.name != model:
        raise Refused(f"{path}: metadata.name is {policy.metadata.name!r}, expected {model!r}")
    return policy


def require_environment(tree: Checkout, environment: str) -> None:
    """Raise Refused for an environment that git does not have: misspelt, it would seem to serve nothing."""
    if not tree.is_folder(f"clusters/{environment}"):
        environments = ", ".join(path.split("/")[1] for path in tree.names("clusters", "*"))
        raise Refused(f"clusters/{environment}/ is not in git, only {environments}")


def read_served(tree: Checkout, environment: str, model: str) -> Release | None:
    """What git says that an environment serves."""
    path = release_path(environment, model)
    text = tree.read(path)
    if text is None:
        return None
    try:
        release = parse_release(text, source=path)
    except DocumentError as error:
        raise Refused(f"{error}; correct the file first, nothing was changed") from error
    if release.model != model:
        raise Refused(f"{path}: is the release of {release.model!r}, not of {model!r}")
    return release


def read_barred(tree: Checkout, model: str, digest: str) -> Barred | None:
    """The record that bars a digest, if there is one; the strictest, where there are several."""
    return next((record for _, record in _barred(tree, model, digest)), None)


def barred_place(tree: Checkout, model: str, digest: str) -> str:
    """Where the record of a digest stands, or belongs."""
    return next((name for name, _ in _barred(tree, model, digest)), barred_path(model, digest))


def _barred(tree: Checkout, model: str, digest: str) -> list[tuple[str, Barred]]:
    """Records of a digest, whatever their files are called: what they say is what somebody decided.

    A file that can't be read is in nobody's way unless it is named for the digest, or holds it.
    """
    named, records = barred_path(model, digest), []
    for name in tree.names("policies/barred", f"{model}/*.yaml"):
        try:
            text = tree.read(name) or ""
        except Refused:
            if name == named:
                raise
            continue
        if name == named or digest in text:
            records.append((name, parse(text, Barred, name)))
    ours = [(name, record) for name, record in records if (record.model, record.digest) == (model, digest)]
    return sorted(ours, key=lambda item: (item[1].override is not None, item[1].stays is not None))


def barred_problems(tree: Checkout) -> Iterator[tuple[str, str]]:
    """(file, what is wrong with it) of every record of what is barred that has another shape or place than it should.

    A name of 12 digits is as records were named once.
    """
    for name in tree.names("policies/barred", "**/*"):
        try:
            if tree.is_folder(name) or name.endswith(".md"):
                continue
            record = parse(tree.read(name) or "", Barred, name)
        except (DocumentError, Refused) as error:
            yield name, str(error).removeprefix(f"{name}: ")
            continue
        expected = barred_path(record.model, record.digest)
        if name not in (expected, PurePath(expected).with_stem(PurePath(expected).stem[:12]).as_posix()):
            yield name, f"what it says belongs into {expected}"
