"""The state machine: every pair of states is either legal or refused."""

import itertools

import pytest

from plumbline.core.errors import Refused
from plumbline.promotion.registry.lifecycle import Lifecycle, check_move, path_to

LEGAL = {
    ("None", "Staging"),
    ("None", "Archived"),
    ("Staging", "Production"),
    ("Staging", "Archived"),
    ("Production", "Staging"),
    ("Production", "Archived"),
    ("Archived", "Staging"),
}


@pytest.mark.parametrize(("current", "target"), list(itertools.product(Lifecycle, Lifecycle)))
def test_every_move(current: Lifecycle, target: Lifecycle) -> None:
    if (current, target) in LEGAL:
        check_move(current, target, rejected=False)
    else:
        with pytest.raises(Refused, match=f"{current} → {target} is not a legal move"):
            check_move(current, target, rejected=False)


@pytest.mark.parametrize("target", [Lifecycle.STAGING, Lifecycle.PRODUCTION])
def test_a_rejected_version_only_leaves(target: Lifecycle) -> None:
    with pytest.raises(Refused, match="rejected version can only be Archived"):
        check_move(Lifecycle.STAGING, target, rejected=True)
    check_move(Lifecycle.STAGING, Lifecycle.ARCHIVED, rejected=True)


def test_a_rollback_walks_through_staging() -> None:
    assert path_to(Lifecycle.ARCHIVED, Lifecycle.PRODUCTION) == (Lifecycle.STAGING, Lifecycle.PRODUCTION)
    assert path_to(Lifecycle.NONE, Lifecycle.PRODUCTION) == (Lifecycle.PRODUCTION,), "and that is refused"
    assert path_to(Lifecycle.STAGING, Lifecycle.STAGING) == ()
