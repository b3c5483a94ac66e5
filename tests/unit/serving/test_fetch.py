"""F9, F10 and F18: what is not exactly the release is refused, and nothing partial is ever left to be loaded."""

import errno
import random
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundles import make_keys, sign
from plumbline.core.artifact import ArtifactError
from plumbline.core.release import read_release
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
    assert folder.name == bundles["binary"].digest.removeprefix("sha256:")
    assert schema == bundles["binary"].schema
    shutil.rmtree(copy)  # a restarted pod needs no source
    assert obtain(bundles["binary"], copy) == (folder, schema)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


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
