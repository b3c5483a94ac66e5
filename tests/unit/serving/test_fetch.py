"""F9, F10 and F18: what is not exactly the release is refused, and nothing partial is ever left to be loaded."""

import errno
import random
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundles import make_keys, sign, state
from plumbline.core import dsse
from plumbline.core.artifact import ArtifactError
from plumbline.core.release import parse_release, read_release
from plumbline.core.store import FILES, StoreError, open_bundle
from plumbline.serving.artifact import fetch


@pytest.fixture
def obtain(settings_of):
    def run(bundle, folder=None, **artifact):
        settings = settings_of(bundle)
        if folder is not None:
            artifact["uri"] = folder.as_uri()
        release = read_release(bundle.release(settings.release, **artifact))
        return fetch.obtain(release, settings, bundle.keys.public.read_bytes(), lambda _: None)

    return run


@pytest.fixture
def copy(bundles, tmp_path):
    return Path(shutil.copytree(bundles["binary"].folder, tmp_path / "copy"))


def test_a_good_artifact_is_copied_verified_and_used_again(bundles, obtain, copy):
    folder, schema = obtain(bundles["binary"], copy)
    kept = folder.parent
    assert kept.name == f"{bundles['binary'].digest.removeprefix('sha256:')}-v1.0.0"
    assert schema == bundles["binary"].schema
    shutil.rmtree(copy)  # a restarted pod needs no source
    assert obtain(bundles["binary"], copy) == (folder, schema)
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_a_cached_artifact_that_changed_is_fetched_again(bundles, obtain, copy):
    folder, _ = obtain(bundles["binary"], copy)
    (folder / "model.onnx").write_bytes(b"other")
    again, _ = obtain(bundles["binary"], copy)
    assert (again / "model.onnx").read_bytes() == (copy / "model.onnx").read_bytes()


def test_201_of_201_tampered_artifacts_are_refused(bundles, obtain, copy):
    """200 changes of one byte over the three files, and one file removed."""
    good = {name: (copy / name).read_bytes() for name in FILES}
    chooser, refused = random.Random(9), 0
    for index in range(200):
        name = FILES[index % 3]
        data = bytearray(good[name])
        # In the signature file, what is signed and the signature itself: white space of its JSON says nothing.
        low, high = (0, len(data)) if name != "model.sig" else _signed_part(good[name], chooser)
        data[chooser.randrange(low, high)] ^= 1 << chooser.randrange(8)
        (copy / name).write_bytes(data)
        refused += _refused(obtain, bundles["binary"], copy)
        (copy / name).write_bytes(good[name])
    (copy / "model.sig").unlink()
    refused += _refused(obtain, bundles["binary"], copy)
    (copy / "model.sig").write_bytes(good["model.sig"])
    assert refused == 201
    assert obtain(bundles["binary"], copy)


def test_what_somebody_puts_beside_a_bundle_is_never_read(bundles, obtain, copy):
    """Files are asked for by name: one more stops no pod, and reaches none."""
    for name in ("model.pkl", "extra.py", ".hidden", "sub/model.onnx"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"x")
    folder, _ = obtain(bundles["binary"], copy)
    assert sorted(path.name for path in folder.rglob("*")) == sorted(FILES)


def _signed_part(signature: bytes, chooser: random.Random) -> tuple[int, int]:
    """Where a value of base64 stands, without its last characters: they hold bits that decode to nothing."""
    before = re.search(rb'"%b"\s*:\s*"' % chooser.choice([b"payload", b"sig"]), signature)
    assert before is not None
    start = before.end()
    return start, signature.index(b'"', start) - 4


def _refused(obtain, bundle, folder) -> bool:
    with pytest.raises(ArtifactError):
        obtain(bundle, folder)
    return True


def test_an_artifact_of_another_key_schema_or_model_is_refused(bundles, obtain, copy, tmp_path):
    bundle = bundles["binary"]
    with pytest.raises(ArtifactError, match=r"schema\.json hashes to"):
        obtain(bundle, copy, schemaDigest="sha256:" + "1" * 64)
    with pytest.raises(ArtifactError, match="the release names"):
        obtain(bundle, copy, digest="sha256:" + "1" * 64)
    sign(copy, make_keys(tmp_path / "foreign"))
    with pytest.raises(ArtifactError, match="not made with a key"):
        obtain(bundle, copy)


EDITS = {
    "spec.version": (r"version: v1\.0\.0", "version: v1.0.1"),
    "spec.threshold": (r"threshold: 0\.4", "threshold: 0.01"),
    "spec.lineage.registryVersion": (r"registryVersion: '1'", "registryVersion: '2'"),
    "spec.lineage.run": (r"run: '0{32}'", "run: '" + "1" * 32 + "'"),
    "spec.lineage.code": (r"code: '0{40}'", "code: '" + "1" * 40 + "'"),
    "spec.lineage.data": (r"data: sha256:0{64}", "data: sha256:" + "1" * 64),
}


@pytest.mark.parametrize("field", EDITS)
def test_what_git_says_otherwise_than_was_signed_is_refused_by_name(bundles, settings_of, copy, field):
    """release.yaml edited by hand: the bytes are those that were signed, what is said of them is not."""
    bundle, settings = bundles["binary"], settings_of(bundles["binary"])
    path = bundle.release(settings.release, uri=copy.as_uri())
    text, count = re.subn(*EDITS[field], path.read_text(), count=1)
    assert count == 1
    if field == "spec.version":
        (copy / "v1.0.0.json").rename(copy / "v1.0.1.json")
    with pytest.raises(ArtifactError, match=rf"which was signed: {re.escape(field)} is [^;]*$"):
        fetch.obtain(parse_release(text), settings, bundle.keys.public.read_bytes(), lambda _: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stated: stated.update(predicateType="https://plumbline.dev/approval/v1"), "states something else"),
        (lambda stated: stated["subject"].append({"name": "another"}), "is of something else than it says"),
        (lambda stated: stated.pop("predicate"), "states nothing"),
        (lambda stated: stated["predicate"].update(threshold=0.4), "states nothing"),
        (lambda stated: stated["predicate"].pop("threshold"), r"spec\.threshold is 0\.4, registered none"),
    ],
)
def test_a_statement_of_something_else_is_refused(bundles, obtain, copy, monkeypatch, change, message):
    """Signed by the right key, for another purpose or of another version."""

    def seal(stated, key):
        change(stated)
        return dsse.seal(stated, key)

    monkeypatch.setattr("bundles.seal", seal)
    with pytest.raises(ArtifactError, match=message):
        obtain(bundles["binary"], copy)


def test_a_version_of_which_nothing_was_signed_is_refused(bundles, settings_of, copy, tmp_path):
    bundle, settings = bundles["binary"], settings_of(bundles["binary"])
    release = read_release(bundle.release(settings.release, uri=copy.as_uri()))
    statement = state(release, copy, make_keys(tmp_path / "foreign"))
    for content, message in ((statement.read_text(), "not made with a key"), ("{", "is no JSON"), ("", "is no JSON")):
        statement.write_text(content)
        with pytest.raises(ArtifactError, match=rf"^v1\.0\.0\.json .*{message}"):
            fetch.obtain(release, settings, bundle.keys.public.read_bytes(), lambda _: None)
    statement.unlink()
    with pytest.raises(ArtifactError, match=r"the artifact lacks v1\.0\.0\.json"):
        fetch.obtain(release, settings, bundle.keys.public.read_bytes(), lambda _: None)


def test_a_larger_artifact_than_allowed_is_refused(bundles, obtain, copy, settings_of, monkeypatch):
    monkeypatch.setenv("SERVING_MAX_ARTIFACT_BYTES", "100")
    with pytest.raises(ArtifactError, match="SERVING_MAX_ARTIFACT_BYTES"):
        obtain(bundles["binary"], copy)
    assert not list(settings_of(bundles["binary"]).cache_dir.iterdir())


def test_links_are_refused(bundles, obtain, copy):
    (copy / "model.onnx").unlink()
    (copy / "model.onnx").symlink_to("/etc/passwd")
    with pytest.raises(ArtifactError, match="no plain file"):
        obtain(bundles["binary"], copy)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file:///nowhere/at/all", "no such folder"),
        ("file://host/path", "expected file:///"),
    ],
)
def test_a_source_that_cannot_be_read_is_worth_another_try(bundles, obtain, uri, message):
    with pytest.raises(StoreError, match=message):
        obtain(bundles["binary"], uri=uri)


def test_a_full_disk_leaves_nothing(bundles, obtain, copy, settings_of, monkeypatch):
    """F18: the error is the system's own, and the cache holds no partial model."""
    cache = settings_of(bundles["binary"]).cache_dir

    @contextmanager
    def full(uri, timeout):
        with open_bundle(uri, timeout) as bundle:

            def read(name):
                yield next(bundle.read(name))[:10]
                raise OSError(errno.ENOSPC, "No space left on device")

            yield type("Full", (), {"read": staticmethod(read)})()

    monkeypatch.setattr(fetch, "open_bundle", full)
    with pytest.raises(OSError, match="No space left"):
        obtain(bundles["binary"], copy)
    assert not list(cache.iterdir())
    monkeypatch.undo()
    assert obtain(bundles["binary"], copy)
