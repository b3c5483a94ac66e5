"""What may not be served, as a state: whoever committed it, and however it came to main.

`plumbline tree validate` and `plumbline promote audit` refuse the file, `plumbline promote status` names the reason,
and `plumbline promote reconcile` takes back what is barred. Git alone is asked, so that it works offline.
"""

from collections.abc import Collection, Iterator

from plumbline.core.release import Release
from plumbline.promotion.delivery.cluster import Served
from plumbline.promotion.delivery.documents import (
    BY_MERGE,
    Barred,
    approval_path,
    policy_path,
)
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.records import read_approval, read_barred, read_policy, read_served


def digests_of(release: Release) -> tuple[str, str]:
    """`Served.digests` of a release."""
    return Served.of(release).digests


def served_by(tree: Checkout, model: str) -> Iterator[tuple[str, Release]]:
    """(environment, what it serves) of every environment that serves the model."""
    for environment in environments_of(tree, model):
        if (release := read_served(tree, environment, model)) is not None:
            yield environment, release


def environments_of(tree: Checkout, model: str) -> list[str]:
    """Every environment that has a release.yaml of the model, readable or not."""
    return [path.split("/")[1] for path in tree.names("clusters", f"*/models/{model}/release.yaml")]


def bar_of(tree: Checkout, environment: str, release: Release, proved: Collection[str] | None = None) -> Barred | None:
    """The record that keeps an environment from serving a release: of its artifact or of its image."""
    records = (read_barred(tree, release.model, digest) for digest in digests_of(release))
    return next((record for record in records if record is not None and record.applies(environment, proved)), None)


def forbidden(tree: Checkout, environment: str, release: Release) -> Iterator[str]:
    """Why an environment may not serve a release, a line for each reason; raises DocumentError for a broken record."""
    version = release.spec.version
    if (barred := bar_of(tree, environment, release)) is not None:
        yield f"{version} is barred for {barred.metric}: {barred.reason}"
    yield from unapproved(tree, environment, release)


def unapproved(tree: Checkout, environment: str, release: Release) -> Iterator[str]:
    """That an environment asks for an approval which the release has not, if it is so."""
    if tree.read(policy_path(release.model)) is None:
        return  # no model of ours: said by whoever looks at the models
    rules = read_policy(tree, release.model).spec.environments.get(environment)
    if rules is not None and rules.approval and (reason := _unapproved(tree, release)):
        yield f"spec.evidence.approvedBy: {reason}; {environment} asks for an approval of exactly these bytes"


def _unapproved(tree: Checkout, release: Release) -> str:
    by = release.spec.evidence.approvedBy
    if by == BY_MERGE:
        return ""
    if not by:
        return f"nobody approved {release.spec.version}"
    path = approval_path(release.model, release.spec.version)
    approval = read_approval(tree, release.model, release.spec.version)
    if approval is None:
        return f"names {by}, and {path} is missing"
    if approval.digest != release.spec.artifact.digest:
        return f"names {by}, and {path} approves another digest"
    return "" if approval.by == by else f"names {by}, and {path} names {approval.by}"
