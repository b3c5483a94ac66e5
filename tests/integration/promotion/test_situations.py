"""What happens at once, or between two steps of the loop: each ends where it should, and nothing innocent is barred."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from plumbline.promotion.delivery.cluster import Served
from plumbline.promotion.delivery.documents import Barred, barred_path, checked, dump, release_path
from plumbline.promotion.delivery.follow import sync
from plumbline.promotion.delivery.git import checkout
from plumbline.promotion.delivery.governance import bar
from plumbline.promotion.delivery.hold import Hold, hold_path
from plumbline.promotion.delivery.reconcile import rounds
from plumbline.promotion.delivery.release_text import new_text
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.lifecycle import Lifecycle
from plumbline.promotion.settings import Settings

from .conftest import Remote
from .loops import NEVER_READY, SLOW, Loop
from .releases import digest, known


@pytest.fixture
def loop(remote: Remote, settings: Settings, registry: Registry, model: str) -> Loop:
    return Loop(remote, settings, registry, model)


def push(loop: Loop, *words: str) -> None:
    loop.remote.git("push", "--quiet", *words, "origin", "main")


def test_two_reconciles_of_one_failure_make_one_commit(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for release in (good, bad):
        loop.serve(release)
    before = len(loop.remote.log())
    clusters = [loop.cluster(good, SLOW, "staging") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(loop.minute_of, clusters))
    assert (loop.served(), loop.barred(), len(loop.remote.log())) == (good, ["b" * 12], before + 1)
    named = {line.partition("; commit ")[2] for lines in said for line in lines if "; commit " in line}
    assert named == {loop.remote.git("rev-parse", "HEAD").strip()}, "whoever says a commit says this one"


def test_two_environments_verdicts_cross(loop: Loop) -> None:
    """Each has it in canary and neither has proved it: the first verdict's record spares the other's canary nothing."""
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for environment in ("staging", "production"):
        for release in (good, bad):
            loop.serve(release, environment)
    clusters = [(loop.cluster(good, SLOW, name), name) for name in ("staging", "production")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda item: loop.minute_of(*item), clusters))
    for environment in ("staging", "production"):
        loop.minute(good, None, environment, "Progressing")
        assert loop.served(environment) == good
    assert loop.barred() == ["b" * 12]


def test_one_environments_verdict_ends_anothers_canary_and_not_what_it_has_stable(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for environment in ("staging", "production"):
        for release in (good, bad):
            loop.serve(release, environment)
    loop.minute(good)
    loop.minute(bad, None, "production", "Healthy")
    assert loop.served("production") == bad, "proved there"
    loop.minute(good, None, "production", "Progressing")
    assert loop.served("production") == good, "a canary has proved nothing"


def test_a_bar_takes_a_running_canary_out_and_bars_nothing_else(loop: Loop) -> None:
    """A person bars the artifact while it climbs with a new image, and the analysis fails as well."""
    good, both = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b", "2")
    for release in (good, both):
        loop.serve(release)
    loop.remote.commit({barred_path(loop.model, digest("b")): record(loop, "b")})
    loop.minute(good, SLOW)
    assert (loop.served(), loop.barred()) == (good, ["b" * 12])


def record(loop: Loop, letter: str) -> str:
    about = {"version": "v1.0.1", "digest": digest(letter), "metric": "accuracy", "reason": "labels came"}
    return dump(checked(Barred, model=loop.model, **about))


def test_a_hold_that_ends_while_the_canary_stands_aborted_lets_it_be_taken_back(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for release in (good, bad):
        loop.serve(release)
    now = datetime.now(UTC)
    said = {"environment": "staging", "model": loop.model, "by": "ada", "reason": "a fair", "at": now - timedelta(1)}
    for until, served in ((now + timedelta(hours=1), bad), (now - timedelta(seconds=1), good)):
        held = Hold(kind="Hold", until=until, **said)
        loop.remote.commit({hold_path("staging", loop.model): dump(held)})
        loop.minute(good)
        assert loop.served() == served
    assert loop.barred() == ["b" * 12], "its verdict still stands"


@pytest.mark.parametrize("pods", [None, ()])
def test_an_image_bump_with_another_ladder_in_one_commit_blames_the_image(
    loop: Loop, pods: tuple[str, ...] | None
) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.0", "a", "2")
    loop.serve(good)
    ladder = f"clusters/staging/models/{loop.model}/canary.yaml"
    files: dict[str, str | None] = {release_path("staging", loop.model): new_text(bad), ladder: "steps: []\n"}
    loop.remote.commit(files, "image and ladder")
    loop.minute(good, pods=pods)
    assert (loop.served(), loop.barred()) == (good, ["2" * 12])
    assert (loop.remote.work / ladder).read_text() == "steps: []\n", "whoever changed it may keep it"


def test_a_branch_that_was_set_back_beyond_a_bar_has_its_verdict_made_anew(loop: Loop) -> None:
    """The record is gone with the commits: the same canary fails again, and is barred again; never more than that."""
    good, bad, next_ = (loop.release(f"v1.0.{n}", letter) for n, letter in enumerate("abc"))
    for release in (good, bad):
        loop.serve(release)
    before = loop.remote.git("rev-parse", "HEAD").strip()
    loop.minute(good)
    loop.serve(next_)
    loop.remote.git("reset", "--quiet", "--hard", before)
    push(loop, "--force")
    assert (loop.served(), loop.barred()) == (bad, [])
    lines = loop.minute_of(loop.cluster(next_, None, "staging", "Progressing"))
    assert (loop.served(), lines[0][:11]) == (bad, "v1.0.1: Pro"), "next was stable, and nothing failed"
    loop.minute(next_, NEVER_READY)
    assert loop.served() == bad, "git never named what is stable: nothing is guessed"
    loop.minute(good)
    assert (loop.served(), loop.barred()) == (good, ["b" * 12])


def test_a_rollout_that_was_deleted_and_made_again_takes_nothing_away(loop: Loop) -> None:
    one, two = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for release in (one, two):
        loop.serve(release)
    for failure, phase in ((None, "Progressing"), (None, "Unseen"), (None, "Degraded")):
        loop.minute(None, failure, phase=phase)
        assert (loop.served(), loop.barred()) == (two, [])
    loop.minute(None, NEVER_READY)
    assert (loop.served(), loop.barred()) == (one, []), "it never came up, and the one before had"


def test_a_registry_of_last_week_says_nothing_of_what_it_does_not_know(
    loop: Loop, registry: Registry, settings: Settings
) -> None:
    """Its backup was made before the version that staging serves by now: no other version has its alias."""
    old = known(registry, loop.release("v1.0.0", "a"))
    new = loop.release("v1.0.1", "b")
    for release in (old, new):
        loop.serve(release)
    version = registry.find(loop.model, "v1.0.0")
    registry.alias(version, "staging")
    registry.move(version, Lifecycle.STAGING)
    with checkout(settings) as tree:
        said = sync(registry, tree, loop.model, {"staging": Served.of(new)})
        assert any("v1.0.1, which the registry does not know" in line for line in said)
        now = registry.find(loop.model, "v1.0.0")
        assert (now.aliases, now.lifecycle) == ((), Lifecycle.ARCHIVED)
        known(registry, new)  # registered again, or the registry was restored anew
        sync(registry, tree, loop.model, {"staging": Served.of(new)})
        assert registry.find(loop.model, "v1.0.1").aliases == ("staging",)


def test_a_verdict_that_came_while_a_person_went_back_by_hand_bars_and_moves_nothing(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for release in (good, bad):
        loop.serve(release)
    late = loop.cluster(good, SLOW, "staging")
    loop.remote.git("revert", "--no-edit", "HEAD")
    push(loop)
    before = loop.remote.log()
    loop.minute_of(late)
    assert (loop.served(), loop.barred(), loop.remote.log()) == (good, [], before)


def test_unrelated_histories_merged_into_one_stop_no_rollback(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for release in (good, bad):
        loop.serve(release)
    loop.remote.git("checkout", "--quiet", "--orphan", "other")
    loop.remote.git("rm", "-rfq", ".")
    path = loop.remote.work / release_path("staging", loop.model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(new_text(loop.release("v0.9.0", "f")))
    loop.remote.git("add", "--all")
    loop.remote.git("commit", "--quiet", "-m", "of another repository")
    loop.remote.git("checkout", "--quiet", "main")
    words = ("--allow-unrelated-histories", "--strategy", "ours", "-m", "joined", "other")
    loop.remote.git("merge", "--quiet", *words)
    push(loop)
    loop.minute(good)
    assert (loop.served(), loop.barred()) == (good, ["b" * 12])


def test_a_repository_that_was_made_anew_meanwhile_is_followed_by_the_process_that_goes_on(loop: Loop) -> None:
    """A forge restored from files: the same branch, another root. Its past is what is in git now."""
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    loop.serve(good)
    cluster = loop.cluster(good, None, "staging", "Healthy")
    each = rounds(loop.registry, loop.settings, cluster, "staging", [loop.model])
    list(next(each))
    loop.remote.git("checkout", "--quiet", "--orphan", "anew")
    loop.remote.git("commit", "--quiet", "-m", "all files as they were")
    loop.remote.git("branch", "--force", "main", "anew")
    loop.remote.git("checkout", "--quiet", "main")
    push(loop, "--force")
    list(next(each))
    loop.serve(bad)
    failed = loop.cluster(good, SLOW, "staging").running(loop.model)
    cluster.running = lambda model: failed  # type: ignore[method-assign]  # noqa: ARG005
    list(next(each))
    assert (loop.served(), loop.barred()) == (good, ["b" * 12])


def test_a_merge_of_image_and_configuration_that_is_reverted_whole_leaves_nothing_to_do(loop: Loop) -> None:
    good, other = loop.release("v1.0.0", "a"), loop.release("v1.0.0", "a", "2")
    loop.serve(good)
    loop.remote.git("checkout", "--quiet", "-b", "request")
    (loop.remote.work / release_path("staging", loop.model)).write_text(new_text(other))
    (loop.remote.work / "clusters/staging/kustomization.yaml").write_text("resources: []\n# cpu: 50m\n")
    loop.remote.git("commit", "--quiet", "--all", "-m", "both")
    loop.remote.git("checkout", "--quiet", "main")
    loop.remote.git("merge", "--quiet", "--no-ff", "-m", "Merge pull request #7", "request")
    push(loop)
    cluster = loop.cluster(good, SLOW, "staging")
    loop.remote.git("revert", "--no-edit", "--mainline", "1", "HEAD")
    push(loop)
    before = loop.remote.log()
    loop.minute_of(cluster)
    loop.minute(good, None, phase="Healthy")
    assert (loop.served(), loop.barred(), loop.remote.log()) == (good, [], before)


def test_a_rejection_and_a_verdict_at_once_make_one_record(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for environment in ("staging", "production"):
        for release in (good, bad):
            loop.serve(release, environment)
    cluster = loop.cluster(good, SLOW, "staging")
    with ThreadPoolExecutor(2) as pool:
        verdict = pool.submit(loop.minute_of, cluster)
        word = pool.submit(bar, loop.settings, loop.model, "v1.0.1", lambda _: digest("b"), "accuracy", "labels came")
        verdict.result(), word.result()
    assert (loop.served(), loop.served("production"), loop.barred()) == (good, good, ["b" * 12])
    text = (loop.remote.work / barred_path(loop.model, digest("b"))).read_text()
    assert "stays" not in text, "a person's word holds everywhere"
