"""An approval is a signed statement of exactly one release, by somebody who made none of it; all else is refused."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from approvals import Approver, approvers

from plumbline.core.dsse import seal
from plumbline.core.errors import Misuse, Refused
from plumbline.core.release import Release
from plumbline.promotion.delivery import approve as approving
from plumbline.promotion.delivery.approval import APPROVERS, Wanted, problems
from plumbline.promotion.delivery.documents import BY_MERGE
from plumbline.promotion.delivery.git import Checkout, checkout
from plumbline.promotion.delivery.promote import Outcome
from plumbline.promotion.delivery.release_text import new_text
from plumbline.promotion.delivery.state import forbidden
from plumbline.promotion.gate.audit import audit
from plumbline.promotion.gate.gate import Request
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings

from .conftest import ADA, IMAGE, Remote
from .releases import made, serve

GRACE = Approver("Grace")
"""The commits of `remote` are Ada's, <ada@plumbline.dev>."""
DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)
Make = Callable[..., Version]
Bump = Callable[..., Outcome]


def named(release: Release, by: str) -> Release:
    """The release with whom it names as its approver."""
    evidence = release.spec.evidence.model_copy(update={"approvedBy": by})
    return release.model_copy(update={"spec": release.spec.model_copy(update={"evidence": evidence})})


def objections(remote: Remote, release: Release) -> str:
    """What `tree validate` says of the release in production, offline."""
    remote.pull()
    return "; ".join(forbidden(Checkout(remote.work, Settings()), "production", release))


@pytest.fixture
def release(remote: Remote, model: str) -> Release:
    """What production serves by somebody else's commit, and Grace is named for."""
    wanted = named(made(model, "v1.0.0", "a"), "Grace")
    remote.commit({APPROVERS: approvers(GRACE.entry())})
    serve(remote, "production", wanted)
    return wanted


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "bytes": ({"artifact": "sha256:" + "f" * 64}, "is of something else: artifact sha256:f"),
    "threshold": ({"threshold": 0.0}, r"is of something else: threshold 0\.0, not 0\.5"),
    "no threshold": ({"threshold": None}, "is of something else: threshold None"),
    "version": ({"version": "v1.0.1"}, r"is of something else: version v1\.0\.1"),
    "image": ({"image": IMAGE}, "is of something else: image "),
    "environment": ({"environment": "staging"}, "is of something else: environment staging"),
    "model": ({"model": "other"}, "is of something else: model other"),
    "dated ahead": ({"at": NOW + 30 * DAY, "until": NOW + 60 * DAY}, "is dated ahead, .* end later than it may"),
    "expired": ({"at": NOW - 3 * DAY, "until": NOW - 2 * DAY}, "ended at .*, before the release was committed"),
}


@pytest.mark.parametrize(("change", "said"), OTHERS.values(), ids=OTHERS)
def test_an_approval_is_of_exactly_one_release(remote: Remote, release: Release, change: Any, said: str) -> None:
    """Wherever it is put: the text of another one in this one's place."""
    path, good = GRACE.approval("production", release)
    assert "nobody approved it" in objections(remote, release)
    remote.commit({path: good})
    assert objections(remote, release) == ""
    remote.commit({path: GRACE.approval("production", release, **change)[1]})
    assert re.search(said, objections(remote, release))


def test_a_signature_of_nobody_who_may(remote: Remote, release: Release) -> None:
    eve = Approver("Eve")
    path, text = eve.approval("production", release)
    remote.commit({path: text})
    assert "not made with a key that is trusted here" in objections(remote, release)
    for entry, said in (
        (eve.entry("staging"), "Eve may not approve"),
        (eve.entry(models=["other"]), "Eve may not approve"),
        (eve.entry(), "the approval is signed by Eve"),  # and release.yaml names Grace
        (eve.entry(until=NOW - 2 * DAY), "Eve may approve nothing since"),
    ):
        remote.commit({APPROVERS: approvers(GRACE.entry(), entry)})
        assert said in objections(remote, release)
    remote.commit({APPROVERS: approvers(GRACE.entry(keys=[]))})
    assert "names no key" in objections(remote, release)


def test_a_signed_text_that_was_changed(remote: Remote, release: Release) -> None:
    path, text = GRACE.approval("production", release)
    envelope = json.loads(text)
    other = json.loads(GRACE.approval("production", release, threshold=0.1)[1])
    statement = {"_type": "x", "subject": [], "predicateType": "https://plumbline.dev/registration/v1", "predicate": {}}
    for poison, said in (
        (json.dumps(envelope | {"payload": other["payload"]}), "not made with a key"),
        (json.dumps(envelope | {"signatures": []}), "not made with a key"),
        (json.dumps(seal(statement, GRACE.private.encode())), "Field required"),
        ("[" * 100_000, "is no JSON"),
        ("approved: yes\n", "is no JSON"),
    ):
        remote.commit({path: poison})
        assert said in objections(remote, release)
        assert [where for where, _ in problems(Checkout(remote.work, Settings()))] == [path]


def test_free_text_is_no_approval(remote: Remote, release: Release) -> None:
    """Who is named has signed nothing; and whoever reviewed is believed only where git says that reviews count."""
    assert "names Grace; nobody approved it" in objections(remote, release)
    assert "takes no review for an approval" in objections(remote, named(release, BY_MERGE))
    assert "nobody approved v1.0.0" in objections(remote, named(release, ""))
    remote.commit({APPROVERS: approvers(reviews=True)})
    assert objections(remote, named(release, BY_MERGE)) == ""


def test_another_authors_name_on_ones_own_commit(
    remote: Remote, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `git commit --author` writes it: the committer is still who committed."""
    other = named(made(release.model, "v1.0.1", "b"), "Grace")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "somebody@plumbline.dev")
    serve(remote, "production", other)
    path, text = GRACE.approval("production", other)
    remote.commit({path: text, APPROVERS: approvers(GRACE.entry(also=["ada@plumbline.dev"]))})
    assert "ada@plumbline.dev committed the release" in objections(remote, other)


@pytest.mark.parametrize("known", [{"also": ["ada@plumbline.dev"]}, {"id": "ADA"}, {"login": "Ada"}])
def test_who_committed_the_release_does_not_approve_it(remote: Remote, release: Release, known: Any) -> None:
    path, text = GRACE.approval("production", release)
    remote.commit({path: text})
    assert objections(remote, release) == ""
    remote.commit({APPROVERS: approvers(GRACE.entry(**known))})
    assert "approves their own work: ada" in objections(remote, release).lower()


def test_an_approval_holds_as_long_as_what_it_let_pass(
    remote: Remote, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback to it needs no new one; a release that begins after its end does."""
    other = named(made(release.model, "v1.0.2", "c"), "Grace")
    for wanted in (release, other):
        path, text = GRACE.approval("production", wanted, until=NOW + timedelta(hours=1))
        remote.commit({path: text})
    assert objections(remote, release) == ""
    serve(remote, "production", made(release.model, "v1.0.1", "b"))
    monkeypatch.setenv("GIT_COMMITTER_DATE", (NOW + DAY).isoformat())
    serve(remote, "production", release)
    assert objections(remote, release) == "", "it stood when the environment first named the release"
    serve(remote, "production", other)
    assert "before the release was committed" in objections(remote, other)


def test_whoever_trained_it_does_not_approve_it(
    registered: Make, bump: Bump, approve: Callable[..., str], remote: Remote, registry: Registry, settings: Settings
) -> None:
    """By MLflow's user of the run as it was at registration: another name afterwards changes nothing."""
    version = registered(tags={"mlflow.user": "ada.l"})
    bump("v1.0.0")
    _stable(registry, settings, version.model)
    remote.commit({APPROVERS: approvers(GRACE.entry(also=["Ada.L"]))})
    registry.client.set_tag(version.run, "mlflow.user", "somebody")
    with pytest.raises(Refused, match=r"Grace approves their own work: ada\.l trained it"):
        approve("v1.0.0", GRACE)
    # Signed all the same, by a tool of one's own, and committed by hand.
    release = named(remote.release("staging", version.model), "Grace")
    path, text = GRACE.approval("production", release)
    remote.commit({path: text})
    with pytest.raises(Refused, match=r"approval: .*ada\.l trained it"):
        bump("v1.0.0", "production")
    remote.commit({f"clusters/production/models/{version.model}/release.yaml": new_text(release)})
    (problem,), _ = audit(registry, settings, remote.work)
    assert "ada.l trained it" in problem


def test_the_approver_signs_what_their_own_gate_said(
    registered: Make, bump: Bump, approve: Callable[..., str], remote: Remote, registry: Registry, settings: Settings
) -> None:
    version = registered()
    with pytest.raises(Refused, match="served in staging first"):
        approve("v1.0.0")
    bump("v1.0.0")
    _stable(registry, settings, version.model)
    approve("v1.0.0")
    bump("v1.0.0", "production")
    remote.pull()
    assert audit(registry, settings, remote.work)[0] == []
    # The report that was signed is no longer what it was.
    release = remote.release("production", version.model)
    path, text = ADA.approval("production", release, gate="sha256:" + "0" * 64)
    remote.commit({path: text})
    (problem,), _ = audit(registry, settings, remote.work)
    assert "the approval: the run has no report" in problem


def test_a_key_of_nobody_signs_nothing(
    registered: Make, bump: Bump, approve: Callable[..., str], remote: Remote, registry: Registry, settings: Settings
) -> None:
    version = registered()
    bump("v1.0.0")
    _stable(registry, settings, version.model)
    before = remote.log()
    with pytest.raises(Refused, match="not made with a key that is trusted here"):
        approve("v1.0.0", Approver("Ada"))
    request = Request(version.model, "v1.0.0", "production", IMAGE)
    with pytest.raises(Misuse, match="PROMOTION_APPROVER_KEY is not set"):
        approving.sign(registry, settings, request, "fine", DAY)
    with pytest.raises(Misuse, match="90d at most"):
        approving.sign(registry, settings, request, "fine", 91 * DAY)
    assert remote.log() == before


def test_a_signed_approval_is_brought_by_anybody(remote: Remote, settings: Settings, model: str) -> None:
    """As the Workflow does: it holds no key, and can't make another one of it."""
    release = made(model, "v1.0.0", "a")
    path, text = ADA.approval("production", release)
    request = Request(model, "v1.0.0", "production")
    line = approving.one_line(text)
    assert "\n" not in line
    for other, said in (
        (Request(model, "v1.0.1", "production"), "the approval is of version v1.0.0, not v1.0.1"),
        (Request(model, "v1.0.0", "staging"), "the approval is of environment production"),
        (Request(model, "v1.0.0", "production", IMAGE), "the approval is of image"),
    ):
        with pytest.raises(Refused, match=said):
            approving.record(settings, other, text)
    with pytest.raises(Misuse, match="--signed: "):
        approving.from_line("yes")
    given, delivered = approving.record(settings, request, approving.from_line(line))
    assert (given.by.id, delivered is None) == ("Ada", False)
    assert remote.log()[0] == f"{model}(production): v1.0.0 approved by Ada"
    assert approving.record(settings, request, text)[1] is None
    with checkout(settings) as tree:
        assert tree.read(path) == text
    over = ADA.approval("production", release, at=NOW - 3 * DAY, until=NOW - 2 * DAY)[1]
    with pytest.raises(Refused, match="ended at"):
        approving.record(settings, request, over)


def _stable(registry: Registry, settings: Settings, model: str) -> None:
    from plumbline.promotion.delivery.follow import sync

    with checkout(settings) as tree:
        sync(registry, tree, model)


def test_approvals_have_one_place(release: Release) -> None:
    assert Wanted.of("production", release).path == (
        f"policies/approvals/{release.model}/production-v1.0.0-{'1' * 12}.json"
    )
