"""A forge's review as an approval: the forge is asked who approved the pull request that brought a release."""

from collections.abc import Iterator, Mapping

from plumbline.core.release import Release
from plumbline.promotion.delivery.approval import APPROVERS, begun, read_approvers
from plumbline.promotion.delivery.documents import BY_MERGE, policy_path
from plumbline.promotion.delivery.forge import connect
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.records import read_policy


def unreviewed(tree: Checkout, environment: str, release: Release, persons: Mapping[str, str]) -> Iterator[str]:
    """That no approver reviewed a release that says so, where a forge is set; raises as the forge answers.

    An approver is told by their login in `policies/approvers.yaml`, and is neither who opened the pull request nor one
    of `persons`, {name: what they did}.
    """
    if release.spec.evidence.approvedBy != BY_MERGE or not tree.settings.forge:
        return
    if tree.read(policy_path(release.model)) is None:
        return
    rules = read_policy(tree, release.model).spec.environments.get(environment)
    if rules is None or not rules.approval:
        return
    began = begun(tree, environment, release)
    review = connect(tree.settings).review(began.commit) if began.commit else None
    if review is None:
        yield f"spec.evidence.approvedBy: {BY_MERGE}, and the forge knows no merged pull request of {began.commit[:12]}"
        return
    others = {**began.persons, **persons, review.author: "opened the pull request"}
    approvers = [item for item in read_approvers(tree).approvers if item.login and item.may(environment, release.model)]
    if not any(item.login in review.approved and not item.own(others) for item in approvers):
        logins = ", ".join(sorted(review.approved)) or "nobody"
        yield (
            f"spec.evidence.approvedBy: pull request {review.pull} of {review.author} was approved by {logins}, none "
            f"of whom may approve it (logins of {APPROVERS})"
        )
