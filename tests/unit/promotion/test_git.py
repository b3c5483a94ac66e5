"""A push that is not taken: what is a race, what is the server's no, and what is an accident."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plumbline.core import programs
from plumbline.core.errors import Accident, PlumblineError, Refused
from plumbline.promotion.delivery.git import Change, Checkout, LostRace, checkout, commit_and_push
from plumbline.promotion.settings import Settings


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A bare repository with one commit."""
    bare, work = tmp_path / "remote.git", tmp_path / "work"
    person = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for command in (
        ("init", "-q", "--bare", "-b", "main", str(bare)),
        ("clone", "-q", str(bare), str(work)),
        ("-C", str(work), *person, "commit", "-q", "--allow-empty", "-m", "first"),
        ("-C", str(work), "push", "-q", "origin", "HEAD:main"),
    ):
        assert programs.git(*command).code == 0
    return bare


@pytest.fixture
def tree(remote: Path) -> Iterator[Checkout]:
    with checkout(Settings(repo=str(remote))) as clone:
        yield clone


def change() -> Change:
    return Change({"file": f"{time.monotonic_ns()}\n"}, "a change")


def hook(remote: Path, text: str) -> None:
    path = remote / "hooks/pre-receive"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def locked(remote: Path, _: pytest.MonkeyPatch) -> None:
    (remote / "refs/heads/main.lock").touch()


def declined(remote: Path, _: pytest.MonkeyPatch) -> None:
    hook(remote, "echo main is protected >&2; exit 1")


def broken(remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver breaks off, as a full disk or a proxy would make it."""
    receiver = remote.parent / "receiver"
    receiver.write_text("#!/bin/sh\necho 'fatal: no space left on device' >&2; exit 128\n")
    receiver.chmod(0o755)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "remote.origin.receivepack")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(receiver))


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (locked, Accident, r"took no push in 2 tries.*main\.lock"),
        (declined, Refused, "git refused the push to main: .*main is protected"),
        (broken, Accident, "the push to main failed: .*no space left on device"),
    ],
)
def test_a_push_that_is_not_taken_says_why(
    tree: Checkout,
    remote: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path, pytest.MonkeyPatch], None],
    kind: type[PlumblineError],
    message: str,
) -> None:
    spoil(remote, monkeypatch)
    with pytest.raises(kind, match=f"(?s){message}") as error:
        commit_and_push(tree, 2, change)
    assert type(error.value) is kind
    assert programs.git("rev-list", "--count", "main", cwd=remote).text == "1\n"


def test_a_push_that_lost_is_made_anew_on_what_won(tree: Checkout, remote: Path) -> None:
    with checkout(Settings(repo=str(remote))) as other:
        other.commit(Change({"other": "text\n"}, "faster"))
        other.push("main")
    tree.commit(change())
    with pytest.raises(LostRace):
        tree.push("main")
    tree.refresh()
    assert commit_and_push(tree, 1, change) == programs.git("rev-parse", "main", cwd=remote).text.strip()
    assert programs.git("log", "--format=%s", "main", cwd=remote).text.split("\n")[:3] == [
        "a change",
        "faster",
        "first",
    ]


def test_a_push_whose_answer_was_lost_is_done(tree: Checkout, remote: Path) -> None:
    hook(remote, "exit 0")
    # The server takes the commit; the client hears of it as a failure.
    (remote / "hooks/post-receive").write_text("#!/bin/sh\nkill -9 $PPID\n")
    (remote / "hooks/post-receive").chmod(0o755)
    assert commit_and_push(tree, 1, change) == programs.git("rev-parse", "main", cwd=remote).text.strip()
