"""A key is rotated and taken back by commands, and a server that runs the while is never without one that it needs."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from plumbline.core.artifact import ArtifactError
from plumbline.core.dsse import read_public_keys, seal
from plumbline.core.errors import Refused
from plumbline.core.stated import facts_of, statement_of
from plumbline.core.store import StoreError
from plumbline.promotion.cli import app
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.promote import promote
from plumbline.promotion.gate.gate import Request
from plumbline.promotion.registry import keys
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.register import register
from plumbline.promotion.registry.signing import generate_keys
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings
from plumbline.serving.artifact.fetch import obtain
from plumbline.serving.settings import Settings as Serving

from .conftest import IMAGE, Recipe, Remote

Log = Callable[[Recipe], str]


def test_a_key_is_rotated_and_taken_back_by_commands(
    registered: Callable[..., Version],
    log_run: Log,
    registry: Registry,
    settings: Settings,
    remote: Remote,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    believed = tmp_path / "believed.pub"
    believed.write_bytes(settings.public_pem())
    private, public = generate_keys(tmp_path / "next")

    monkeypatch.setenv("PROMOTION_REPO", remote.url)
    monkeypatch.setenv("PROMOTION_PUBLIC_KEY", str(believed))

    def command(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == code, done.output
        return done.output

    def objection(number: int) -> str:
        """Why a new pod does not load what staging serves; empty where it does."""
        cache = tmp_path / f"cache-{number}"
        serving = Serving(release=tmp_path / "release.yaml", public_key=believed, cache_dir=cache)
        try:
            obtain(remote.release("staging", model), serving, believed.read_bytes(), lambda _: None)
        except ArtifactError as error:
            return str(error)
        return ""

    first = registered()
    promote(registry, settings, Request(model, "v1.0.0", "staging", IMAGE), "commit")
    (old,) = [line.split()[0] for line in command("keys").splitlines() if f"staging: {model} v1.0.0" in line]
    assert "is its only key" in command("remove-key", old[:12], code=10)
    assert command("add-key", str(public)) == command("add-key", str(public)), "again it changes nothing"
    assert objection(1) == ""
    assert f"alone signed what is served, staging: {model} v1.0.0" in command("remove-key", old[:12], code=10)
    assert objection(2) == "", "refused, nothing was changed"

    after = settings.model_copy(update={"public_key": believed, "signing_key": private})
    run = log_run(Recipe(model, seed=1, tags={"data.digest": "sha256:" + "e" * 64}))
    second = register(registry, after, run).version
    promote(registry, after, Request(model, str(second.semver), "staging", IMAGE), "commit")
    assert first.digest != second.digest
    assert objection(3) == ""
    assert command("remove-key", old[:12]) == ""
    assert objection(4) == ""
    assert old not in command("keys")

    # A thief has the new one: it goes though it is in use, and what is lost is said.
    _, third = generate_keys(tmp_path / "third")
    command("add-key", str(third))
    (stolen,) = [line.split()[0] for line in command("keys").splitlines() if f"staging: {model}" in line]
    said = command("remove-key", stolen, "--stolen")
    assert f"no new pod loads it: staging: {model} {second.semver}" in said
    assert "not made with a key that is trusted here" in objection(5)
    assert "none of these" in command("keys", code=10)


def test_a_pod_needs_the_key_of_the_statement_too(
    registered: Callable[..., Version],
    registry: Registry,
    settings: Settings,
    remote: Remote,
    model: str,
    tmp_path: Path,
) -> None:
    """A registration that died after it signed the bytes, and went on after a rotation."""
    version = registered()
    promote(registry, settings, Request(model, "v1.0.0", "staging", IMAGE), "commit")
    remote.pull()
    believed, (private, public) = tmp_path / "believed.pub", generate_keys(tmp_path / "next")
    believed.write_bytes(settings.public_pem())
    old, new = keys.add(believed, public)
    place = Path(urlsplit(version.released).path) / "v1.0.0.json"
    statement = statement_of(facts_of(place.read_bytes(), settings.public_pem()))
    place.unlink()
    place.write_text(json.dumps(seal(statement, private.read_bytes())))
    tree = Checkout(remote.work, settings)
    served = f"staging: {model} v1.0.0"
    assert keys.uses(tree, believed.read_bytes()) == {old: [served], new: [f"{served}, its statement"]}
    for key in (old, new):
        with pytest.raises(Refused, match=f"alone signed what is served, {served}"):
            keys.remove(tree, believed, key, stolen=False)
    place.parent.rename(place.parent.with_name("away"))
    with pytest.raises(StoreError):
        keys.remove(tree, believed, old, stolen=False)
    (lost,) = keys.remove(tree, believed, old, stolen=True)
    assert lost.startswith("what it alone signed is unknown (")
    assert list(read_public_keys(believed.read_bytes())) == [new]
