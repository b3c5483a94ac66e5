"""Who may approve: a strict document in which every key and every name is one person's."""

from pathlib import Path
from typing import Any

import pytest
from approvals import Approver, approvers

from plumbline.core.documents import DocumentError, parse
from plumbline.promotion.delivery.approval import APPROVERS, Approvers, problems
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.settings import Settings

ADA, BOB = Approver("Ada"), Approver("Bob")


def read(text: str) -> Approvers:
    return parse(text, Approvers, APPROVERS)


def test_what_each_may_approve() -> None:
    found = read(approvers(ADA.entry("production"), BOB.entry("local", models=["flights"], login="bob")))
    ada, bob = found.approvers
    assert ada.may("production", "anything")
    assert not ada.may("local", "anything")
    assert (bob.may("local", "flights"), bob.may("local", "diabetes")) == (True, False)
    assert bob.own({"BOB": "trained it"}) == "BOB trained it"
    assert ada.own({"": "nobody", "Bob": "trained it"}) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Other\n", "kind: Input should be 'Approvers'"),
        ("review: true\n", "review: Extra inputs are not permitted"),
        (approvers(ADA.entry(keys=["ssh-ed25519 AAAA"])), r"approvers\.0\.keys: .*the public key is not PEM"),
        (approvers(ADA.entry(keys=[ADA.private])), "the public key is not PEM"),
        (approvers({"id": "Ada"}), "environments: Field required"),
        (approvers({"id": "Ada", "environments": []}), r"approvers\.0\.environments"),
        (approvers(ADA.entry(), ADA.entry()), "stands for two persons"),
        (approvers(ADA.entry(), BOB.entry(keys=ADA.entry()["keys"])), "stands for two persons"),
        (approvers(ADA.entry(), BOB.entry(login="Ada")), "stands for two persons"),
    ],
)
def test_what_is_none(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=said):
        read(text)
    (tmp_path / "policies").mkdir()
    (tmp_path / APPROVERS).write_text(text)
    found: list[Any] = list(problems(Checkout(tmp_path, Settings())))
    assert [where for where, _ in found] == [APPROVERS]
