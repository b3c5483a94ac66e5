"""When the bootstrap goes on waiting, when it is done, and when it gives up."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest

from plumbline.core.documents import parse
from plumbline.core.errors import Misuse
from plumbline.promotion.registry.signing import public_half
from plumbline.serving.http.keys import KeyFile, Role
from plumbline.tree.bootstrap import contents, failure, lacking, up_to_date
from plumbline.tree.kubectl import Kubectl, KubectlError
from plumbline.tree.render.build import environments

ROOT = Path(__file__).parents[3]


def application(sync: str, health: str, phase: str = "Succeeded", message: str = "") -> dict[str, Any]:
    """What Argo CD writes into an Application."""
    operation = {"phase": phase, "message": message}
    return {"status": {"sync": {"status": sync}, "health": {"status": health}, "operationState": operation}}


def test_an_application_is_ready_when_it_is_synced_and_healthy() -> None:
    assert lacking(application("Synced", "Healthy")) == ""
    assert lacking(application("OutOfSync", "Healthy")) == "OutOfSync, Healthy"
    assert lacking(application("Synced", "Progressing")) == "Synced, Progressing"
    assert lacking({}) == "Unknown, Unknown"
    # A canary that waits for a person does not keep a second run from its end.
    assert lacking(application("Synced", "Suspended")) == ""


def test_a_sync_that_is_tried_again_has_not_failed() -> None:
    running = application("OutOfSync", "Missing", "Running", "one or more objects failed to apply. Retrying attempt #2")
    assert failure(running) is None
    assert failure({}) is None
    gave_up = application("OutOfSync", "Missing", "Failed", "one or more objects\nfailed to apply (retried 5 times).")
    assert failure(gave_up) == "one or more objects failed to apply (retried 5 times)."


def test_a_sync_that_failed_before_the_newest_commit_says_nothing_about_it() -> None:
    item = application("OutOfSync", "Missing", "Failed", "refused")
    item["status"]["operationState"]["syncResult"] = {"revision": "old"}
    item["status"]["sync"]["revision"] = "new"
    assert failure(item) is None
    item["status"]["sync"]["revision"] = "old"
    assert failure(item) == "refused"
    assert failure(application("Synced", "Healthy", "Failed", "refused")) is None


def test_an_application_set_is_done_when_it_says_so() -> None:
    assert not up_to_date({})
    condition = {"type": "ResourcesUpToDate", "status": "False"}
    assert not up_to_date({"status": {"conditions": [condition]}})
    assert up_to_date({"status": {"conditions": [condition | {"status": "True"}]}})


def test_kubectl_missing_or_failing_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECTL", str(tmp_path / "absent"))
    with pytest.raises(Misuse, match=r"absent is missing: install kubectl or set KUBECTL$"):
        Kubectl().run("version")
    program = tmp_path / "kubectl"
    program.write_text('#!/bin/sh\necho trace >&2\necho "no such context: $1" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("KUBECTL", str(program))
    with pytest.raises(KubectlError) as error:
        Kubectl("elsewhere").run("get", "secrets", "--all-namespaces", "--output=json")
    assert str(error.value) == "kubectl get secrets --all-namespaces: no such context: --context=elsewhere"


def test_an_unknown_environment_is_refused_with_the_known_ones() -> None:
    command: list[str | Path] = [ROOT / ".venv/bin/plumbline", "tree", "bootstrap", "productoin"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'productoin'" in done.stderr
    assert all(name in done.stderr.splitlines()[-1] for name in environments(ROOT))


def test_a_signing_key_is_made_with_its_public_half() -> None:
    private = {"name": "signing-key", "privateKey": "signing-key.pem"}
    public = {"name": "public-key", "publicHalf": {"of": "signing-key", "key": "signing-key.pub"}}
    known = {"signing-key": contents(private, {})}
    pair = known["signing-key"] | contents(public, known)
    assert public_half(pair["signing-key.pem"]) == pair["signing-key.pub"]
    assert contents(private, {}) != known["signing-key"]
    asked = {"name": "api-keys", "apiKeys": {"of": "api-key", "key": "keys.yaml"}}
    (file,) = contents(asked, {"api-key": {"API_KEY": "the-key-of-a-developer"}}).values()
    assert "the-key-of-a-developer" not in file
    (caller,) = parse(file, KeyFile).keys
    assert caller.sha256 == hashlib.sha256(b"the-key-of-a-developer").hexdigest()
    assert set(caller.roles) == set(get_args(Role))
    plain = contents({"name": "git", "random": ["GIT_TOKEN"], "fixed": {"user": "x"}}, {})
    assert plain["user"] == "x"
    assert len(plain["GIT_TOKEN"]) >= 32
