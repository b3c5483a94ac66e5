"""release.yaml as types, versions, and the two verifiers of a signature held to one verdict."""

import base64
import json
import shutil

import pytest

from bundles import make_bundle, make_keys
from plumbline.core.artifact import ArtifactError, digest_of, verify_artifact
from plumbline.core.documents import DocumentError
from plumbline.core.dsse import PublicKeyError
from plumbline.core.names import SemVer
from plumbline.core.release import parse_release, read_release


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def original(tmp_path_factory, keys):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "m", keys, "regression")


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original.folder, tmp_path / "m", ignore=shutil.ignore_patterns("v*"))


def test_a_release_reads_back(original, tmp_path):
    release = read_release(original.release(tmp_path / "release.yaml"))
    assert release.model == "delays-regression"
    assert release.spec.artifact.digest == original.digest
    assert release.spec.threshold is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("plumbline.dev/v1", "plumbline.dev/v2", "apiVersion"),
        ("name: delays-regression", "name: Delays", r"metadata\.name"),
        ("v1.0.0", "1.0", r"spec\.version"),
        ("digest: sha256:", "digest: md5:", r"spec\.artifact\.digest"),
        ("uri: file:", "uri: http:", r"spec\.artifact\.uri"),
        ("threshold: null", "threshold: 1.5", r"spec\.threshold"),
        ("@sha256:", ":latest", r"spec\.image"),
        ("threshold: null", "treshold: null", r"spec\.treshold"),
        ("kind: Release", "kind: Release\nkind: Release", "stands twice"),
        ("kind: Release", "kind: [", "not readable as YAML"),
    ],
)
def test_a_wrong_release_names_the_field(original, tmp_path, old, new, message):
    text = original.release(tmp_path / "release.yaml").read_text()
    assert old in text
    with pytest.raises(DocumentError, match=message):
        parse_release(text.replace(old, new))


def test_a_missing_release_names_its_path(tmp_path):
    with pytest.raises(DocumentError, match=r"none\.yaml"):
        read_release(tmp_path / "none.yaml")


def test_versions_are_ordered_by_number():
    texts = ["v0.9.9", "v0.10.0", "v1.0.0", "v1.0.10", "v1.2.0"]
    assert sorted(map(SemVer.parse, reversed(texts))) == [SemVer.parse(text) for text in texts]
    assert str(SemVer.parse("v1.2.3")) == "v1.2.3"


@pytest.mark.parametrize("text", ["1.0.0", "v1.0", "v01.0.0", "v1.0.0-rc1", "v1.0.0\n"])
def test_no_other_text_is_a_version(text):
    with pytest.raises(ValueError, match=r"v1\.2\.3"):
        SemVer.parse(text)


def test_the_digest_is_that_of_sha256sum(folder, original):
    import hashlib

    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in ("model.onnx", "schema.json")]
    assert digest_of(folder) == original.digest == "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_signature_is_not_part_of_the_digest(folder, original):
    (folder / "model.sig").unlink()
    assert digest_of(folder) == original.digest


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no files"):
        digest_of(tmp_path)


def edit_signature(folder, edit):
    document = json.loads((folder / "model.sig").read_text())
    edit(document["dsseEnvelope"])
    (folder / "model.sig").write_text(json.dumps(document))


def change_payload(envelope):
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["predicate"]["resources"][0]["digest"] = "0" * 64
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


FAULTS = {
    "none": lambda _: None,
    "model changed": lambda folder: (folder / "model.onnx").write_bytes(b"x"),
    "file added": lambda folder: (folder / "more.txt").write_text("x"),
    "file removed": lambda folder: (folder / "schema.json").unlink(),
    "file renamed": lambda folder: (folder / "schema.json").rename(folder / "s.json"),
    "payload changed": lambda folder: edit_signature(folder, change_payload),
    "type changed": lambda folder: edit_signature(folder, lambda e: e.update(payloadType="text/plain")),
    "signature cut": lambda folder: edit_signature(folder, lambda e: e["signatures"].clear()),
    "not base64": lambda folder: edit_signature(folder, lambda e: e.update(payload="%%%")),
    "not json": lambda folder: (folder / "model.sig").write_text("{"),
    "signature missing": lambda folder: (folder / "model.sig").unlink(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_ours_and_the_tools_verifier_agree(folder, keys, fault):
    """The digest is taken after the fault, so that the signature alone must find it."""
    FAULTS[fault](folder)
    assert _ours(folder, keys) == _tools(folder, keys) == (fault == "none")


def _ours(folder, keys) -> bool:
    try:
        verify_artifact(folder, digest_of(folder), keys.public.read_bytes())
    except ArtifactError:
        return False
    return True


def _tools(folder, keys) -> bool:
    from model_signing import verifying

    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=keys.public)
        config.verify(folder, folder / "model.sig")
    except Exception:
        return False
    return True


def test_another_key_is_refused(folder, tmp_path):
    with pytest.raises(ArtifactError, match="not made with a key that is trusted"):
        verify_artifact(folder, digest_of(folder), make_keys(tmp_path / "k").public.read_bytes())


def test_a_key_of_another_kind_is_refused(folder):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    public = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(PublicKeyError, match="ECDSA P-256"):
        verify_artifact(folder, digest_of(folder), pem)
