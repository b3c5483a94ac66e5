"""Twenty promotions at once and people's commits in between: each is pushed or refused, none is lost, none is mixed."""

import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plumbline.core.errors import Refused
from plumbline.promotion.delivery.promote import promote
from plumbline.promotion.gate.gate import Request
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.register import register
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings

from .conftest import IMAGE, Recipe, Remote, add_model

MODELS, VERSIONS = 5, 4


def test_twenty_at_once(
    log_run: Callable[[Recipe], str], registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    models = [f"{model}-{index}" for index in range(MODELS)]
    versions: list[Version] = []
    for name in models:
        add_model(remote, name)
        versions += [
            register(
                registry, settings, log_run(Recipe(name, tags={"data.digest": f"sha256:{index:064d}"}, seed=index))
            ).version
            for index in range(VERSIONS)
        ]
    assert len(versions) == 20
    before = set(remote.log())

    def attempt(version: Version) -> str:
        request = Request(version.model, str(version.semver), "staging", IMAGE)
        try:
            return promote(registry, settings, request, "commit").commit
        except Refused as refusal:
            return str(refusal)

    with ThreadPoolExecutor(21) as pool:
        racing = [pool.submit(attempt, version) for version in versions]
        by_hand = pool.submit(_commit_by_hand, remote)
        outcomes = dict(
            zip([(item.model, str(item.semver)) for item in versions], [f.result() for f in racing], strict=True)
        )
        by_hand.result()
    pushed = {key: answer for key, answer in outcomes.items() if re.fullmatch("[0-9a-f]{40}", answer)}
    assert len(outcomes) == 20, "20 of 20 accounted for"
    assert all("moves forward" in answer for key, answer in outcomes.items() if key not in pushed), "older, and late"
    # Every commit that was reported is in main, says what it changed, and changed nothing else.
    remote.pull()
    history = set(remote.git("log", "--format=%H").split())
    for (name, semver), commit in pushed.items():
        assert commit in history
        folder = f"clusters/staging/models/{name}"
        changed = [f"{folder}/evidence.yaml", f"{folder}/release.yaml"]
        assert remote.git("show", "--format=", "--name-only", commit).split() == changed
        assert remote.git("log", "-1", "--format=%s", commit).strip().endswith(f"→ {semver}")
    titles = [title for title in remote.log() if title not in before]
    assert len(titles) == len(pushed) + 5, "one commit each, and the five by hand"
    # Each file is one version whole: its digest, run and number are those that the registry has together.
    for name in models:
        spec = remote.release("staging", name).spec
        version = registry.find(name, spec.version)
        assert (spec.artifact.digest, spec.lineage.run, spec.lineage.registryVersion, spec.artifact.uri) == (
            version.digest,
            version.run,
            version.number,
            version.released,
        )
        newest = max((item for item in pushed if item[0] == name), key=lambda item: item[1])
        assert spec.version == newest[1] == "v1.0.3", "the newest always wins: nothing that is newer refuses it"
    assert (remote.work / "notes/4.md").exists(), "people's commits are there"


def _commit_by_hand(remote: Remote) -> None:
    """Five commits of a person, who pulls and tries again when somebody was faster."""
    for index in range(5):
        while True:
            try:
                remote.commit({f"notes/{index}.md": "a person was here\n"})
                break
            except subprocess.CalledProcessError:
                continue


def test_a_branch_that_takes_no_push_is_said_at_once(
    registered: Callable[..., Version], registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    registered()
    hook = Path(remote.url) / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho main is protected >&2\nexit 1\n")
    hook.chmod(0o755)
    before = remote.log()
    with pytest.raises(Refused, match=r"git refused the push to main: .*main is protected"):
        promote(registry, settings, Request(model, "v1.0.0", "staging", IMAGE), "commit")
    assert remote.log() == before
