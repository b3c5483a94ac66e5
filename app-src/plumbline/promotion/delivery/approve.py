"""How an approval is given: judged by the approver's own gate, signed with their key, and brought to git."""

import base64
import binascii
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from plumbline.core.dsse import seal
from plumbline.core.errors import Misuse, Refused
from plumbline.promotion.delivery.approval import (
    LONGEST,
    Approval,
    Given,
    open_approval,
    read_approvers,
    require_given,
)
from plumbline.promotion.delivery.documents import checked
from plumbline.promotion.delivery.git import Change, Subject, checkout
from plumbline.promotion.delivery.promote import with_image
from plumbline.promotion.delivery.proposal import Delivered, write
from plumbline.promotion.delivery.records import read_policy
from plumbline.promotion.gate.gate import Judgement, Request, candidate, examine
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings


def sign(
    registry: Registry, settings: Settings, request: Request, reason: str, length: timedelta
) -> tuple[str, Judgement]:
    """Judge what is to be approved and sign exactly that: (the envelope, what the gate said). Nothing is committed.

    Raises Refused where a rule says no, or where the key is of nobody who may approve it.
    """
    if length > LONGEST:
        raise Misuse(f"--for: {LONGEST.days}d at most; what was read that long ago is read again")
    key = settings.approver_pem()
    with candidate(registry, settings, request.model, request.version) as subject, checkout(settings) as tree:
        asked = replace(with_image(tree, request), awaiting=True)
        judgement = examine(tree, asked, subject)
        judgement.require()
        wanted = subject.wanted(asked)
        now = datetime.now(UTC).replace(microsecond=0)
        more = {"gate": judgement.sha256(), "reason": reason, "until": now + length}
        approval = checked(Approval, **wanted.model_dump(), **more)
        text = json.dumps(seal(approval.statement(), key), indent=2) + "\n"
        given = open_approval(text, read_approvers(tree), "the approval")
        require_given(given, wanted, now, registry.trainers(subject.version), "the approval")
        subject.keep(judgement)
    return text, judgement


def standing(registry: Registry, settings: Settings, request: Request) -> Given | None:
    """The approval that git holds of this by now, if it is one that counts."""
    with candidate(registry, settings, request.model, request.version) as subject, checkout(settings) as tree:
        try:
            return subject.approval(tree, with_image(tree, request))
        except Refused:
            return None


def one_line(text: str) -> str:
    """A signed approval for a form or a message."""
    return base64.b64encode(text.encode()).decode()


def from_line(line: str) -> str:
    """What `one_line` was made of; raises Misuse for anything else."""
    try:
        return base64.b64decode(line.strip(), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Misuse(
            f"--signed: {error}; expected the line that `plumbline promote approve --detached` printed"
        ) from None


def record(settings: Settings, request: Request, text: str) -> tuple[Given, Delivered | None]:
    """Commit a signed approval of a version in an environment, whoever brings it; None where git holds it already.

    Raises Refused for what is signed by nobody of `policies/approvers.yaml`, is of something else, or over.
    """
    given: Given | None = None

    def change() -> Change | None:
        nonlocal given
        read_policy(tree, request.model)
        given = open_approval(text, read_approvers(tree), "the approval")
        approval = given.approval
        asked = {"model": request.model, "version": request.version, "environment": request.environment}
        if request.image is not None:
            asked["image"] = request.image
        if wrong := [
            f"{name} {getattr(approval, name)}, not {value}"
            for name, value in asked.items()
            if getattr(approval, name) != value
        ]:
            raise Refused(f"the approval is of {', '.join(wrong)}")
        require_given(given, approval, datetime.now(UTC), {}, "the approval")
        if tree.read(approval.path) == text:
            return None
        subject = Subject("approval", approval.model, approval.version, approval.environment)
        message = (
            f"{approval.model}({approval.environment}): {approval.version} approved by {given.by.id}\n\n"
            f"Artifact: {approval.artifact}\nImage: {approval.image}\n"
            f"Approved-by: {given.by.id}\nReason: {approval.reason}\n"
        )
        return Change({approval.path: text}, message, subject)

    with checkout(settings) as tree:
        delivered = write(tree, change)
    assert given is not None  # noqa: S101 - set by change()
    return given, delivered
