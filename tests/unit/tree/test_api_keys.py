"""The command that makes callers' keys, and the file that the servers read."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from plumbline.core.errors import Misuse
from plumbline.serving.http.keys import read_keys
from plumbline.tree.api_keys import retire

ROOT = Path(__file__).parents[3]


def make(file: Path, *arguments: str | Path, expect: int = 0) -> str:
    """What the command prints."""
    command: list[str | Path] = [ROOT / ".venv/bin/plumbline", "tree", "api-key", "web", "--file", file, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return (done.stderr if expect else done.stdout).strip()


def test_a_key_is_made_rotated_and_retired(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    first = make(file, "--owner", "web@example.org", "--rate", "200", "--model", "flights", "--role", "tester")
    known = read_keys(file).find(first.encode())
    assert known is not None
    caller = known.caller
    assert (caller.name, caller.owner, caller.rate) == ("web", "web@example.org", 200)
    assert (caller.models, caller.roles) == (("flights",), ("tester",))
    assert known.expires is not None
    assert abs(known.expires - datetime.now(UTC).date() - timedelta(days=365)) <= timedelta(days=1)
    assert first not in file.read_text()

    second = make(file, "--days", "30")
    both = read_keys(file)
    assert all((found := both.find(key.encode())) and found.caller.name == "web" for key in (first, second))
    assert "two keys" in make(file, expect=2)

    assert make(file, "--retire") == ""
    after = read_keys(file)
    assert after.find(first.encode()) is None
    last = after.find(second.encode())
    assert last is not None
    assert last.caller.former == (caller.sha256,)
    assert last.caller.model_dump(exclude={"sha256", "expires", "former"}) == caller.model_dump(
        exclude={"sha256", "expires", "former"}
    )
    assert last.expires is not None
    assert last.expires < known.expires


def test_what_is_asked_wrongly_is_said_in_a_line_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    assert "keys.0.rate" in make(file, expect=2)
    assert "roles" in make(file, "--rate", "5", "--role", "king", expect=2)
    assert not file.exists()
    make(file, "--rate", "5")
    text = file.read_text()
    assert "expected no rate" in make(file, "--rate", "6", expect=2)
    assert "no second key" in make(file, "--retire", expect=2)
    assert file.read_text() == text
    file.write_bytes(b"\xff\xfe")
    assert str(file) in make(file, "--rate", "5", expect=2)


@pytest.mark.parametrize("text", ["", "keys: []", yaml.safe_dump({"keys": [{"name": "web"}]})])
def test_nothing_is_retired_of_a_file_that_has_it_not(text: str) -> None:
    with pytest.raises(Misuse):
        retire(text, "web")
