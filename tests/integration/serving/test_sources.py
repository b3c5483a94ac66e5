"""Artifacts from a real S3 API and a real MLflow server with sign-in, and what hostile or full ones do."""

import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest

from plumbline.serving.artifact.sources import FetchError, open_source
from plumbline.serving.settings import Settings

FILES = ("model.onnx", "schema.json", "model.sig")
ROW = {"distance": 10.0, "hour": 1, "carrier": "AA"}


def unready(server, text):
    """Wait for the reason that holds `text`; the process is alive all the time."""
    server.wait("/health/live")
    server.until(lambda: text in server.client.get("/health/ready").text)
    assert server.client.get("/health/ready").status_code == 503


def test_from_s3_and_a_file_added_there_is_refused(serve, bundle_of, s3):
    bundle = bundle_of("binary")
    client = boto3.client(
        "s3",
        endpoint_url=s3.url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name="us-east-1",
    )
    for name in FILES:
        client.upload_file(str(bundle.folder / name), s3.bucket, f"models/delays/{name}")
    artifact = {"uri": f"s3://{s3.bucket}/models/delays"}
    with serve(bundle, artifact=artifact, **s3.environment) as server:
        assert server.predict(**ROW)
    client.put_object(Bucket=s3.bucket, Key="models/delays/extra.pkl", Body=b"x")
    with serve(bundle, artifact=artifact, wait=False, **s3.environment) as server:
        unready(server, "extra.pkl")
        assert server.metric("serving_model_load_failed_total", reason="tampered") == 1
    with serve(bundle, artifact=artifact, wait=False, **s3.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}) as server:
        unready(server, "fetch: s3://")


def test_from_mlflow_with_sign_in_alone(serve, bundle_of, mlflow_server):
    """F20: the proxied artifacts of MLflow, by the user of the release; nobody else is let in."""
    bundle = bundle_of("binary")
    environment = mlflow_server.environment
    base = f"{mlflow_server.url}/api/2.0"
    with httpx.Client(auth=(mlflow_server.username, mlflow_server.password), timeout=60, trust_env=False) as client:
        created = client.post(f"{base}/mlflow/experiments/create", json={"name": "serving/fetch"})
        experiment = created.raise_for_status().json()["experiment_id"]
        run = client.post(f"{base}/mlflow/runs/create", json={"experiment_id": experiment}).raise_for_status().json()
        root = run["run"]["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/") + "/bundle"
        for name in FILES:
            data = (bundle.folder / name).read_bytes()
            client.put(f"{base}/mlflow-artifacts/artifacts/{root}/{name}", content=data).raise_for_status()
    artifact = {"uri": f"mlflow-artifacts:/{root}"}
    with serve(bundle, artifact=artifact, **environment) as server:
        assert server.predict(**ROW)
        assert mlflow_server.password not in server.log()
    with serve(bundle, artifact=artifact, wait=False, **environment | {"MLFLOW_TRACKING_PASSWORD": "wrong"}) as server:
        unready(server, "error '401 Unauthorized'")
        assert server.metric("serving_model_load_failed_total", reason="fetch") >= 1


def test_listings_and_bytes_are_those_of_the_store(bundle_of, s3, mlflow_server, monkeypatch, tmp_path):
    """The same sources seen from inside, with what each says when it fails."""
    bundle = bundle_of("regression")
    for name, value in (s3.environment | mlflow_server.environment).items():
        monkeypatch.setenv(name, value)
    settings = Settings(release=tmp_path, public_key=tmp_path)
    store = boto3.client("s3")
    for name in FILES:
        store.upload_file(str(bundle.folder / name), s3.bucket, f"inside/{name}")
    with open_source(f"s3://{s3.bucket}/inside/", settings) as source:
        assert sorted(source.names()) == sorted(FILES)
        assert b"".join(source.read("model.onnx")) == (bundle.folder / "model.onnx").read_bytes()
    with pytest.raises(FetchError, match="NoSuchBucket"), open_source("s3://no-such-bucket/x", settings) as source:
        source.names()
    with (
        pytest.raises(FetchError, match=mlflow_server.url),
        open_source("mlflow-artifacts:/none/artifacts/x", settings) as source,
    ):
        list(source.read("model.onnx"))
    base = f"{mlflow_server.url}/api/2.0/mlflow-artifacts/artifacts"
    with httpx.Client(auth=(mlflow_server.username, mlflow_server.password), timeout=60, trust_env=False) as client:
        made = client.post(f"{mlflow_server.url}/api/2.0/mlflow/experiments/create", json={"name": "serving/inside"})
        root = f"{made.raise_for_status().json()['experiment_id']}/{'a' * 32}/artifacts/bundle"
        client.put(f"{base}/{root}/schema.json", content=b"{}").raise_for_status()
        client.put(f"{base}/{root}/sub/more", content=b"{}").raise_for_status()
    with open_source(f"mlflow-artifacts:/{root}", settings) as source:
        assert sorted(source.names()) == ["schema.json", "sub/"]
        assert b"".join(source.read("schema.json")) == b"{}"


class Hostile(BaseHTTPRequestHandler):
    """An artifact server that lists a path outside the folder."""

    listed = "../../escaped"

    def do_GET(self):
        path = parse_qs(urlsplit(self.path).query).get("path")
        files = [{"path": name, "is_dir": False} for name in (*FILES, self.listed)]
        body = json.dumps({"files": files}).encode() if path else b"x"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def hostile():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_path_that_climbs_out_of_the_folder_is_refused(serve, bundle_of):
    with (
        hostile() as url,
        serve(
            bundle_of("binary"),
            artifact={"uri": "mlflow-artifacts:/1/2/artifacts/bundle"},
            wait=False,
            MLFLOW_TRACKING_URI=url,
        ) as server,
    ):
        unready(server, "../../escaped")
        cache = server.output.parent / "cache"
        assert not list(cache.iterdir())
        assert not list(server.output.parent.parent.glob("escaped"))
        assert server.metric("serving_model_load_failed_total", reason="tampered") == 1


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
