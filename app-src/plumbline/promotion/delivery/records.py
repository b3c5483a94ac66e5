"""What git says, read from a clone: policies, releases and barred digests. Judges nothing."""

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
    """The record that bars a digest, if there is one."""
    path = barred_path(model, digest)
    text = tree.read(path)
    if text is None:
        return None
    barred = parse(text, Barred, path)
    return barred if barred.digest == digest else None
