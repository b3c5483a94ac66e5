"""A verdict acts on what differs between canary and stable, and on nothing else. Git is real; what the cluster says is
set by hand, as in test_reconcile.py."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plumbline.core import programs
from plumbline.promotion.cli import app
from plumbline.promotion.delivery import cluster as clusters
from plumbline.promotion.delivery.approval import Wanted
from plumbline.promotion.delivery.cluster import RELEASE_TEXT, differing
from plumbline.promotion.delivery.documents import Barred, Override, barred_path, dump, release_path
from plumbline.promotion.delivery.git import Change, checkout
from plumbline.promotion.delivery.governance import bar
from plumbline.promotion.delivery.past import reverts
from plumbline.promotion.delivery.release_text import new_text
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings
from plumbline.tree.validate.checks import models

from .conftest import Remote
from .loops import NEVER_READY, SLOW, Loop
from .releases import digest


@pytest.fixture
def loop(remote: Remote, settings: Settings, registry: Registry, model: str) -> Loop:
    return Loop(remote, settings, registry, model)


def test_the_canary_of_a_configuration_change_blames_no_release(loop: Loop) -> None:
    old, good = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for environment in ("staging", "production"):
        loop.serve(old, environment)
        loop.serve(good, environment)
    loop.remote.commit({"clusters/staging/model-server/kustomization.yaml": "# cpu: 50m\n"}, "staging: less CPU")
    loop.remote.commit({"notes.md": "nothing of it\n"}, "notes")
    before = loop.remote.log()
    for _ in range(2):
        (said,) = loop.minute(good)
        assert "canary of a configuration change failed p95" in said
        assert "'staging: less CPU' by Ada" in said
    assert (loop.remote.log(), loop.barred()) == (before, [])
    assert len(loop.warned) == 2, "the alert stands as long as the fault does"
    told = loop.said(good, SLOW)
    assert told.startswith("differ: canary of a configuration change, p95: failed")
    assert "'staging: less CPU' by Ada" in told


def test_a_configuration_that_failed_is_an_alert(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, address: str, alertmanager: Any
) -> None:
    loop.serve(loop.release("v1.0.0", "a"))
    loop.remote.commit({"clusters/staging/model-server/kustomization.yaml": "# cpu: 50m\n"}, "staging: less CPU")
    says = loop.cluster(loop.served(), SLOW, "staging")
    monkeypatch.setattr(clusters, "Cluster", lambda: says)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("PROMOTION_REPO", loop.remote.url)
    monkeypatch.setenv("MONITORING_ALERTMANAGER_URL", alertmanager.url)
    done = CliRunner().invoke(app, ["reconcile", "--env", "staging", "--model", loop.model])
    assert done.exit_code == 0, done.output
    (alert,) = alertmanager.alerts
    assert alert["labels"]["alertname"] == "ConfigurationAborted"
    assert alert["labels"]["subject"] == f"{loop.model}(staging)"
    assert "'staging: less CPU' by Ada" in alert["annotations"]["description"]
    assert alert["annotations"]["runbook"] == "rollouts.md#configurationaborted"


def test_a_submodule_in_the_files_place_was_no_release(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    path = release_path("staging", loop.model)
    loop.serve(good)
    loop.remote.git("rm", "--quiet", path)
    loop.remote.git("update-index", "--add", "--cacheinfo", f"160000,{'d' * 40},{path}")
    loop.remote.git("commit", "--quiet", "-m", "a submodule")
    loop.remote.git("rm", "--quiet", "--cached", path)
    loop.remote.git("commit", "--quiet", "-m", "none")
    loop.remote.git("push", "--quiet", "origin", "main")
    loop.serve(bad)
    loop.minute(good)
    assert (loop.served(), loop.barred()) == (good, ["b" * 12])


def test_the_commit_is_found_where_kustomize_reads(loop: Loop) -> None:
    """Not every commit of the environment is one that changes the model's pods."""
    loop.serve(loop.release("v1.0.0", "a"))
    own, servers = f"clusters/staging/models/{loop.model}/kustomization.yaml", "clusters/staging/model-server"
    loop.remote.commit(
        {
            own: "components: [../../model-server]\n",
            f"{servers}/kustomization.yaml": "components: [../../../kustomize/base]\n",
            "kustomize/base/kustomization.yaml": "patches: [{path: pod.yaml}]\n",
            "kustomize/base/pod.yaml": "cpu: 500m\n",
        },
        "a tree",
    )
    loop.remote.commit({"kustomize/base/pod.yaml": "cpu: 50m\n"}, "base: less CPU")
    loop.remote.commit({"kustomize/mlflow/pod.yaml": "cpu: 1\n"}, "mlflow: more CPU")
    loop.remote.commit({f"clusters/staging/models/{loop.model}/canary.yaml": "weight: 20\n"}, "another ladder")
    assert "'base: less CPU' by Ada" in loop.minute(loop.served())[0]


def test_a_configuration_changed_in_the_merge_itself_is_found(loop: Loop) -> None:
    """Who resolves a conflict may write what neither side had."""
    base = "kustomize/base/pod.yaml"
    loop.serve(loop.release("v1.0.0", "a"))
    loop.remote.commit({base: "cpu: 500m\n"}, "a base")
    loop.remote.git("checkout", "--quiet", "-b", "mine")
    loop.remote.git("commit", "--quiet", "--allow-empty", "-m", "mine")
    loop.remote.git("checkout", "--quiet", "main")
    loop.remote.commit({"notes.md": "theirs\n"}, "notes")
    loop.remote.git("merge", "--quiet", "--no-ff", "--no-commit", "mine")
    (loop.remote.work / base).write_text("cpu: 50m\n")
    loop.remote.git("commit", "--quiet", "-am", "Merge of mine, and less CPU")
    loop.remote.git("push", "--quiet", "origin", "main")
    assert "'Merge of mine, and less CPU' by Ada" in loop.minute(loop.served())[0]


def test_a_configuration_since_stable_was_first_named_is_a_candidate_of_every_later_canary(loop: Loop) -> None:
    """That a rollback names stable's release again says nothing of what its pods run with."""
    stable, one, two = (loop.release(f"v1.0.{n}", letter) for n, letter in enumerate("abc"))
    loop.serve(stable)
    loop.remote.commit({"clusters/staging/model-server/kustomization.yaml": "# cpu: 50m\n"}, "staging: less CPU")
    for release in (one, two):
        loop.serve(release)
        assert "'staging: less CPU' by Ada" in loop.minute(stable)[0]
        assert (loop.served(), loop.barred()) == (stable, [])


def test_never_ready_goes_back_to_stable_once(loop: Loop) -> None:
    one, two, three = (loop.release(f"v1.0.{n}", letter) for n, letter in enumerate("abc"))
    for release in (one, two, three):
        loop.serve(release)
    assert "v1.0.2: given up (ReplicaSet has timed out" in loop.minute(one, NEVER_READY)[0]
    after = loop.remote.log()
    for _ in range(3):
        loop.minute(one, NEVER_READY)
        assert (loop.served(), loop.remote.log(), loop.barred()) == (one, after, [])


def test_where_git_never_named_what_is_stable_nothing_is_guessed(loop: Loop) -> None:
    for n, letter in enumerate("ab"):
        loop.serve(loop.release(f"v1.0.{n}", letter))
    before = loop.remote.log()
    assert "nothing to go back to" in loop.minute(loop.release("v0.9.0", "f"), NEVER_READY)[0]
    assert loop.remote.log() == before


def test_the_first_release_has_nothing_to_go_back_to_and_is_not_barred(loop: Loop) -> None:
    loop.serve(loop.release("v1.0.0", "a"))
    before = loop.remote.log()
    assert "nothing to go back to" in loop.minute(None)[0]
    assert (loop.remote.log(), loop.barred()) == (before, [])


def test_where_model_and_image_differ_none_is_barred_and_the_next_canary_tells(loop: Loop) -> None:
    stable, bad, both = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b"), loop.release("v1.0.1", "b", "2")
    for release in (stable, bad, both):
        loop.serve(release)
    (said,) = loop.minute(stable)
    assert "none is barred" in said
    assert (loop.served(), loop.barred()) == (stable, [])
    body = loop.remote.git("log", "-1", "--format=%b")
    assert f"Candidate: artifact {digest('b')}" in body
    assert f"Candidate: image ghcr.io/plumbline/model-server@{digest('2')}" in body
    loop.serve(loop.release("v1.0.0", "a", "2"))  # the image alone is good
    assert loop.minute(loop.served(), None, phase="Healthy") == []
    loop.serve(both)
    loop.minute(loop.release("v1.0.0", "a", "2"))  # so it is the model
    assert loop.barred() == ["b" * 12]


@pytest.mark.parametrize(
    ("pods", "barred"),
    [(None, []), (("/spec/containers/server/resources/requests/cpu",), []), ((RELEASE_TEXT,), ["b" * 12])],
)
def test_a_configuration_in_the_same_canary_is_a_candidate_too(
    loop: Loop, pods: tuple[str, ...] | None, barred: list[str]
) -> None:
    """Unless the cluster compared the pods and knows better."""
    stable, new = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    loop.serve(stable)
    loop.remote.commit({"clusters/staging/model-server/kustomization.yaml": "# cpu: 50m\n"}, "staging: less CPU")
    loop.serve(new)
    said = loop.minute(stable, pods=pods)[0]
    assert (loop.served(), loop.barred()) == (stable, barred)
    assert barred or "configuration" in said


def test_a_threshold_changed_by_hand_is_taken_back_and_bars_nothing(loop: Loop) -> None:
    good, other = loop.release("v1.0.0", "a"), loop.release("v1.0.0", "a", threshold=0.9)
    loop.serve(good)
    loop.serve(other)
    assert "threshold 0.5 → 0.9" in loop.minute(good)[0]
    assert (loop.served(), loop.barred()) == (good, [])
    after = loop.remote.log()
    assert "configuration change" in loop.minute(good)[0]
    assert loop.remote.log() == after


def test_a_threshold_that_was_stable_before_the_pods_changed_is_innocent(loop: Loop) -> None:
    loop.serve(loop.release("v1.0.0", "a"))
    proved = loop.release("v1.0.0", "a", threshold=0.9)
    loop.serve(proved)
    loop.remote.commit({"clusters/staging/model-server/kustomization.yaml": "# cpu: 50m\n"}, "staging: less CPU")
    assert "canary of a configuration change" in loop.minute(proved)[0]
    assert loop.served() == proved


def test_another_environment_keeps_what_it_has_proved(loop: Loop, settings: Settings) -> None:
    old, new = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for environment in ("staging", "production"):
        loop.serve(old, environment)
        loop.serve(new, environment)
    said = loop.minute(old)
    assert said[1] == "production keeps v1.0.1, which it served before; it is promoted nowhere further"
    assert (loop.served(), loop.served("production"), loop.barred()) == (old, new, ["b" * 12])
    assert loop.minute(new, None, "production", "Healthy") == []
    assert loop.served("production") == new
    # It was in canary there, not stable: that proves nothing.
    assert "taken out" in loop.minute(old, None, "production", "Progressing")[0]
    assert loop.served("production") == old
    # A person's word is for all.
    loop.serve(new, "production")
    bar(settings, loop.model, "v1.0.1", lambda _: digest("b"), "accuracy", "labels came")
    assert loop.served("production") == old
    loop.serve(new, "production")
    assert "taken out" in loop.minute(new, None, "production", "Healthy")[0]


@pytest.mark.parametrize("what", ["artifact", "image"])
def test_what_is_barred_is_taken_out_whoever_committed_it(loop: Loop, what: str) -> None:
    """A pull request that is older than the rejection and merged after it: git sees no conflict."""
    old, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b", "2")
    loop.serve(old, "production")
    loop.remote.git("checkout", "--quiet", "-b", "request")
    path = loop.remote.work / release_path("production", loop.model)
    path.write_text(new_text(bad))
    loop.remote.git("commit", "--quiet", "-am", "serve v1.0.1")
    loop.remote.git("checkout", "--quiet", "main")
    guilty = digest("b" if what == "artifact" else "2")
    bar(loop.settings, loop.model, "v1.0.1", lambda _: guilty, "accuracy", "labels came")
    loop.remote.pull()
    loop.remote.git("merge", "--quiet", "--no-ff", "-m", "Merge pull request #7", "request")
    loop.remote.git("push", "--quiet", "origin", "main")
    assert any("v1.0.1 is barred for accuracy: labels came" in str(problem) for problem in models(loop.remote.work))
    assert "taken out, for it is barred for accuracy" in loop.minute(bad, None, "production", "Healthy")[0]
    assert loop.served("production") == old
    assert not any("is barred" in str(problem) for problem in models(loop.remote.work))


def test_what_nobody_approved_is_refused_offline_and_told_by_reconcile(loop: Loop) -> None:
    release = loop.release("v1.0.0", "a")
    forged = release.model_copy(
        update={
            "spec": release.spec.model_copy(
                update={"evidence": release.spec.evidence.model_copy(update={"approvedBy": "Eve"})}
            )
        }
    )
    loop.serve(forged)
    loop.serve(forged, "production")
    missing = Wanted.of("production", forged).path
    reason = f"approvedBy: names Eve; nobody approved it: {missing} is missing"
    assert [problem.where for problem in models(loop.remote.work) if reason in str(problem)] == [
        release_path("production", loop.model)
    ], "staging asks for none"
    assert any(reason in line for line in loop.minute(forged, None, "production", "Healthy"))


Write = Callable[[str], bytes]


@pytest.mark.parametrize(
    "write",
    [
        lambda text: ("# für München\n" + text).encode("latin-1"),
        lambda _: b"kind: Release\n",
        lambda text: text.replace("threshold:", "cutoff:").encode(),
        lambda _: b"- a list\n",
        lambda _: b"\x00\xff",
        lambda text: ("\ufeff" + text).encode("utf-16"),
    ],
)
def test_what_of_the_past_cannot_be_read_is_skipped_with_a_line(loop: Loop, write: Write) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    loop.serve(good)
    (loop.remote.work / release_path("staging", loop.model)).write_bytes(write(new_text(good)))
    loop.remote.git("commit", "--quiet", "-am", "as others write")
    loop.remote.git("push", "--quiet", "origin", "main")
    loop.serve(bad)
    said = loop.minute(good)
    assert f"{release_path('staging', loop.model)} of commit" in said[0]
    assert "is skipped: " in said[0]
    assert (loop.served(), loop.barred()) == (good, ["b" * 12])
    loop.serve(bad)
    assert any(
        "is skipped" in line
        for line in bar(loop.settings, loop.model, "v1.0.1", lambda _: digest("b"), "f1", "x").skipped
    )


@pytest.mark.parametrize("partial", [False, True])
def test_history_is_every_commit_in_whatever_merge(loop: Loop, partial: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who pulls merges main into their own line: --first-parent then leaves main's commits out."""
    one, two, three = (loop.release(f"v1.0.{n}", letter) for n, letter in enumerate("abc"))
    loop.serve(one)
    loop.remote.git("checkout", "--quiet", "-b", "mine")
    (loop.remote.work / "mine.md").write_text("mine\n")
    loop.remote.git("add", "--all")
    loop.remote.git("commit", "--quiet", "-m", "mine")
    loop.remote.git("checkout", "--quiet", "main")
    loop.serve(two)
    loop.remote.git("checkout", "--quiet", "mine")
    loop.remote.git("merge", "--quiet", "-m", "pull", "main")
    loop.remote.git("push", "--quiet", "origin", "HEAD:main")
    loop.remote.git("checkout", "--quiet", "main")
    loop.serve(three)
    subprocess.run(
        ["git", f"--git-dir={loop.remote.url}", "config", "uploadpack.allowFilter", str(partial).lower()], check=True
    )
    ran: list[str] = []
    real = programs.git

    def noted(*words: str, **more: Any) -> programs.Done:
        ran.append(" ".join(words))
        return real(*words, **more)

    monkeypatch.setattr(programs, "git", noted)
    with checkout(loop.settings.model_copy(update={"repo": f"file://{loop.remote.url}"})) as tree:
        assert tree.git("rev-list", "--count", "HEAD").text.strip() == "1", "only the newest commit was cloned"
        texts = [text for _, text in tree.history(release_path("staging", loop.model))]
    assert texts == [new_text(release) for release in (three, two, two, one)], "the merge brought it too"
    assert any("--stdin" in words for words in ran) == partial, "contents of all commits are fetched at once"
    loop.minute(two)
    assert loop.served() == two


def test_an_override_of_the_model_lifts_nothing_from_the_image(loop: Loop) -> None:
    bad = loop.release("v1.0.0", "a", "2")
    record = Barred(
        model=loop.model, version="v1.0.0", digest=digest("2"), metric="p95", reason="slow", at="2026-01-02T03:04:05Z"
    )
    override = Override(by="Ada", reason="fine", at=record.at)
    lifted = record.model_copy(update={"digest": digest("a"), "override": override})
    loop.remote.commit(
        {
            barred_path(loop.model, digest("2")): dump(record),
            barred_path(loop.model, digest("a")): dump(lifted),
        }
    )
    loop.serve(bad, "production")
    assert any("is barred for p95: slow" in str(problem) for problem in models(loop.remote.work))


def test_pods_are_compared_without_the_releases_own_values() -> None:
    def template(cpu: str, digest: str, release: str) -> dict[str, object]:
        return {
            "metadata": {
                "labels": {"plumbline.dev/role": digest[:1], "rollouts-pod-template-hash": digest},
                "annotations": {"plumbline.dev/digest": digest},
            },
            "spec": {
                "volumes": [{"name": "release", "configMap": {"name": release}}],
                "containers": [{"name": "server", "image": digest, "resources": {"requests": {"cpu": cpu}}}],
            },
        }

    stable = template("500m", "a", "release-1")
    assert differing(stable, template("500m", "b", "release-2")) == (RELEASE_TEXT,)
    assert differing(stable, template("500m", "b", "release-1")) == ()
    assert differing(stable, template("50m", "a", "release-1")) == ("/spec/containers/server/resources/requests/cpu",)


def test_a_release_that_only_a_request_named_on_its_way_is_nowhere_to_go_back_to(loop: Loop) -> None:
    """Two commits of a pull request: the branch, and so every cluster, saw the last one alone."""
    old, draft, merged = (loop.release(f"v1.0.{n}", letter) for n, letter in enumerate("abc"))
    loop.serve(old)
    loop.remote.git("checkout", "--quiet", "-b", "request")
    for release in (draft, merged):
        (loop.remote.work / release_path("staging", loop.model)).write_text(new_text(release))
        loop.remote.git("commit", "--quiet", "-am", release.spec.version)
    loop.remote.git("checkout", "--quiet", "main")
    loop.remote.git("merge", "--quiet", "--no-ff", "-m", "Merge pull request #7", "request")
    loop.remote.git("push", "--quiet", "origin", "main")
    bar(loop.settings, loop.model, "v1.0.2", lambda _: digest("c"), "accuracy", "labels came")
    assert loop.served() == old


def test_a_cluster_that_was_built_anew_takes_nothing_away(loop: Loop) -> None:
    old, new = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for environment in ("staging", "production"):
        loop.serve(old, environment)
        loop.serve(new, environment)
    loop.minute(old)
    assert loop.barred() == ["b" * 12]
    loop.minute(None, None, "production", "Progressing")
    assert loop.served("production") == new


def test_a_broken_file_of_another_environment_holds_up_no_rollback(loop: Loop) -> None:
    old, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for environment in ("staging", "production"):
        loop.serve(old, environment)
        loop.serve(bad, environment)
    loop.remote.commit({release_path("production", loop.model): "kind: [\n"})
    said = loop.minute(old)
    assert said[0].startswith(f"production is left as it is: {release_path('production', loop.model)}: not readable")
    assert (loop.served(), loop.barred()) == (old, ["b" * 12])
    loop.serve(bad, "production")  # mended: what its cluster has proved, it keeps
    loop.minute(bad, None, "production", "Healthy")
    assert loop.served("production") == bad


def test_where_the_artifact_is_changed_by_hand_is_taken_back(loop: Loop) -> None:
    good = loop.release("v1.0.0", "a")
    artifact = good.spec.artifact.model_copy(update={"uri": "s3://m/elsewhere"})
    loop.serve(good)
    loop.serve(good.model_copy(update={"spec": good.spec.model_copy(update={"artifact": artifact})}))
    loop.minute(good, NEVER_READY)
    assert (loop.served(), loop.barred(), loop.warned) == (good, [], [])
    assert "Candidate: artifact.uri s3://m/a → s3://m/elsewhere" in loop.remote.git("log", "-1", "--format=%b")


def test_another_model_whose_name_begins_alike_changed_no_pods(loop: Loop) -> None:
    old, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    loop.serve(old)
    loop.remote.commit({f"clusters/staging/models/{loop.model}-2/kustomization.yaml": "# its own\n"}, "another's")
    loop.serve(bad)
    loop.minute(old)
    assert loop.barred() == ["b" * 12]


ALIASES = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 15))


@pytest.mark.parametrize(
    "text",
    [f"patches: [{{patch: '{'[' + 'x' * 300 + ']'}'}}]\n", "resources: &a [*a]\n", f"a0: &a0 [x]\n{ALIASES}"],
    ids=["a long name", "itself", "23 billion of 15 lines"],
)
def test_what_can_be_no_path_in_a_kustomization_stops_nobody(loop: Loop, text: str) -> None:
    loop.serve(loop.release("v1.0.0", "a"))
    loop.remote.commit({f"clusters/staging/models/{loop.model}/kustomization.yaml": text}, "patched")
    assert "'patched' by Ada" in loop.minute(loop.served())[0]


def test_a_persons_way_to_search_and_to_see_differences_is_their_own(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, letter in enumerate("abc"):
        loop.serve(loop.release(f"v1.0.{n}", letter))
    loop.minute(loop.release("v1.0.1", "b"), NEVER_READY)
    (tmp_path / "gitconfig").write_text("[grep]\n  patternType = fixed\n[diff]\n  external = /bin/false\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    with checkout(loop.settings) as tree:
        assert len(reverts(tree, "staging", loop.model)) == 1
        assert "+new" in tree.diff(Change({"notes.md": "new\n"}, "notes"))
