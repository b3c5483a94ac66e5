"""Other programs end in time, are named where they are missing, and git does what it does for nobody in particular."""

import sys
from pathlib import Path

import pytest

from plumbline.core import programs
from plumbline.core.errors import Accident, Misuse


def test_a_missing_program_is_named() -> None:
    with pytest.raises(Misuse, match="no-such-program is missing"):
        programs.run("no-such-program")


def test_a_program_that_does_not_end_is_an_accident() -> None:
    with pytest.raises(Accident, match=r"python.*no end after 0\.3 s"):
        programs.run(sys.executable, "-c", "import time; time.sleep(30)", seconds=0.3)


def test_bytes_that_are_no_text_stop_nobody() -> None:
    done = programs.run(sys.executable, "-c", r"import sys; sys.stdout.buffer.write(b'a\xffb')")
    assert (done.stdout, done.text) == (b"a\xffb", "a\ufffdb")


@pytest.mark.parametrize(
    "settings",
    [
        {"commit.gpgSign": "true"},
        {"core.hooksPath": "{hooks}"},
        {"core.autocrlf": "true", "core.safecrlf": "true"},
        {"color.ui": "always", "log.showSignature": "true", "diff.noprefix": "true"},
    ],
    ids=str,
)
def test_a_persons_settings_and_surroundings_do_not_reach_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    hook = tmp_path / "hooks/commit-msg"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    lines = [f"[{key.split('.')[0]}]\n{key.split('.')[1]} = {value}" for key, value in settings.items()]
    (tmp_path / "config").write_text("\n".join(lines).replace("{hooks}", str(hook.parent)))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    work, person = tmp_path / "work", ("-c", "user.name=a", "-c", "user.email=a@b")
    assert programs.git("init", "-q", str(work)).code == 0
    (work / "file").write_bytes(b"one\ntwo\r\n")
    for command in (("add", "file"), (*person, "commit", "-qm", "first")):
        done = programs.git(*command, cwd=work)
        assert done.code == 0, done.error
    assert programs.git("show", "HEAD:file", cwd=work).stdout == b"one\ntwo\r\n"
    (work / "file").write_text("one\n")
    assert "diff --git a/file b/file" in programs.git("diff", cwd=work).text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fatal: https://ada:secret@forge/x.git", "fatal: https://***@forge/x.git"),
        ("ssh://git@forge/x.git and https://t@forge", "ssh://***@forge/x.git and https://***@forge"),
        ("/srv/git/x.git mail ada@forge", "/srv/git/x.git mail ada@forge"),
    ],
)
def test_credentials_are_hidden(text: str, shown: str) -> None:
    assert programs.run(sys.executable, "-c", f"import sys; sys.stderr.write({text!r})").error == shown
