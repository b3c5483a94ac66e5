"""What may not be served, as a state: whoever committed it, and however it came to main.

`plumbline tree validate` and `plumbline promote audit` refuse the file, `plumbline promote status` names the reason,
and `plumbline promote reconcile` takes back what is barred. Git alone is asked, so that it works offline.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

from plumbline.core.errors import Refused
from plumbline.core.release import Release
from plumbline.promotion.delivery.approval import APPROVERS, Wanted, begun, read_approvers, require_approval
from plumbline.promotion.delivery.cluster import Served
from plumbline.promotion.delivery.documents import BY_MERGE, Barred, policy_path
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.records import read_barred, read_policy, read_served


def digests_of(release: Release) -> tuple[str, str]:
    """`Served.digests` of a release."""
    return Served.of(release).digests


def served_by(tree: Checkout, model: str, say: Callable[[str], None]) -> Iterator[tuple[str, Release]]:
    """(environment, what it serves) of every environment that serves the model; `say` is told whose file is broken."""
    for environment in environments_of(tree, model):
        try:
            release = read_served(tree, environment, model)
        except Refused as error:  # of one environment, which holds up no other
            say(f"{environment} is left as it is: {error}")
            continue
        if release is not None:
            yield environment, release


def environments_of(tree: Checkout, model: str) -> list[str]:
    """Every environment that has a release.yaml of the model, readable or not."""
    return [path.split("/")[1] for path in tree.names("clusters", f"*/models/{model}/release.yaml")]


def bar_of(tree: Checkout, environment: str, release: Release, proved: Collection[str] | None = None) -> Barred | None:
    """The record that keeps an environment from serving a release: of its artifact or of its image."""
    records = (read_barred(tree, release.model, digest) for digest in digests_of(release))
    return next((record for record in records if record is not None and record.applies(environment, proved)), None)


NOBODY: Mapping[str, str] = {}


def forbidden(tree: Checkout, environment: str, release: Release, persons: Mapping[str, str] = NOBODY) -> Iterator[str]:
    """Why an environment may not serve a release, a line for each reason; raises DocumentError for a broken record.

    `persons` are {name: what they did} of those who may not approve it, besides who committed it.
    """
    version = release.spec.version
    if (barred := bar_of(tree, environment, release)) is not None:
        yield f"{version} is barred for {barred.metric}: {barred.reason}"
    yield from unapproved(tree, environment, release, persons)


def unapproved(
    tree: Checkout, environment: str, release: Release, persons: Mapping[str, str] = NOBODY
) -> Iterator[str]:
    """That an environment asks for an approval which the release has not, if it is so."""
    if tree.read(policy_path(release.model)) is None:
        return  # no model of ours: said by whoever looks at the models
    rules = read_policy(tree, release.model).spec.environments.get(environment)
    if rules is not None and rules.approval and (reason := _unapproved(tree, environment, release, persons)):
        yield f"spec.evidence.approvedBy: {reason}; {environment} asks for an approval of exactly this release"


def _unapproved(tree: Checkout, environment: str, release: Release, persons: Mapping[str, str]) -> str:
    by = release.spec.evidence.approvedBy
    if by == BY_MERGE:
        return "" if read_approvers(tree).reviews else f"{BY_MERGE}, and {APPROVERS} takes no review for an approval"
    if not by:
        return f"nobody approved {release.spec.version}"
    began = begun(tree, environment, release)
    try:
        given = require_approval(tree, Wanted.of(environment, release), began.at, {**began.persons, **persons})
    except Refused as refusal:
        return f"names {by}; {refusal}"
    return "" if given.by.id == by else f"names {by}, and the approval is signed by {given.by.id}"
