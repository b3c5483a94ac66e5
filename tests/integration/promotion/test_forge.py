"""A main that takes no pushes: every writer works by pull request, and a rerun finds what was opened."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from approvals import Approver, approvers

from plumbline.core.errors import Accident, Misuse, PlumblineError, Refused
from plumbline.core.release import Release
from plumbline.promotion.delivery.approval import APPROVERS
from plumbline.promotion.delivery.cluster import Cluster, Failure, Running, Served
from plumbline.promotion.delivery.documents import BY_MERGE, barred_path, release_path
from plumbline.promotion.delivery.follow import sync
from plumbline.promotion.delivery.forge import RELIES_ON, connect
from plumbline.promotion.delivery.git import Change, Checkout, Subject, checkout
from plumbline.promotion.delivery.governance import bar
from plumbline.promotion.delivery.overtaken import close_overtaken
from plumbline.promotion.delivery.promote import promote
from plumbline.promotion.delivery.proposal import Delivered, write
from plumbline.promotion.delivery.reconcile import reconcile
from plumbline.promotion.delivery.records import read_served
from plumbline.promotion.delivery.release_text import new_text
from plumbline.promotion.delivery.review import unreviewed
from plumbline.promotion.delivery.rollback import take_back
from plumbline.promotion.gate.gate import Request
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings

from .conftest import IMAGE, POLICY, Remote
from .forge import TOKEN, NotThere, StandIn, serving
from .releases import digest, made, serve

ONE, TWO, THREE = (("v1.0.0", "a"), ("v1.0.1", "b"), ("v1.0.2", "c"))


@pytest.fixture(params=["github", "gitlab", "gitea"])
def forge(request: pytest.FixtureRequest, remote: Remote, model: str) -> Iterator[StandIn]:
    """Staging merges by itself, production waits for a person; v1.0.1 is served after v1.0.0."""
    policy = yaml.safe_load(yaml.safe_dump(POLICY))
    policy["metadata"]["name"] = model
    policy["spec"]["environments"]["staging"]["merge"] = "automatic"
    remote.commit({f"policies/promotion/{model}.yaml": yaml.safe_dump(policy)})
    for environment in ("staging", "production"):
        serve(remote, environment, made(model, *ONE))
        serve(remote, environment, made(model, *TWO))
    with serving(StandIn(remote.url, request.param)) as standing:
        yield standing


@pytest.fixture
def by_request(forge: StandIn, remote: Remote, tmp_path: Path) -> Settings:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    url = forge.url + ("/api/v3" if forge.kind == "github" else "")
    return Settings(repo=remote.url, forge=forge.kind, forge_url=url, forge_project="o/r", forge_token_file=token)


class NoRegistry:
    def versions(self, _: str) -> list[object]:
        return []


class Says(Cluster):
    """The canary of what main names has failed; v1.0.0 is stable."""

    def __init__(self, remote: Remote, environment: str, model: str) -> None:
        self._named, self._good = remote.release(environment, model), made(model, *ONE)

    def running(self, _: str) -> Running:
        failed = Failure("error-share", "out of bounds") if self._named.spec.version != "v1.0.0" else None
        stable, phase = Served.of(self._good), "Degraded" if failed else "Healthy"
        return Running(Served.of(self._named), stable, phase, 0, "", failed, ())


def minute(settings: Settings, remote: Remote, model: str, environment: str = "production") -> str:
    says = Says(remote, environment, model)
    return "\n".join(step.did for step in reconcile(NoRegistry(), settings, says, environment, [model]))  # type: ignore[arg-type]


def promotion(settings: Settings, release: Release, environment: str = "production") -> Delivered | None:
    """What a promotion writes, without its gate."""
    path = release_path(environment, release.model)

    def change(tree: Checkout) -> Change | None:
        text = new_text(release)
        subject = Subject("promotion", release.model, release.spec.version, environment, "| rule | passed |")
        return Change({path: text}, f"{release.model}({environment}): …", subject) if tree.read(path) != text else None

    with checkout(settings) as tree:
        return write(tree, lambda: change(tree))


def test_a_rollback_waits_for_its_pull_request_and_goes_on(
    forge: StandIn, by_request: Settings, remote: Remote, model: str
) -> None:
    said = minute(by_request, remote, model)
    assert "waiting for pull request 1" in said
    assert remote.release("production", model).spec.version == "v1.0.1", "nothing came to main by itself"
    before = forge.git("rev-parse", f"rollback/production/{model}/v1.0.1")
    assert "waiting for pull request 1" in minute(by_request, remote, model), "again: a state, not a failure"
    (request,) = forge.requests
    assert forge.git("rev-parse", request.branch) == before, "left as it is, though the record has another time"
    assert {"rollback", "urgent", f"model:{model}", "environment:production"} == set(request.labels)
    assert request.title == f"Urgent: {model}(production): v1.0.1 → v1.0.0, rejected by error-share"
    assert "Reason: out of bounds" in request.body
    assert "What changes in the cluster" in request.body
    forge.merge(1)
    assert "waiting for pull request" not in minute(by_request, remote, model)
    assert remote.release("production", model).spec.version == "v1.0.0"
    assert (remote.work / barred_path(model, digest("b"))).exists()
    assert len(forge.requests) == 1


def test_staging_merges_by_itself(forge: StandIn, by_request: Settings, remote: Remote, model: str) -> None:
    delivered = promotion(by_request, made(model, *THREE), "staging")
    assert delivered is not None
    assert delivered.waiting == ""
    assert remote.release("staging", model).spec.version == "v1.0.2"
    assert promotion(by_request, made(model, *THREE), "staging") is None, "served already"


def test_a_forge_that_has_not_found_out_yet_whether_it_merges_is_asked_again(
    forge: StandIn, by_request: Settings, remote: Remote, model: str
) -> None:
    forge.thinks = 2
    landed = promotion(by_request, made(model, *THREE), "staging")
    assert landed is not None
    assert landed.waiting == ""
    assert remote.release("staging", model).spec.version == "v1.0.2"


def test_the_forge_merges_when_checks_have_passed(forge: StandIn, by_request: Settings, model: str) -> None:
    forge.checks_pending = True
    for _ in range(2):
        delivered = promotion(by_request, made(model, *THREE), "staging")
        assert delivered is not None
        assert "merges once its checks have passed" in delivered.waiting
    assert [(item.state, item.automatic) for item in forge.requests] == [("open", True)]


def test_a_newer_promotion_closes_the_older(forge: StandIn, by_request: Settings, model: str) -> None:
    promotion(by_request, made(model, *THREE))
    promotion(by_request, made(model, *THREE))
    promotion(by_request, made(model, "v1.0.3", "d"))
    assert [item.state for item in forge.requests] == ["closed", "open"]
    assert "Superseded by pull request 2" in forge.requests[0].comments[0]
    assert f"promote/production/{model}/v1.0.2" not in forge.git("branch", "--list")
    assert "| rule | passed |" in forge.requests[1].body


def test_newer_data_close_the_older_and_wait_for_a_person(forge: StandIn, by_request: Settings, model: str) -> None:
    path = f"app-src/models/{model}/logged.yaml"

    def collected(text: str) -> Delivered | None:
        with checkout(by_request) as tree:
            return write(tree, lambda: Change({path: text}, f"{model}: data", Subject("data", model, text.strip())))

    first, again, second = (collected(text) for text in ("1\n", "1\n", "2\n"))
    assert first is not None
    assert again is not None
    assert second is not None
    assert (first.branch, again.branch, second.branch) == (f"data/{model}/1", f"data/{model}/1", f"data/{model}/2")
    assert [(one.branch, one.state, one.merged, one.automatic) for one in forge.requests] == [
        (f"data/{model}/1", "closed", False, False),
        (f"data/{model}/2", "open", False, False),
    ]


def test_what_main_changed_meanwhile_is_proposed_anew(forge: StandIn, by_request: Settings, model: str) -> None:
    promotion(by_request, made(model, *THREE))
    bar(by_request, model, "v1.0.1", lambda _: digest("b"), "error-rate", "0.2")
    forge.merge(2)
    delivered = promotion(by_request, made(model, *THREE))
    assert delivered is not None
    assert forge.git("rev-parse", f"{delivered.branch}~1") == forge.git("rev-parse", "main")
    assert len(forge.requests) == 2
    forge.merge(1)


def merged_by_ada(forge: StandIn, remote: Remote, files: dict[str, str | None]) -> None:
    """What a person proposed herself, and merged."""
    remote.pull()
    for name, text in files.items():
        if text is None:
            (remote.work / name).unlink()
        else:
            (remote.work / name).write_text(text)
    remote.git("commit", "--quiet", "--all", "-m", "ada's")
    remote.git("push", "--quiet", "--force", "origin", "HEAD:refs/heads/ada")
    forge.git("update-ref", "refs/heads/main", "ada")


def test_what_main_has_by_now_or_decided_otherwise_is_closed_with_a_sentence(
    forge: StandIn, by_request: Settings, remote: Remote, model: str
) -> None:
    path = release_path("production", model)
    promotion(by_request, made(model, *THREE))
    rollback = minute(by_request, remote, model)
    assert "closed" not in rollback, "both may be merged"
    assert [item.state for item in forge.requests] == ["open", "open"]
    merged_by_ada(forge, remote, {path: new_text(made(model, "v1.0.3", "d"))})
    said = minute(by_request, remote, model)
    promoted, barring = forge.requests[:2]
    assert promoted.state == "closed"
    assert "closed pull request 1 " in said
    assert "Overtaken: production names v1.0.3 since " in promoted.comments[-1]
    assert "'ada's', and this was made of v1.0.1; promote it again." in promoted.comments[-1]
    assert forge.git("diff", "--name-only", "main", barring.branch, "--", "policies/barred")
    assert barring.state == "open", "nobody would bar it again"
    assert "promote/" not in forge.git("branch", "--list"), "so that it may be proposed anew"

    promotion(by_request, made(model, *THREE))
    bar(by_request, model, "v1.0.9", lambda _: digest("c"), "accuracy", "labels came")  # the same bytes by another name
    promoted, barred = forge.requests[-2:]
    assert (promoted.state, barred.branch) == ("open", f"reject/{model}/v1.0.9")
    forge.merge(barred.number)
    minute(by_request, remote, model)
    assert promoted.comments[-1] == "Overtaken: v1.0.2 is barred for accuracy: labels came."

    promotion(by_request, made(model, *ONE))
    merged_by_ada(forge, remote, {path: new_text(made(model, *ONE))})
    assert "main has all of it already" in minute(by_request, remote, model)


def test_a_policy_that_is_gone_or_broken_stops_no_rollback(
    forge: StandIn, by_request: Settings, remote: Remote, model: str
) -> None:
    for text in ("kind: none\n", None):
        merged_by_ada(forge, remote, {f"policies/promotion/{model}.yaml": text})
        with checkout(by_request) as tree:
            release = read_served(tree, "production", model)
            assert release is not None
            running = Says(remote, "production", model).running(model)
            assert running.failure is not None
            said = list(take_back(by_request, "production", release, running, running.failure, pytest.fail))
        assert "waiting for pull request 1 " in said[0]


def test_what_holds_a_persons_commit_or_is_of_elsewhere_stays_open(
    forge: StandIn, by_request: Settings, remote: Remote, model: str
) -> None:
    promotion(by_request, made(model, *THREE))
    remote.git("fetch", "--quiet", "origin")
    remote.git("checkout", "--quiet", "--detach", f"origin/promote/production/{model}/v1.0.2")
    remote.git("commit", "--quiet", "--allow-empty", "-m", "a word of mine")
    remote.git("push", "--quiet", "origin", f"HEAD:refs/heads/promote/production/{model}/v1.0.2")
    remote.git("checkout", "--quiet", "main")
    merged_by_ada(forge, remote, {release_path("production", model): new_text(made(model, "v1.0.3", "d"))})
    assert "closed" not in minute(by_request, remote, model)
    assert "closed" not in minute(by_request, remote, model, "staging")
    assert forge.requests[0].state == "open"


def test_a_person_who_closed_it_is_not_asked_every_minute(
    forge: StandIn, by_request: Settings, remote: Remote, model: str
) -> None:
    minute(by_request, remote, model)
    forge.requests[0].state = "closed"
    with pytest.raises(Refused, match="closed without a merge: reopen it, or delete the branch"):
        minute(by_request, remote, model)
    assert len(forge.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, Misuse), (403, Refused), (404, Misuse), (422, Refused), (429, Accident), (502, Accident)],
)
def test_what_a_forge_answers_is_one_line(
    forge: StandIn, by_request: Settings, model: str, status: int, error: type[PlumblineError]
) -> None:
    if (forge.kind, status) == ("gitlab", 429):
        pytest.skip("python-gitlab waits and tries again by itself")
    forge.faults = [status]
    with pytest.raises(error) as caught:
        promotion(by_request, made(model, *THREE))
    assert f"answered {status}" in str(caught.value)
    assert f"the words of {status}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_page_to_sign_in_at_is_no_answer(forge: StandIn, by_request: Settings, model: str) -> None:
    """What stands before many a forge answers 200 to whatever it does not know."""
    told = []
    for call in range(5):
        forge.faults = [*[None] * call, 200]  # type: ignore[list-item]
        try:
            promotion(by_request, made(model, *THREE))
        except PlumblineError as error:
            told.append(str(error))
    assert len(told) > 1
    assert all("the forge answered 200 to " in line and "\n" not in line for line in told), told


@pytest.mark.parametrize("forge", ["gitea"], indirect=True)
def test_a_server_that_gives_few_at_once_gives_all(forge: StandIn, by_request: Settings, model: str) -> None:
    forge.most = 2
    for number in range(2, 7):
        made_of = made(model, f"v1.0.{number}", "abcdef0"[number])
        promotion(by_request, made_of, "production" if number % 2 else "staging")
    again = promotion(by_request, made(model, "v1.0.5", "f"))
    assert again is not None
    assert len([item for item in forge.requests if item.branch == again.branch]) == 1
    assert len(connect(by_request).opened()) == 1, "each promotion closed the one before"


def test_a_connection_that_breaks_after_the_work_leaves_one_pull_request(
    forge: StandIn, by_request: Settings, model: str
) -> None:
    calls = {"github": 2, "gitlab": 2, "gitea": 5}[forge.kind]
    for broken in range(calls + 3):
        forge.faults = [*[None] * broken, 0]  # type: ignore[list-item]
        try:
            promotion(by_request, made(model, *THREE))
        except Accident as accident:
            assert "the forge gave no answer" in str(accident)  # noqa: PT017
    forge.faults = []
    delivered = promotion(by_request, made(model, *THREE))
    assert delivered is not None
    assert "pull request 1" in delivered.waiting
    assert len(forge.requests) == 1
    assert {f"model:{model}", "promotion"} <= set(forge.requests[0].labels)


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_judged_promotion_is_approved_by_who_merges_it(
    forge: StandIn, by_request: Settings, remote: Remote, model: str, registered: Any, registry: Registry, keys: Any
) -> None:
    for environment in ("staging", "production"):
        remote_file = f"clusters/{environment}/models/{model}/release.yaml"
        forge.git("update-ref", "refs/heads/main", without(forge, remote_file))
    registered()
    settings = by_request.model_copy(update={"public_key": keys[1]})
    for environment, state in (("staging", "closed"), ("production", "open")):
        request = Request(model, "v1.0.0", environment, IMAGE)
        outcomes = [promote(registry, settings, request, "commit") for _ in range(2)]
        assert forge.requests[-1].state == state
        with checkout(settings) as tree:
            sync(registry, tree, model)
        assert "## Gate" in forge.requests[-1].body
    assert "pull request 2" in outcomes[1].waiting, "its gate measured other latencies, and it is the same"
    assert len(forge.requests) == 2
    assert remote.release("staging", model).spec.evidence.approvedBy == ""
    forge.merge(2)
    assert remote.release("production", model).spec.evidence.approvedBy == BY_MERGE


def test_a_review_counts_where_an_approver_gave_it(
    forge: StandIn, by_request: Settings, remote: Remote, model: str
) -> None:
    """Who reviewed is the forge's word; release.yaml says the same whoever it was."""

    def objection(version: tuple[str, str], author: str, *reviews: tuple[str, str]) -> str:
        release = made(model, *version)
        promotion(by_request, release)
        request = forge.requests[-1]
        request.author, request.reviews = author, list(reviews)
        forge.merge(request.number)
        with checkout(by_request) as tree:
            (said,) = [*unreviewed(tree, "production", release, {"grace.h": "trained it"})] or [""]
        return said

    entries = [Approver(name).entry(login=name.lower()) for name in ("Bob", "Grace")]
    entries[1]["also"] = ["grace.h"]
    forge.git("update-ref", "refs/heads/main", with_file(forge, APPROVERS, approvers(*entries, reviews=True)))
    good, bad, asks = ("bob", "APPROVED"), ("mallory", "APPROVED"), ("bob", "CHANGES_REQUESTED")
    assert objection(THREE, "bot", bad, good) == ""
    assert "of bot was approved by mallory, none of whom may" in objection(("v1.0.3", "d"), "bot", bad)
    assert "was approved by nobody" in objection(("v1.0.4", "e"), "bot", good, asks)
    assert "of bob was approved by bob" in objection(("v1.0.5", "f"), "bob", good)
    assert "approved by grace, none" in objection(("v1.0.6", "0"), "bot", ("grace", "APPROVED"))
    release = made(model, "v1.0.7", "1")
    text = new_text(release)
    forge.git("update-ref", "refs/heads/main", with_file(forge, release_path("production", model), text))
    with checkout(by_request) as tree:
        (said,) = unreviewed(tree, "production", release, {})
    assert "the forge knows no merged pull request of" in said, "typed by whoever got past the branch's rules"

    class Healthy(Says):
        def running(self, _: str) -> Running:
            return Running(Served.of(release), Served.of(release), "Healthy", 100, "", None, ())

    def told() -> list[str]:
        says = Healthy(remote, "production", model)
        return [step.did for step in reconcile(NoRegistry(), by_request, says, "production", [model])]  # type: ignore[arg-type]

    assert f"v1.0.7: differ, {said}" in told()
    forge.faults = [502] * 9
    assert any("the forge answered 502" in line for line in told())
    forge.faults = [502] * 9
    assert not any("differ" in line for line in told()), "unknown is no verdict"


def with_file(forge: StandIn, path: str, text: str) -> str:
    """A commit on main in which a file has this text."""
    index = Path(forge.remote) / "index-of-test"
    run = {"env": {**os.environ, "GIT_INDEX_FILE": str(index)}, "check": True, "capture_output": True, "text": True}
    command = ["git", f"--git-dir={forge.remote}"]
    blob = subprocess.run([*command, "hash-object", "-w", "--stdin"], input=text, **run).stdout.strip()  # type: ignore[call-overload]
    subprocess.run([*command, "read-tree", "main"], **run)  # type: ignore[call-overload]
    subprocess.run([*command, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}"], **run)  # type: ignore[call-overload]
    tree = subprocess.run([*command, "write-tree"], **run).stdout.strip()  # type: ignore[call-overload]
    index.unlink()
    return forge.git("commit-tree", tree, "-p", "main", "-m", path)


def without(forge: StandIn, path: str) -> str:
    """A commit on main that has no such file."""
    listed = forge.git("ls-tree", "-r", "main").splitlines()
    index = Path(forge.remote) / "index-of-test"
    kept = "\n".join(line for line in listed if not line.endswith(f"\t{path}")) + "\n"
    surroundings = {**os.environ, "GIT_INDEX_FILE": str(index)}
    command = ["git", f"--git-dir={forge.remote}", "update-index", "--index-info"]
    subprocess.run(command, input=kept, text=True, env=surroundings, check=True)
    written = ["git", f"--git-dir={forge.remote}", "write-tree"]
    tree = subprocess.run(written, env=surroundings, check=True, capture_output=True, text=True).stdout.strip()
    index.unlink()
    return forge.git("commit-tree", tree, "-p", "main", "-m", "gone")


def test_rules_of_the_branch(forge: StandIn, by_request: Settings) -> None:
    found = connect(by_request).rules("main")
    assert set(found) <= set(RELIES_ON)
    assert found["pull requests only"] is (forge.kind == "github")
    if forge.kind == "github":
        assert not found["checks required"], "of two one"
        forge.checks.append({"context": "audit"})
        assert connect(by_request).rules("main")["checks required"]


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_without_a_forge_the_declined_push_says_what_to_set(forge: StandIn, remote: Remote, model: str) -> None:
    with pytest.raises(Refused, match=r"GH006[\s\S]*set PROMOTION_FORGE"):
        promotion(Settings(repo=remote.url), made(model, *THREE))


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_branch_with_a_persons_commit_is_never_overwritten(
    forge: StandIn, by_request: Settings, remote: Remote, model: str
) -> None:
    remote.git("push", "--quiet", "origin", f"main:refs/heads/promote/production/{model}/v1.0.2")
    with pytest.raises(Refused, match=r"has a commit of ada@plumbline\.dev"):
        promotion(by_request, made(model, *THREE))


def test_commits_are_signed(remote: Remote, model: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    settings = Settings(repo=remote.url, commit_key=key)
    delivered = promotion(settings, made(model, *ONE), "staging")
    assert delivered is not None
    signers = tmp_path / "signers"
    signers.write_text(f"{settings.author_email} {key.with_suffix('.pub').read_text()}")
    remote.pull()
    remote.git("-c", f"gpg.ssh.allowedSignersFile={signers}", "verify-commit", delivered.commit)
    with pytest.raises(Misuse, match="PROMOTION_COMMIT_KEY"):
        promotion(Settings(repo=remote.url, commit_key=tmp_path / "none"), made(model, *TWO), "staging")


def test_a_pull_request_that_the_forge_refuses_to_close_is_said_and_closed_another_time(
    forge: StandIn, by_request: Settings, remote: Remote, model: str
) -> None:
    promotion(by_request, made(model, *THREE))
    merged_by_ada(forge, remote, {release_path("production", model): new_text(made(model, "v1.0.3", "d"))})
    answer = forge.answer

    def refuse(method: str, path: str, asked: dict[str, str], body: Any) -> Any:
        if method != "GET":
            raise NotThere(path)
        return answer(method, path, asked, body)

    with checkout(by_request) as tree:
        forge.answer = refuse  # type: ignore[method-assign]
        with pytest.raises(PlumblineError):
            list(close_overtaken(tree, "production", [model]))
        forge.answer = answer  # type: ignore[method-assign]
        assert forge.requests[0].state == "open"
        ((_, closed),) = close_overtaken(tree, "production", [model])
    assert "v1.0.3" in closed
    assert forge.requests[0].state == "closed"
