"""The same against a real Gitea, whose main takes no pushes: `make gitea` builds it and runs these."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import yaml
from approvals import Approver, approvers

from plumbline.core.errors import Misuse, Refused
from plumbline.promotion.delivery.approval import APPROVERS
from plumbline.promotion.delivery.documents import BY_MERGE, barred_path
from plumbline.promotion.delivery.forge import connect
from plumbline.promotion.delivery.git import checkout
from plumbline.promotion.delivery.governance import bar
from plumbline.promotion.delivery.hold import hold, thaw
from plumbline.promotion.delivery.review import unreviewed
from plumbline.promotion.settings import Settings

from .conftest import POLICY, Remote
from .gitea import BUILT, Gitea, serving
from .releases import digest, made, serve
from .test_forge import ONE, THREE, TWO, minute, promotion

pytestmark = pytest.mark.skipif(not BUILT.exists(), reason="Gitea is not built: `make gitea`")


@pytest.fixture(scope="module")
def gitea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gitea]:
    with serving(tmp_path_factory.mktemp("gitea")) as standing:
        yield standing


def soon(told: Callable[[], object]) -> None:
    """Gitea does much in the background."""
    for _ in range(300):
        if told():
            return
        time.sleep(0.1)
    raise AssertionError("not within 30 s")


@pytest.fixture
def project(gitea: Gitea, remote: Remote, model: str) -> str:
    """Grace's repository: v1.0.1 is served after v1.0.0, staging merges by itself, and nobody pushes to main."""
    policy = yaml.safe_load(yaml.safe_dump(POLICY))
    policy["metadata"]["name"] = model
    policy["spec"]["environments"]["staging"]["merge"] = "automatic"
    people = [Approver(name).entry(login=name.lower()) for name in ("Bob", "Grace")]
    files: dict[str, str | None] = {f"policies/promotion/{model}.yaml": yaml.safe_dump(policy)}
    remote.commit(files | {APPROVERS: approvers(*people, reviews=True)})
    for environment in ("staging", "production"):
        serve(remote, environment, made(model, *ONE))
        serve(remote, environment, made(model, *TWO))
    gitea.ask("grace", "POST", "user/repos", name=model)
    name = f"grace/{model}"
    remote.url = gitea.address("grace", name)
    remote.git("remote", "set-url", "origin", remote.url)
    remote.git("push", "--quiet", "origin", "main")
    soon(lambda: not gitea.ask("grace", "GET", f"repos/{name}")["empty"])  # else it knows no pull requests
    for login in ("bot", "bob"):
        gitea.ask("grace", "PUT", f"repos/{name}/collaborators/{login}", permission="write")
    gitea.ask("grace", "POST", f"repos/{name}/branch_protections", rule_name="main", enable_push=False)
    return name


@pytest.fixture
def settings(gitea: Gitea, project: str) -> Settings:
    return Settings(
        repo=gitea.address("bot", project),
        forge="gitea",
        forge_url=gitea.url,
        forge_project=project,
        forge_token=gitea.tokens["bot"],
    )


@pytest.fixture
def merge(gitea: Gitea, project: str) -> Callable[[int], None]:
    """Grace's button."""

    def press(number: int) -> None:
        soon(lambda: gitea.ask("grace", "GET", f"repos/{project}/pulls/{number}")["mergeable"])
        gitea.ask("grace", "POST", f"repos/{project}/pulls/{number}/merge", Do="merge")

    return press


def test_a_rollback_waits_for_its_pull_request_and_goes_on(
    gitea: Gitea, project: str, settings: Settings, remote: Remote, model: str, merge: Callable[[int], None]
) -> None:
    for _ in range(2):  # again: a state, not a failure
        assert "waiting for pull request 1" in minute(settings, remote, model)
    assert remote.release("production", model).spec.version == "v1.0.1"
    (pull,) = gitea.ask("grace", "GET", f"repos/{project}/pulls?state=all")
    assert {label["name"] for label in pull["labels"]} == {
        "rollback",
        "urgent",
        f"model:{model}",
        "environment:production",
    }
    assert pull["title"] == f"Urgent: {model}(production): v1.0.1 → v1.0.0, rejected by error-share"
    assert "Reason: out of bounds" in pull["body"]
    merge(1)
    assert "waiting for pull request" not in minute(settings, remote, model)
    assert remote.release("production", model).spec.version == "v1.0.0"
    assert (remote.work / barred_path(model, digest("b"))).exists()


def test_staging_merges_by_itself_once_its_checks_have_passed(
    gitea: Gitea, project: str, settings: Settings, remote: Remote, model: str
) -> None:
    promotion(settings, made(model, *THREE), "staging")
    soon(lambda: remote.release("staging", model).spec.version == "v1.0.2")
    checks = {"enable_status_check": True, "status_check_contexts": ["report"]}
    gitea.ask("grace", "PATCH", f"repos/{project}/branch_protections/main", **checks)
    for _ in range(2):
        landed = promotion(settings, made(model, "v1.0.3", "d"), "staging")
        assert landed is not None
        assert "merges once its checks have passed" in landed.waiting
    assert landed is not None
    said = {"state": "success", "context": "report"}
    gitea.ask("grace", "POST", f"repos/{project}/statuses/{landed.commit}", **said)
    soon(lambda: remote.release("staging", model).spec.version == "v1.0.3")


def test_every_writer_works_by_pull_request_and_a_newer_promotion_closes_the_older(
    gitea: Gitea, project: str, settings: Settings, remote: Remote, model: str, merge: Callable[[int], None]
) -> None:
    promotion(settings, made(model, *THREE))
    promotion(settings, made(model, "v1.0.3", "d"))
    first = gitea.ask("grace", "GET", f"repos/{project}/issues/1/comments")
    assert "Superseded by pull request 2" in first[0]["body"]
    assert [pull.number for pull in connect(settings).opened()] == [2], "pages of two"
    _, held = hold(settings, "production", model, "ada", "a fair", timedelta(days=1))
    assert held.branch == f"hold/production/{model}"
    merge(3)
    ended = thaw(settings, "production", model, "ada", "it is over")
    assert ended is not None
    assert "waiting for pull request 4" in str(ended)
    merge(4)
    rejected = bar(settings, model, "v1.0.1", lambda _: digest("b"), "error-rate", "0.2")
    assert "waiting for pull request 5" in str(rejected.delivered)
    merge(5)
    assert (remote.release("production", model).spec.version, remote.release("staging", model).spec.version) == (
        "v1.0.0",
        "v1.0.0",
    )


def test_a_review_counts_where_an_approver_gave_it(
    gitea: Gitea, project: str, settings: Settings, model: str, merge: Callable[[int], None]
) -> None:
    def objection(number: int, letter: str, *events: tuple[str, str]) -> str:
        release = made(model, f"v1.0.{number + 1}", letter)
        promotion(settings, release)
        for who, event in events:
            path = f"repos/{project}/pulls/{number}/reviews"
            gitea.ask(who, "POST", path, event=event, body="read")
        merge(number)
        with checkout(settings) as tree:
            (said,) = [*unreviewed(tree, "production", release, {})] or [""]
        return said

    assert made(model, *THREE).spec.evidence.approvedBy == BY_MERGE
    assert objection(1, "c", ("bob", "APPROVED")) == ""
    assert "pull request 2 of bot was approved by nobody" in objection(2, "d")
    assert "was approved by nobody" in objection(3, "e", ("bob", "APPROVED"), ("bob", "REQUEST_CHANGES"))
    with checkout(settings) as tree:
        tree.complete()
        assert connect(settings).review(tree.git("rev-list", "--max-parents=0", "HEAD").text.strip()) is None


def test_rules_of_the_branch_and_who_may_ask(gitea: Gitea, project: str, settings: Settings) -> None:
    owner = settings.model_copy(update={"forge_token": Settings(forge_token=gitea.tokens["grace"]).forge_token})
    assert connect(owner).rules("main") == {
        "pull requests only": True,
        "review by code owners": None,
        "checks required": False,
        "no force push": True,
        "no deletion": True,
    }
    nobody = settings.model_copy(update={"forge_token": Settings(forge_token="0" * 40).forge_token})
    with pytest.raises(Misuse, match="answered 401"):
        connect(nobody).opened()


def test_a_push_that_gitea_declines_says_what_to_set(settings: Settings, model: str) -> None:
    with pytest.raises(Refused, match=r"(?s)protected branch.*set PROMOTION_FORGE"):
        promotion(settings.model_copy(update={"forge": ""}), made(model, *THREE))
