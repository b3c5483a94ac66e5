"""F11: twenty poisoned requests and commits. All are refused with the reason, and git stays as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from plumbline.core.artifact import digest_of
from plumbline.core.errors import Accident, Misuse, Refused
from plumbline.core.release import parse_release
from plumbline.promotion.delivery.documents import Barred, barred_path, dump
from plumbline.promotion.delivery.promote import Outcome, promote
from plumbline.promotion.gate.audit import audit
from plumbline.promotion.gate.gate import Request
from plumbline.promotion.registry import register as registration
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.register import register
from plumbline.promotion.registry.signing import generate_keys
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings

from .conftest import ADA, IMAGE, Recipe, Remote, add_model, log

Bump = Callable[..., Outcome]
Make = Callable[..., Version]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "v9.9.9"}, "has no version v9.9.9; registered: v1.0.0"),
        ({"version": "latest"}, "version: 'latest' is not one"),
        ({"version": "v1.0.0/../../../policies"}, "version: .* is not one"),
        ({"model": "../../policies/promotion"}, "model: .* is not one"),
        ({"model": "toy' or name != 'x"}, "model: .* is not one"),
        ({"environment": "staging/../production"}, "environment: .* is not one"),
        ({"environment": "moon"}, "clusters/moon/ is not in git"),
        ({"image": "ghcr.io/plumbline/model-server:latest"}, "no legal release: image: "),
        ({"image": "docker.io/evil/model-server@sha256:" + "a" * 64}, "image: docker.io/evil/model-server"),
    ],
)
def test_poisoned_requests(
    standing: Version, registry: Registry, settings: Settings, remote: Remote, change: Any, said: str
) -> None:
    add_model(remote, standing.model)
    before = remote.log()
    asked = {"model": standing.model, "version": "v1.0.0", "environment": "staging", "image": IMAGE, **change}
    with pytest.raises((Misuse, Refused), match=said):
        promote(registry, settings, Request(**asked), "commit")
    assert remote.log() == before


def _overwrite(client: MlflowClient, run: str, name: str, folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Somebody with write access to the run replaces one of its files."""
    path = Path(client.download_artifacts(run, name, str(folder)))
    path.write_bytes(change(path.read_bytes()))
    client.log_artifact(run, str(path), str(Path(name).parent))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("bundle/model.onnx", lambda old: old.replace(b"skl2onnx", b"skl2onnX", 1), "signature: the artifact hashes"),
        ("bundle/model.sig", lambda _: b"{}", "digest and signature: model.sig"),
        (
            "bundle/schema.json",
            lambda old: old.replace(b"Speed.", b"Haste."),
            "digest and signature: the artifact hashes",
        ),
        ("evaluation/report.json", lambda old: old.replace(b'"high":', b'"high":1'), "evaluation/ hashes"),
        ("evaluation/card.yaml", lambda old: old + b"more: text\n", "digest and signature: evaluation/ hashes"),
    ],
)
def test_tampered_artifacts(
    registered: Make,
    bump: Bump,
    client: MlflowClient,
    remote: Remote,
    tmp_path: Path,
    name: str,
    change: Any,
    said: str,
) -> None:
    version = registered()
    _overwrite(client, version.run, name, tmp_path, change)
    before = remote.log()
    with pytest.raises(Refused, match=said):
        bump("v1.0.0")
    assert remote.log() == before


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("threshold", "0.0"),
        ("data.digest", "sha256:" + "1" * 64),
        ("code.commit", "1" * 40),
        ("code.dirty", "false"),
        ("schema.digest", "sha256:" + "1" * 64),
        ("workflow", "one-of-mine"),
    ],
)
def test_tags_that_were_changed_after_registration(
    registered: Make, bump: Bump, client: MlflowClient, remote: Remote, tag: str, value: str
) -> None:
    """They would be in git as what the model was made from, or how it answers."""
    version = registered(tags={"code.dirty": "true"})
    client.set_model_version_tag(version.model, version.number, tag, value)
    before = remote.log()
    with pytest.raises(Refused, match=f"changed what was registered: {tag} is '{value}'"):
        bump("v1.0.0")
    assert remote.log() == before


def test_a_digest_in_a_comment_was_not_served(
    registered: Make, bump: Bump, client: MlflowClient, remote: Remote, model: str
) -> None:
    """Nor is what a tag alone says: git must have named it in its place."""
    registered()
    bump("v1.0.0")
    second = registered(seed=1, tags={"data.digest": "sha256:" + "e" * 64})
    path = f"clusters/staging/models/{model}/release.yaml"
    remote.pull()
    text = (remote.work / path).read_text()
    remote.commit({path: f"{text}# digest: {second.digest}\n"})
    remote.commit({path: text})
    client.set_model_version_tag(model, second.number, "proved.staging", IMAGE)
    with pytest.raises(Refused, match="served in staging first: no"):
        bump(str(second.semver), "production")


def test_tags_of_people_are_theirs(registered: Make, bump: Bump, client: MlflowClient) -> None:
    version = registered()
    client.set_model_version_tag(version.model, version.number, "looked at by", "Ada")
    assert bump("v1.0.0").commit


def test_an_evaluation_that_was_replaced_with_the_tag_that_names_it(
    registered: Make,
    bump: Bump,
    client: MlflowClient,
    registry: Registry,
    settings: Settings,
    remote: Remote,
    tmp_path: Path,
) -> None:
    """Before the gate, and after it: then the audit of the commit that it allowed finds it."""
    version = registered()
    bump("v1.0.0")
    _overwrite(client, version.run, "evaluation/card.yaml", tmp_path, lambda old: old + b"more: text\n")
    forged = digest_of(Path(client.download_artifacts(version.run, "evaluation", str(tmp_path))))
    client.set_model_version_tag(version.model, version.number, "evaluation.digest", forged)
    remote.pull()
    (problem,), _ = audit(registry, settings, remote.work)
    assert f"changed what was registered: evaluation.digest is '{forged}'" in problem
    remote.commit({f"clusters/staging/models/{version.model}/release.yaml": None})
    with pytest.raises(Refused, match=r"changed what was registered: evaluation\.digest"):
        bump("v1.0.0", again="it was deleted")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: b"{}", "is not a signature bundle"),
        (lambda _: b"[" * 100_000, "is no JSON"),
        (lambda old: old.replace(b'"payload": "', b'"payload": "e30K'), "not made with a key that is trusted here"),
        (lambda old: old.replace(b"in-toto", b"in-tote"), "is no in-toto statement"),
    ],
)
def test_statements_that_are_none(
    registered: Make, bump: Bump, client: MlflowClient, tmp_path: Path, change: Any, said: str
) -> None:
    version = registered()
    _overwrite(client, version.run, "attestation/registration.json", tmp_path, change)
    with pytest.raises(Refused, match=said):
        bump("v1.0.0")


def test_the_statement_of_another_version(registered: Make, bump: Bump, client: MlflowClient, tmp_path: Path) -> None:
    """A good signature, of something else; and none at all."""
    one, other = registered(), registered(seed=1, tags={"data.digest": "sha256:" + "e" * 64})
    path = client.download_artifacts(one.run, "attestation/registration.json", str(tmp_path))
    client.log_artifact(other.run, path, "attestation")
    with pytest.raises(Refused, match="changed what was registered"):
        bump(str(other.semver))
    signature = client.download_artifacts(other.run, "bundle/model.sig", str(tmp_path))
    client.log_artifact(other.run, signature, "attestation")
    (tmp_path / "registration.json").write_text(json.dumps(json.loads(Path(signature).read_bytes())["dsseEnvelope"]))
    client.log_artifact(other.run, str(tmp_path / "registration.json"), "attestation")
    with pytest.raises(Refused, match="states something else: 'https://model_signing"):
        bump(str(other.semver))


def test_a_version_that_nobody_attested(
    registered: Make, bump: Bump, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "attest", lambda *_: None)
    registered()
    with pytest.raises(Refused, match=r"attestation/registration\.json of run .* is missing"):
        bump("v1.0.0")


def test_a_key_is_rotated_without_an_outage(
    registered: Make, bump: Bump, settings: Settings, registry: Registry, remote: Remote, model: str, tmp_path: Path
) -> None:
    """The new one is believed beside the old one; once the old one is not, nothing that it signed is promoted."""
    registered()
    private, public = generate_keys(tmp_path / "next")
    both = tmp_path / "both.pem"
    both.write_bytes(settings.public_pem() + public.read_bytes())
    run = log(registry.client, Recipe(model, seed=1, tags={"data.digest": "sha256:" + "e" * 64}), tmp_path / "second")
    during = settings.model_copy(update={"public_key": both, "signing_key": private})
    second = register(registry, during, run).version
    for version in ("v1.0.0", str(second.semver)):
        assert promote(registry, during, Request(model, version, "staging", IMAGE), "commit").commit
    after = settings.model_copy(update={"public_key": public})
    assert audit(registry, after, remote.work)[0] == [], "what is served was signed with the new key"
    with pytest.raises(Refused, match="not made with a key that is trusted here"):
        promote(registry, after, Request(model, "v1.0.0", "staging", IMAGE, again="back"), "commit")


def test_a_file_that_was_added(registered: Make, bump: Bump, client: MlflowClient, tmp_path: Path) -> None:
    version = registered()
    (tmp_path / "weights.bin").write_bytes(b"more")
    client.log_artifact(version.run, str(tmp_path / "weights.bin"), "bundle")
    with pytest.raises(Refused, match=r"bundle/: unexpected \['weights.bin'\]"):
        bump("v1.0.0")


def test_another_keys_signature(
    standing: Version, registry: Registry, settings: Settings, remote: Remote, tmp_path: Path
) -> None:
    add_model(remote, standing.model)
    _, public = generate_keys(tmp_path / "other")
    with pytest.raises(Refused, match="not made with a key that is trusted here"):
        promote(
            registry,
            settings.model_copy(update={"public_key": public}),
            Request(standing.model, "v1.0.0", "staging", IMAGE),
            "commit",
        )


def test_weights_of_somebody_elses_run(
    registered: Make, bump: Bump, client: MlflowClient, remote: Remote, model: str, tmp_path: Path
) -> None:
    """A version created by hand that wears a good one's tags, but points at other bytes."""
    good = registered()
    other = log(client, Recipe(model, noise=0.9), tmp_path / "evil")
    source = client.get_run(other).info.artifact_uri + "/bundle"
    client.create_model_version(model, source, other, tags={**good.tags, "semver": "v1.0.7"})
    client.create_model_version(model, source, good.run, tags={**good.tags, "semver": "v1.0.8"})
    with pytest.raises(Refused, match="digest and signature"):
        bump("v1.0.7")
    with pytest.raises(Refused, match="as its source, its run has"):
        bump("v1.0.8")
    client.create_model_version(model, source, other, tags={"semver": "v1.0.9"})
    with pytest.raises(Refused, match=r"has no version v1.0.9"):
        bump("v1.0.9")


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("policies/promotion/{model}.yaml", None, "is missing: a model without a gate"),
        ("policies/promotion/{model}.yaml", "kind: Other\n", "{model}.yaml: .*kind"),
        ("clusters/staging/models/{model}/kustomization.yaml", None, "models/{model}/ is not in git: add canary.yaml"),
        ("clusters/staging/models/{model}/release.yaml", "weight: 100\n", "release.yaml: .*weight"),
        ("clusters/staging/models/{model}/release.yaml", "a: [\n", "release.yaml: not readable as YAML"),
    ],
)
def test_git_that_is_not_as_it_should_be(
    standing: Version,
    registry: Registry,
    settings: Settings,
    remote: Remote,
    path: str,
    text: str | None,
    said: str,
) -> None:
    add_model(remote, standing.model)
    remote.commit({path.format(model=standing.model): text})
    before = remote.log()
    with pytest.raises((Misuse, Refused), match=said.format(model=standing.model)):
        promote(registry, settings, Request(standing.model, "v1.0.0", "staging", IMAGE), "commit")
    assert remote.log() == before


def test_a_link_that_leads_elsewhere(
    standing: Version, registry: Registry, settings: Settings, remote: Remote, tmp_path: Path
) -> None:
    model = standing.model
    add_model(remote, model)
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "kustomization.yaml").touch()
    folder = remote.work / f"clusters/staging/models/{model}"
    remote.git("rm", "-r", "--quiet", str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(target)
    remote.git("add", "--all")
    remote.git("commit", "--quiet", "-m", "a link")
    remote.git("push", "--quiet", "origin", "main")
    with pytest.raises(Refused, match="leads elsewhere"):
        promote(registry, settings, Request(model, "v1.0.0", "staging", IMAGE), "commit")
    assert sorted(path.name for path in target.iterdir()) == ["kustomization.yaml"]


POISON: dict[str, Callable[[str], str]] = {
    "has no version": lambda text: text.replace("version: v1.0.0", "version: v3.0.0"),
    "spec.artifact.digest is sha256:0": lambda text: _set(text, "    digest:", "sha256:" + "0" * 64),
    "spec.artifact.schemaDigest": lambda text: _set(text, "    schemaDigest:", "sha256:" + "0" * 64),
    "spec.artifact.uri": lambda text: _set(text, "    uri:", "s3://evil/bundle"),
    "spec.image: docker.io/evil": lambda text: text.replace("ghcr.io/plumbline", "docker.io/evil"),
    "spec.threshold is 0.01": lambda text: text.replace("threshold: 0.5", "threshold: 0.01"),
    "spec.lineage.run": lambda text: _set(text, "    run:", "0" * 32),
    "has no report": lambda text: _set(text, "    gate:", "sha256:" + "0" * 64),
    "of whom there is no approval of this release": lambda text: text.replace('approvedBy: ""', "approvedBy: Ada"),
    "the report is of something else": lambda text: text.replace("model-server@sha256:a", "model-server@sha256:b"),
    "spec.weight": lambda text: text + "  weight: 100\n",
}


def _set(text: str, key: str, value: str) -> str:
    lines = [f"{key} {value}" if line.startswith(key) else line for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def test_commits_that_did_not_come_through_the_gate(
    registered: Make, bump: Bump, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    registered()
    bump("v1.0.0")
    remote.pull()
    assert audit(registry, settings, remote.work) == ([], 3), "the policy, the approvers and the release"
    path = remote.work / f"clusters/staging/models/{model}/release.yaml"
    good = path.read_text()
    for said, poison in POISON.items():
        path.write_text(poison(good))
        assert path.read_text() != good
        (problem,), _ = audit(registry, settings, remote.work)
        assert problem.startswith(f"clusters/staging/models/{model}/release.yaml: ")
        assert said in problem
    path.write_text(good)
    records = remote.work / "policies/approvals" / model
    records.mkdir(parents=True)
    (records / "v1.0.0.yaml").write_text("by: Ada\n")
    problems, judged = audit(registry, settings, remote.work)
    assert judged == 4
    assert any("v1.0.0.yaml: is no JSON" in problem for problem in problems)


def test_a_rollback_waits_for_no_registry_and_nothing_new_goes_without_one(
    registered: Make,
    bump: Bump,
    settings: Settings,
    remote: Remote,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered()
    bump("v1.0.0")
    remote.pull()
    path = remote.work / f"clusters/staging/models/{model}/release.yaml"
    good = path.read_text()
    path.write_text(good.replace("v1.0.0", "v1.0.1"))
    remote.git("commit", "--quiet", "--all", "-m", "another by hand")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    warned: list[str] = []
    assert audit(Registry(), settings, remote.work, "HEAD", warned.append)[0] == []
    path.write_text(good)
    assert audit(Registry(), settings, remote.work, "HEAD", warned.append)[0] == [], "as the commit before had it"
    assert [line.partition(":")[0] for line in warned] == [str(path.relative_to(remote.work))] * 2
    for text, since in ((good, ""), (good.replace("v1.0.0", "v1.0.2"), "HEAD")):
        path.write_text(text)
        with pytest.raises(Accident, match=r"127\.0\.0\.1:9"):
            audit(Registry(), settings, remote.work, since)


def test_commits_of_records_and_places(
    standing: Version, registry: Registry, settings: Settings, remote: Remote
) -> None:
    """Records are read where they belong; a release stands only where a policy lets it."""
    add_model(remote, standing.model)
    promote(registry, settings, Request(standing.model, "v1.0.0", "staging", IMAGE), "commit")
    remote.pull()
    text = (remote.work / f"clusters/staging/models/{standing.model}/release.yaml").read_text()
    facts = {"model": standing.model, "version": "v1.0.0", "digest": standing.digest, "at": "2026-01-02T03:04:05Z"}
    barred = Barred.model_validate(facts | {"metric": "drift", "reason": "seen late"})
    approval, signed = ADA.approval("production", parse_release(text))
    placed = {
        barred_path(standing.model, standing.digest): dump(barred),
        "policies/barred/other/000000000000.yaml": dump(barred),
        "policies/approvals/other/v1.0.0.json": signed,
        f"clusters/moon/models/{standing.model}/release.yaml": text,
    }
    for name, content in placed.items():
        (remote.work / name).parent.mkdir(parents=True, exist_ok=True)
        (remote.work / name).write_text(content)
    found = dict(problem.split(": ", 1) for problem in audit(registry, settings, remote.work)[0])
    assert found == {
        "policies/approvals/other/v1.0.0.json": f"what it says belongs into {approval}, where promotion looks for it",
        "policies/barred/other/000000000000.yaml": "what it says belongs into "
        f"{barred_path(standing.model, standing.digest)}",
        f"clusters/moon/models/{standing.model}/release.yaml": "the policy of toy-standing has no environment 'moon'",
        f"clusters/staging/models/{standing.model}/release.yaml": "v1.0.0 is barred for drift: seen late",
    }


def test_a_barred_image_and_a_missing_approval_are_no_legal_state(
    standing: Version, registry: Registry, settings: Settings, remote: Remote
) -> None:
    """The image as well as the artifact; and where an environment asks for an approval, none is no pass."""
    add_model(remote, standing.model)
    promote(registry, settings, Request(standing.model, "v1.0.0", "staging", IMAGE), "commit")
    remote.pull()
    staging = f"clusters/staging/models/{standing.model}/release.yaml"
    image = IMAGE.rpartition("@")[2]
    facts = {"model": standing.model, "version": "v1.0.0", "digest": image, "at": "2026-01-02T03:04:05Z"}
    record = remote.work / barred_path(standing.model, image)
    record.parent.mkdir(parents=True)
    record.write_text(dump(Barred.model_validate(facts | {"metric": "p95", "reason": "slow"})))
    (problem,), _ = audit(registry, settings, remote.work)
    assert problem == f"{staging}: v1.0.0 is barred for p95: slow"
    record.write_text(dump(Barred.model_validate(facts | {"metric": "p95", "reason": "slow", "stays": ("staging",)})))
    assert audit(registry, settings, remote.work)[0] == [], "another environment's verdict"
    production = remote.work / f"clusters/production/models/{standing.model}/release.yaml"
    production.write_text((remote.work / staging).read_text())
    problems, _ = audit(registry, settings, remote.work)
    assert any("barred for p95" in problem and "nobody approved v1.0.0" in problem for problem in problems)
