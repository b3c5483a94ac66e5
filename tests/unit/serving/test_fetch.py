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
from plumbline.serving.artifact import fetch
from plumbline.serving.artifact.sources import FetchError, open_source

FILES = ("model.onnx", "schema.json", "model.sig")


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


def test_203_of_203_tampered_artifacts_are_refused(bundles, obtain, copy, settings_of):
    """200 changes of one byte over the three files, a file added, one removed, and a name that climbs out."""
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
    (copy / "extra.py").write_text("print()")
    refused += _refused(obtain, bundles["binary"], copy)
    (copy / "extra.py").unlink()
    (copy / "model.sig").unlink()
    refused += _refused(obtain, bundles["binary"], copy)
    (copy / "model.sig").write_bytes(good["model.sig"])
    refused += _climbing_name_refused(settings_of(bundles["binary"]).cache_dir.parent)
    assert refused == 203
    assert obtain(bundles["binary"], copy)


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


class Climbing:
    """A source whose listing climbs out of the folder."""

    def __init__(self, name="../model.onnx"):
        self.name = name

    def names(self):
        return ["model.onnx", "schema.json", "model.sig", self.name]

    def read(self, _):
        yield b"x"


def _climbing_name_refused(folder: Path) -> bool:
    target = folder / "incoming"
    target.mkdir()
    with pytest.raises(ArtifactError, match="lists"):
        fetch.download(Climbing(), target, 1000)
    return not list(target.iterdir()) and not (folder / "model.onnx").exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "model.pkl", "code/", "sub/model.onnx", "..", ""])
def test_no_other_name_is_ever_written(tmp_path, name):
    with pytest.raises(ArtifactError, match="lists"):
        fetch.download(Climbing(name), tmp_path, 1000)
    assert not list(tmp_path.iterdir())


def test_an_artifact_of_another_key_schema_or_model_is_refused(bundles, obtain, copy, tmp_path):
    bundle = bundles["binary"]
    with pytest.raises(ArtifactError, match=r"schema\.json hashes to"):
        obtain(bundle, copy, schemaDigest="sha256:" + "1" * 64)
    with pytest.raises(ArtifactError, match="the release names"):
        obtain(bundle, copy, digest="sha256:" + "1" * 64)
    sign(copy, make_keys(tmp_path / "foreign"))
    with pytest.raises(ArtifactError, match="not made with a key"):
        obtain(bundle, copy)


def test_a_larger_artifact_than_allowed_is_refused(bundles, tmp_path, settings_of):
    with (
        open_source(bundles["binary"].folder.as_uri(), settings_of(bundles["binary"])) as source,
        pytest.raises(ArtifactError, match="SERVING_MAX_ARTIFACT_BYTES"),
    ):
        fetch.download(source, tmp_path, 100)


def test_links_are_refused(bundles, obtain, copy):
    (copy / "model.onnx").unlink()
    (copy / "model.onnx").symlink_to("/etc/passwd")
    with pytest.raises(ArtifactError, match="link"):
        obtain(bundles["binary"], copy)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file:///nowhere/at/all", "no such folder"),
        ("file://host/path", "expected file:///"),
        ("mlflow-artifacts:/1/2/artifacts/bundle", "MLFLOW_TRACKING_URI"),
    ],
)
def test_a_source_that_cannot_be_read_is_worth_another_try(bundles, obtain, uri, message):
    with pytest.raises(FetchError, match=message):
        obtain(bundles["binary"], uri=uri)


def test_an_mlflow_path_may_not_climb(bundles, settings_of):
    settings = settings_of(bundles["binary"], MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    with (
        pytest.raises(ArtifactError, match="not a plain path"),
        open_source("mlflow-artifacts:/1/../2", settings),
    ):
        pass


def test_a_full_disk_leaves_nothing(bundles, obtain, copy, settings_of, monkeypatch):
    """F18: the error is the system's own, and the cache holds no partial model."""
    cache = settings_of(bundles["binary"]).cache_dir

    @contextmanager
    def full(uri, settings):
        with open_source(uri, settings) as source:

            def read(name):
                yield next(source.read(name))[:10]
                raise OSError(errno.ENOSPC, "No space left on device")

            yield type("Full", (), {"names": source.names, "read": staticmethod(read)})()

    monkeypatch.setattr(fetch, "open_source", full)
    with pytest.raises(OSError, match="No space left"):
        obtain(bundles["binary"], copy)
    assert not list(cache.iterdir())
    monkeypatch.undo()
    assert obtain(bundles["binary"], copy)
