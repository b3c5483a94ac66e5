"""Artifacts from a real S3 API and from folders, and what hostile or full ones do."""

import os
import shutil
import subprocess

import boto3
import pytest

from plumbline.core.artifact import ArtifactError
from plumbline.core.stated import statement_name
from plumbline.core.store import FILES, StoreError, address, open_bundle

ROW = {"distance": 10.0, "hour": 1, "carrier": "AA"}


def unready(server, text):
    """Wait for the reason that holds `text`; the process is alive all the time."""
    server.wait("/health/live")
    server.until(lambda: text in server.client.get("/health/ready").text)
    assert server.client.get("/health/ready").status_code == 503


def test_from_s3_whatever_stands_beside_it(serve, bundle_of, s3, tmp_path, monkeypatch):
    """The store is asked for four names; a reader that may not list, and one file more, make no difference."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    bundle, uri = bundle_of("binary"), f"s3://{s3.bucket}/models/delays"
    bundle.release(tmp_path / "release.yaml")  # which puts the statement beside the files
    with open_bundle(uri) as store:
        for name in (*FILES, statement_name(bundle.version)):
            store.add(bundle.folder / name)
    boto3.client("s3").put_object(Bucket=s3.bucket, Key="models/delays/extra.pkl", Body=b"x")
    with serve(bundle, artifact={"uri": uri}, **s3.environment) as server:
        assert server.predict(**ROW)
    wrong = s3.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    with serve(bundle, artifact={"uri": uri}, wait=False, **wrong) as server:
        unready(server, "fetch: s3://")
        assert server.metric("serving_model_load_failed_total", reason="fetch") >= 1
    boto3.client("s3").delete_object(Bucket=s3.bucket, Key="models/delays/model.sig")
    with serve(bundle, artifact={"uri": uri}, wait=False, **s3.environment) as server:
        unready(server, "tampered: the artifact lacks model.sig")
    boto3.client("s3").delete_object(Bucket=s3.bucket, Key="models/delays/v1.0.0.json")
    with serve(bundle, artifact={"uri": uri}, wait=False, **s3.environment) as server:
        unready(server, "tampered: the artifact lacks v1.0.0.json")
        assert server.metric("serving_model_load_failed_total", reason="tampered") == 1


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_what_stands_in_a_store_is_never_replaced(kind, s3, tmp_path, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    root = (tmp_path / "releases").as_uri() if kind == "file" else f"s3://{s3.bucket}/releases/"
    uri = address(root, "flights", "sha256:" + "a" * 64)
    assert uri.endswith("/releases/flights/" + "a" * 64)
    file = tmp_path / "model.onnx"
    with open_bundle(uri) as store:
        with pytest.raises((ArtifactError, StoreError), match=r"lacks model\.onnx|no such folder"):
            list(store.read("model.onnx"))
        for text in ("first", "second"):
            file.write_text(text)
            store.add(file)
        assert b"".join(store.read("model.onnx")) == b"first"
        with pytest.raises(ArtifactError, match=r"lacks schema\.json"):
            list(store.read("schema.json"))


def test_a_store_that_is_not_there_is_said(s3, monkeypatch, tmp_path):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "model.onnx").touch()
    for act in (lambda store: list(store.read("model.onnx")), lambda store: store.add(tmp_path / "model.onnx")):
        with (
            pytest.raises(StoreError, match=r"s3://no-such-bucket/x: .*NoSuchBucket"),
            open_bundle("s3://no-such-bucket/x") as store,
        ):
            act(store)


def test_a_tampered_model_stays_unready_with_the_reason(serve, bundle_of, tmp_path):
    bundle = bundle_of("binary")
    copy = shutil.copytree(bundle.folder, tmp_path / "copy")
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    with serve(bundle, artifact={"uri": copy.as_uri()}, wait=False) as server:
        unready(server, "tampered: the artifact hashes to")
        assert server.client.post("/v1/predict", json={"features": ROW}).status_code == 503
        server.until(lambda: "the model can't be served: tampered" in server.log())


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 16 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder]).returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_the_reason_and_leaves_no_partial_model(serve, bundle_of, small_disk):
    """F18; once there is room the server becomes ready by itself."""
    with serve(bundle_of("binary"), wait=False, SERVING_CACHE_DIR=small_disk) as server:
        unready(server, "No space left on device")
        assert not [path for path in small_disk.rglob("*") if path.is_file()]
        subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
        server.wait()
        assert server.predict(**ROW)


def test_a_read_only_disk_is_the_reason(serve, bundle_of, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with serve(bundle_of("binary"), wait=False, SERVING_CACHE_DIR=small_disk) as server:
        unready(server, "Read-only file system")
