"""Git as people leave it: odd merges, tags, encodings, clocks, mirrors, hooks. Each rollback goes where it should."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from plumbline.core import programs
from plumbline.core.errors import Misuse, Refused
from plumbline.promotion.delivery.documents import Barred, barred_path, checked, dump, release_path
from plumbline.promotion.delivery.git import Change, Checkout, checkout, commit_and_push
from plumbline.promotion.delivery.governance import bar
from plumbline.promotion.delivery.hold import hold_path
from plumbline.promotion.delivery.records import barred_problems, read_barred, read_served
from plumbline.promotion.delivery.release_text import edit, new_text
from plumbline.promotion.delivery.releases import releases
from plumbline.promotion.delivery.state import bar_of
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings
from plumbline.tree.validate import checks

from .conftest import Remote
from .loops import NEVER_READY, SLOW, Loop
from .releases import digest


@pytest.fixture
def loop(remote: Remote, settings: Settings, registry: Registry, model: str) -> Loop:
    return Loop(remote, settings, registry, model)


def branch(loop: Loop, name: str, files: dict[str, str]) -> None:
    """A branch from where main is now, with one commit."""
    loop.remote.pull()
    loop.remote.git("checkout", "--quiet", "-b", name)
    for path, text in files.items():
        (loop.remote.work / path).parent.mkdir(parents=True, exist_ok=True)
        (loop.remote.work / path).write_text(text)
    loop.remote.git("add", "--all")
    loop.remote.git("commit", "--quiet", "-m", name)
    loop.remote.git("checkout", "--quiet", "main")


def merge(loop: Loop, *words: str) -> None:
    loop.remote.pull()
    loop.remote.git("merge", "--quiet", "-m", "a merge", *words)
    loop.remote.git("push", "--quiet", "origin", "main")


def told(loop: Loop, environment: str = "staging", *, history: bool = True) -> list[tuple[str, str]]:
    """(version, commit) of what was served, newest first."""
    with checkout(loop.settings) as tree:
        return [(row.version, row.commit) for row in releases(tree, [loop.model], environment, history=history)]


def test_a_bad_release_of_three_lines_in_one_merge(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    loop.serve(good)
    for name, files in {
        "one": {"notes/1.md": "1\n"},
        "two": {release_path("staging", loop.model): new_text(bad)},
        "three": {"notes/3.md": "3\n"},
    }.items():
        branch(loop, name, files)
    merge(loop, "--no-ff", "one", "two", "three")
    assert len(loop.remote.git("log", "-1", "--format=%P").split()) == 4
    loop.minute(good)
    assert (loop.served(), loop.barred()) == (good, ["b" * 12])


def test_what_a_merge_left_out_was_never_served(loop: Loop) -> None:
    """Of two lines main kept its own: it named one release all along, and the pods were changed meanwhile."""
    old, kept, left = (loop.release(f"v1.0.{n}", letter) for n, letter in enumerate("abc"))
    path = release_path("staging", loop.model)
    loop.serve(old)
    branch(loop, "request", {path: new_text(left)})
    loop.serve(kept)
    since = loop.remote.git("rev-parse", "HEAD").strip()
    loop.remote.commit({"clusters/staging/model-server/kustomization.yaml": "# cpu: 50m\n"}, "staging: less CPU")
    merge(loop, "--strategy", "ours", "request")
    assert told(loop)[0] == ("v1.0.1", since[:12])
    assert "'staging: less CPU' by Ada" in loop.minute(kept)[0]
    assert (loop.served(), loop.barred()) == (kept, [])


def test_a_rollback_that_a_person_takes_back_is_tried_again_and_fails_again(loop: Loop) -> None:
    """A revert of a revert: git has no record of the bar any more, so the next canary makes it anew."""
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for release in (good, bad):
        loop.serve(release)
    for _ in range(2):
        loop.minute(good)
        assert (loop.served(), loop.barred()) == (good, ["b" * 12])
        loop.remote.pull()
        loop.remote.git("revert", "--no-edit", "HEAD")
        loop.remote.git("push", "--quiet", "origin", "main")
        assert (loop.served(), loop.barred()) == (bad, [])
    loop.minute(good, NEVER_READY)
    assert (loop.served(), loop.barred()) == (good, []), "nothing judged it this time"


def test_a_promotion_that_was_picked_onto_main_twice_is_one(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    loop.serve(good)
    branch(loop, "request", {release_path("staging", loop.model): new_text(bad)})
    loop.remote.git("cherry-pick", "request")
    loop.remote.git("push", "--quiet", "origin", "main")
    merge(loop, "--no-ff", "request")
    assert [version for version, _ in told(loop)][:1] == ["v1.0.1"]
    loop.minute(good)
    assert (loop.served(), loop.barred()) == (good, ["b" * 12])


def test_a_squash_merge_of_a_rollback_keeps_what_it_gave_up(loop: Loop) -> None:
    """Forges write the messages of all commits into the one."""
    one, two, three = (loop.release(f"v1.0.{n}", letter) for n, letter in enumerate("abc"))
    for release in (one, two):
        loop.serve(release)
    loop.minute(one, NEVER_READY)
    loop.remote.pull()
    message = loop.remote.git("log", "-1", "--format=%B")
    loop.remote.git("reset", "--quiet", "--soft", "HEAD~1")
    loop.remote.git("commit", "--quiet", "-m", f"Back (#7)\n\n* {message}\n\n* docs\n")
    loop.remote.git("push", "--quiet", "--force", "origin", "main")
    loop.serve(three)
    bar(loop.settings, loop.model, "v1.0.0", lambda _: digest("a"), "f1", "labels came")
    done = bar(loop.settings, loop.model, "v1.0.2", lambda _: digest("c"), "f1", "labels came")
    assert (done.stranded, loop.served()) == (("staging",), three), "the one that is left failed before"


def test_a_renamed_folder_says_whose_release_it_holds(loop: Loop) -> None:
    loop.serve(loop.release("v1.0.0", "a"))
    loop.remote.git("mv", f"clusters/staging/models/{loop.model}", "clusters/staging/models/renamed")
    loop.remote.git("commit", "--quiet", "-m", "renamed")
    loop.remote.git("push", "--quiet", "origin", "main")
    problems = [str(problem) for problem in checks.models(loop.remote.work)]
    assert any("metadata.name: expected 'renamed', the folder's name" in problem for problem in problems)
    with checkout(loop.settings) as tree, pytest.raises(Refused, match=f"is the release of '{loop.model}', not of"):
        read_served(tree, "staging", "renamed")


@pytest.mark.parametrize("shape", ["\r\n", "\ufeff"])
def test_line_ends_and_marks_of_an_editor_stay(loop: Loop, shape: str) -> None:
    """CRLF, and a byte order mark: a bump is a diff of the values, a rollback the file byte for byte."""
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    path = release_path("staging", loop.model)
    text = new_text(good).replace("\n", "\r\n") if shape == "\r\n" else shape + new_text(good)
    loop.remote.pull()
    (loop.remote.work / path).write_bytes(text.encode())
    loop.remote.git("add", "--all")
    loop.remote.git("commit", "--quiet", "-m", "as others write")
    loop.remote.git("push", "--quiet", "origin", "main")
    with checkout(loop.settings) as tree:
        bumped = edit(tree.read(path) or "", bad, source=path)
        assert commit_and_push(tree, 1, lambda: Change({path: bumped}, "bump"))
        assert tree.git("diff", "--numstat", "HEAD~1", "HEAD").text.split()[:2] == ["3", "3"]
    loop.minute(good)
    loop.remote.pull()
    assert (loop.remote.work / path).read_bytes() == text.encode()
    assert loop.barred() == ["b" * 12]


@pytest.mark.parametrize("broken", [b"kind: [\n", "\ufeffkind: Release\n".encode("utf-16"), b"\xff\x00"])
def test_what_one_environment_cannot_read_holds_up_no_rejection(loop: Loop, broken: bytes) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for release in (good, bad):
        loop.serve(release)
        loop.serve(release, "production")
    path = release_path("production", loop.model)
    (loop.remote.work / path).write_bytes(broken)
    loop.remote.git("commit", "--quiet", "-am", "broken")
    loop.remote.git("push", "--quiet", "origin", "main")
    done = bar(loop.settings, loop.model, "v1.0.1", lambda _: digest("b"), "f1", "labels came")
    assert (loop.served(), loop.barred(), list(done.reverted)) == (good, ["b" * 12], ["staging"])
    assert any(line.startswith(f"production is left as it is: {path}: ") for line in done.skipped), done.skipped


def test_a_hold_that_cannot_be_read_holds_its_environment_alone(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for release in (good, bad):
        loop.serve(release)
        loop.serve(release, "production")
    loop.remote.commit({hold_path("production", loop.model): "kind: Hold\n"})
    done = bar(loop.settings, loop.model, "v1.0.1", lambda _: digest("b"), "f1", "labels came")
    assert (loop.served(), loop.served("production")) == (good, bad)
    assert any(hold_path("production", loop.model) in line for line in done.skipped), done.skipped


def test_clocks_that_run_apart_change_no_order(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    for year, version, letter in ((2031, "v1.0.0", "a"), (2009, "v1.0.1", "b"), (2020, "v1.0.2", "c")):
        for role in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{role}_DATE", f"{year}-01-01T00:00:00Z")
        loop.serve(loop.release(version, letter))
    assert [version for version, _ in told(loop)] == ["v1.0.2", "v1.0.1", "v1.0.0"]
    bar(loop.settings, loop.model, "v1.0.2", lambda _: digest("c"), "f1", "labels came")
    assert loop.served().spec.version == "v1.0.1"


def test_a_tag_of_the_branchs_name_is_not_the_branch(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    loop.serve(good)
    loop.remote.git("tag", "main")
    loop.remote.git("push", "--quiet", "origin", "refs/tags/main")
    loop.remote.git("tag", "--delete", "main")
    with checkout(loop.settings) as tree:
        (loop.remote.work / release_path("staging", loop.model)).write_text(new_text(bad))
        loop.remote.git("commit", "--quiet", "-am", "served")
        loop.remote.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
        tree.refresh()
        assert "v1.0.1" in (tree.read(release_path("staging", loop.model)) or "")
        assert len(list(tree.history(release_path("staging", loop.model)))) == 2
    loop.minute(good)
    assert loop.served() == good
    loop.remote.git("push", "--quiet", "origin", "HEAD:refs/tags/release")
    of_a_tag = loop.settings.model_copy(update={"branch": "release"})
    with pytest.raises(Misuse, match=r"PROMOTION_BRANCH=release: .* has a tag of that name, and no branch"):
        bar(of_a_tag, loop.model, "v1.0.1", lambda _: digest("b"), "f1", "bad")


def test_a_remote_that_is_a_shallow_mirror_itself(loop: Loop, tmp_path: Path) -> None:
    """What it has of history is what there is to go back to."""
    for n, letter in enumerate("abc"):
        loop.serve(loop.release(f"v1.0.{n}", letter))
    mirror = tmp_path / "mirror.git"
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", "--depth", "2", f"file://{loop.remote.url}", mirror], check=True
    )
    here = loop.settings.model_copy(update={"repo": f"file://{mirror}"})
    bar(here, loop.model, "v1.0.2", lambda _: digest("c"), "f1", "labels came")
    text = subprocess.run(
        ["git", f"--git-dir={mirror}", "show", f"main:{release_path('staging', loop.model)}"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "version: v1.0.1" in text


def test_a_release_that_was_deleted_and_came_again_is_served_since_then(loop: Loop) -> None:
    one, two = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    path = release_path("staging", loop.model)
    for release in (one, two):
        loop.serve(release)
    loop.remote.commit({path: None}, "away")
    assert told(loop) == []
    loop.serve(two)
    since = loop.remote.git("rev-parse", "HEAD").strip()[:12]
    assert told(loop)[0] == ("v1.0.1", since)
    assert [version for version, _ in told(loop)] == ["v1.0.1", "v1.0.1", "v1.0.0"]
    loop.minute(one)
    assert (loop.served(), loop.barred()) == (one, ["b" * 12])


def test_two_environments_at_once_and_a_rejection_of_what_neither_served(loop: Loop) -> None:
    good = loop.release("v1.0.0", "a")
    for environment in ("staging", "production"):
        loop.serve(good, environment)

    def serve(environment: str, letter: str) -> None:
        path = release_path(environment, loop.model)
        release = loop.release("v1.0.1", letter)
        with checkout(loop.settings) as tree:
            change = lambda: Change({path: edit(tree.read(path) or "", release)}, environment)  # noqa: E731
            assert commit_and_push(tree, 20, change)

    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(serve, "staging", "b"), pool.submit(serve, "production", "c")]
        barring = pool.submit(bar, loop.settings, loop.model, "v1.0.9", lambda _: digest("d"), "f1", "bad")
        for job in jobs:
            job.result()
        done = barring.result()
    assert done is not None
    assert (done.reverted, done.stranded, loop.barred()) == ({}, (), ["d" * 12])
    assert [loop.served(name).spec.artifact.digest[-1] for name in ("staging", "production")] == ["b", "c"]


def test_a_promotion_in_the_canary_of_a_configuration_bars_nothing(loop: Loop) -> None:
    good, new = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    loop.serve(good)
    loop.remote.commit({"clusters/staging/model-server/kustomization.yaml": "# cpu: 50m\n"}, "staging: less CPU")
    assert "Progressing at 0 %, canary" in loop.minute(good, None, phase="Progressing", pods=("/spec/cpu",))[0]
    loop.serve(new)
    (said,) = loop.minute(good, pods=("/spec/cpu", "release.yaml"))
    assert "none is barred" in said
    assert (loop.served(), loop.barred()) == (good, [])
    assert "canary of a configuration change failed" in loop.minute(good, pods=("/spec/cpu",))[0]


HOOK = r"""#!/bin/sh
printf '\033[1;31mPOLICY\033[0m: fetch first the form of the change board\n' >&2
printf '\033]0;owned\007non-fast-forward is not what this is about\033[2K\n' >&2
exit 1
"""


def test_a_hook_that_speaks_of_races_and_in_colours_has_declined(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    for release in (good, bad):
        loop.serve(release)
    hook = Path(loop.remote.url) / "hooks/pre-receive"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    with pytest.raises(Refused, match="git refused the push to main") as caught:
        loop.minute(good)
    assert "POLICY: fetch first the form of the change board" in str(caught.value)
    assert not any(ord(character) < 32 and character != "\n" for character in str(caught.value))


@pytest.mark.parametrize(
    ("configured", "surroundings"),
    [
        ("[log]\n  follow = true\n", {}),
        ("[core]\n  excludesFile = {ignore}\n", {}),
        ("[core]\n  attributesFile = {attributes}\n", {}),
        ("[i18n]\n  commitEncoding = latin1\n", {}),
        ("", {"GIT_LITERAL_PATHSPECS": "1"}),
        ("", {"GIT_OBJECT_DIRECTORY": "/nonexistent"}),
    ],
)
def test_a_persons_settings_and_a_hooks_surroundings_change_nothing(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configured: str, surroundings: dict[str, str]
) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    other = loop.remote.work / "elsewhere.yaml"
    other.write_text(new_text(loop.release("v0.9.0", "f")))
    loop.remote.git("add", "--all")
    loop.remote.git("commit", "--quiet", "-m", "elsewhere")
    loop.remote.git("mv", "elsewhere.yaml", release_path("staging", loop.model))
    loop.remote.git("commit", "--quiet", "-m", "moved")
    loop.remote.git("push", "--quiet", "origin", "main")
    for release in (good, bad):
        loop.serve(release)
    (tmp_path / "ignore").write_text("*.yaml\n")
    (tmp_path / "attributes").write_text("*.yaml text eol=crlf\n")
    text = configured.format(ignore=tmp_path / "ignore", attributes=tmp_path / "attributes")
    (tmp_path / "gitconfig").write_text(text)
    running = loop.cluster(good, SLOW, "staging")
    with monkeypatch.context() as context:
        context.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
        for name, value in surroundings.items():
            context.setenv(name, value)
        said = loop.minute_of(running)
        history = [version for version, _ in told(loop)]
    assert history == ["v1.0.0", "v1.0.1", "v1.0.0", "v0.9.0"]
    loop.remote.pull()
    assert (loop.remote.work / release_path("staging", loop.model)).read_bytes() == new_text(good).encode()
    assert loop.barred() == ["b" * 12], said
    assert "v1.0.1 → v1.0.0" in loop.remote.log()[0]


def _given(guilty: str, _: Checkout) -> str:
    return guilty


TWIN = "sha256:" + "b" * 12 + "0" * 52
"""As somebody may make bytes for: its first digits are those of what is barred."""


def test_bytes_of_the_same_first_digits_lift_no_bar(loop: Loop) -> None:
    bad = loop.release("v1.0.1", "b")
    for guilty in (digest("b"), TWIN):
        bar(loop.settings, loop.model, "v1.0.1", partial(_given, guilty), "f1", "labels came")
    with checkout(loop.settings) as tree:
        assert bar_of(tree, "staging", bad) is not None
        assert len(tree.names("policies/barred", f"{loop.model}/*.yaml")) == 2


@pytest.mark.parametrize(("name", "said"), [("b" * 12, ""), ("b" * 11, "belongs into"), ("notes", "belongs into")])
def test_a_record_bars_whatever_its_file_is_called(loop: Loop, name: str, said: str) -> None:
    """One of another name than records have, or had once, is refused before it is merged, and counts where it was."""
    record = checked(Barred, model=loop.model, version="v1.0.1", digest=digest("b"), metric="f1", reason="bad")
    place = f"policies/barred/{loop.model}/{name}.yaml"
    loop.remote.commit({place: dump(record), f"policies/barred/{loop.model}/README.md": "Records.\n"})
    problems = [str(problem) for problem in checks.barred(loop.remote.work)]
    assert problems == (
        [] if not said else [f"{place}: what it says belongs into {barred_path(loop.model, digest('b'))}"]
    )
    with checkout(loop.settings) as tree:
        assert read_barred(tree, loop.model, digest("b")) == record
        assert read_barred(tree, loop.model, TWIN) is None
    done = bar(loop.settings, loop.model, "v1.0.1", lambda _: digest("b"), "f1", "again")
    assert done.delivered is None, "git says so already, under that name"


def test_records_that_are_none_are_told_and_hold_up_nobody(loop: Loop) -> None:
    good, bad = loop.release("v1.0.0", "a"), loop.release("v1.0.1", "b")
    folder = f"policies/barred/{loop.model}"
    loop.remote.commit({f"{folder}/draft.yaml": "kind: Barred\n", f"{folder}/note.txt": "look\n"})
    (loop.remote.work / folder / "old.yaml").write_bytes(b"\xff\xfe")
    loop.remote.git("add", "--all")
    loop.remote.git("commit", "--quiet", "-m", "bytes")
    loop.remote.git("push", "--quiet", "origin", "main")
    with checkout(loop.settings) as tree:
        assert [name for name, _ in barred_problems(tree)] == [
            f"{folder}/{n}" for n in ("draft.yaml", "note.txt", "old.yaml")
        ]
    for release in (good, bad):
        loop.serve(release)
    loop.minute(good)
    assert loop.served() == good


@pytest.mark.parametrize("name", ["a", "null", "a" + "b" * 38 + "c"])
def test_names_at_the_edge_of_what_is_legal(loop: Loop, name: str) -> None:
    here = Loop(loop.remote, loop.settings, loop.registry, name)
    good, bad = here.release("v1.0.0", "a"), here.release("v1.0.1", "b")
    policy = (loop.remote.work / f"policies/promotion/{loop.model}.yaml").read_text()
    loop.remote.commit({f"policies/promotion/{name}.yaml": policy.replace(loop.model, f'"{name}"')})
    for release in (good, bad):
        here.serve(release)
    here.minute(good)
    assert (here.served(), here.barred()) == (good, ["b" * 12])
    with checkout(loop.settings) as tree:
        record = read_barred(tree, name, digest("b"))
    assert record is not None
    assert record.model == name


def test_git_is_run_where_a_hook_of_git_runs(loop: Loop, tmp_path: Path) -> None:
    """What git sets for a hook is of the repository that it runs for."""
    listed = subprocess.run(
        ["git", "rev-parse", "--local-env-vars"], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout.split()
    kept = {name for name in listed if not name.startswith("GIT_CONFIG")} - programs._GIT_PLACES
    assert kept <= {"GIT_IMPLICIT_WORK_TREE", "GIT_NO_REPLACE_OBJECTS", "GIT_INTERNAL_SUPER_PREFIX"}
    assert os.environ.get("GIT_DIR") is None
