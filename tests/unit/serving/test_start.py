"""A server that can't load stays alive and says why; what may pass by itself is tried again."""

import asyncio
import shutil

import pytest
from prometheus_client import generate_latest

from bundles import make_keys
from plumbline.core.artifact import ArtifactError, verify_artifact


def series(server):
    return generate_latest(server.metrics.registry).decode()


async def health(client, server):
    answers = [await client.get(path) for path in ("/health/live", "/health/ready")]
    return [*answers, series(server), await client.post("/v1/predict", json={"features": {}})]


def refused(answers, reason):
    live, ready, metrics, predicted = answers
    assert live.status_code == 200
    assert ready.status_code == predicted.status_code == 503
    assert ready.headers["retry-after"] == "1"
    assert ready.json()["detail"].startswith(f"{reason}: ")
    assert f'reason="{reason}"' in metrics
    return ready.json()["detail"]


def test_a_tampered_model_is_not_served(serve, bundles, tmp_path):
    keys = make_keys(tmp_path / "foreign")
    assert "not made with a key" in refused(serve(bundles["binary"], health, public_key=keys.public), "tampered")


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot be read"), ("kind: Release", "apiVersion"), ("kind: [", "YAML")]
)
def test_a_broken_release_is_named(serve, bundles, tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    if text is not None:
        path.write_text(text)
    assert message in refused(serve(bundles["binary"], health, release=path), "release")


def test_a_missing_public_key_is_named(serve, bundles, tmp_path):
    assert "SERVING_PUBLIC_KEY" in refused(serve(bundles["binary"], health, public_key=tmp_path / "no"), "release")


def test_a_public_key_that_is_none_is_named_and_the_cached_model_stays(serve, bundles, tmp_path):
    async def cached(_, server):
        assert server.ready

    serve(bundles["binary"], cached)
    broken = tmp_path / "key.pem"
    broken.write_text("-----BEGIN PUBLIC KEY-----\nbm8=\n-----END PUBLIC KEY-----\n")
    detail = refused(serve(bundles["binary"], health, public_key=broken), "release")
    assert "SERVING_PUBLIC_KEY: the public key is not PEM" in detail
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"dsseEnvelope":{"payloadType":1,"payload":"","signatures":[{"sig":""}]}}', "not a signature bundle"),
        (b'{"n":' + b"1" * 5000 + b"}", "not a signature bundle"),
        (None, "is a folder, expected a file"),
    ],
)
def test_whatever_stands_in_the_signatures_place_is_tampered_by_name(bundles, tmp_path, content, message):
    folder = shutil.copytree(bundles["binary"].folder, tmp_path / "copy", ignore=shutil.ignore_patterns("v*"))
    signature = folder / "model.sig"
    signature.unlink()
    signature.mkdir() if content is None else signature.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"^model\.sig .*{message}"):
        verify_artifact(folder, bundles["binary"].digest, bundles["binary"].keys.public.read_bytes())


def test_a_cache_that_cannot_be_written_is_said_and_tried_again(serve, bundles, tmp_path, monkeypatch):
    """F18: a read-only or full cache is a reason, not a crash; once there is room the server becomes ready."""
    monkeypatch.setattr("plumbline.serving.server._RETRY_SECONDS", (0.05,))
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")

    async def use(client, server):
        answers = await health(client, server)
        blocked.unlink()
        for _ in range(200):
            if server.ready:
                break
            await asyncio.sleep(0.02)
        return answers, await client.get("/health/ready")

    answers, later = serve(bundles["binary"], use, cache_dir=blocked)
    refused(answers, "disk")
    assert later.status_code == 200


def test_a_source_that_comes_back_is_fetched(serve, bundles, tmp_path, monkeypatch):
    monkeypatch.setattr("plumbline.serving.server._RETRY_SECONDS", (0.05,))
    bundle, moved, path = bundles["regression"], tmp_path / "moved", tmp_path / "away.yaml"
    bundle.release(path)
    shutil.move(bundle.folder, moved)

    async def use(client, server):
        answers = await health(client, server)
        shutil.move(moved, bundle.folder)
        for _ in range(200):
            if server.ready:
                break
            await asyncio.sleep(0.02)
        return answers, await client.get("/health/ready")

    answers, later = serve(_Placed(bundle), use, release=path)
    refused(answers, "fetch")
    assert later.status_code == 200


class _Placed:
    """A bundle whose release stands already."""

    def __init__(self, bundle):
        self.keys = bundle.keys

    def release(self, path):
        return path


def test_an_unforeseen_failure_leaves_the_process_alive(serve, bundles, monkeypatch):
    monkeypatch.setattr("plumbline.serving.server.load_model", lambda *_: 1 / 0)
    assert "division" in refused(serve(bundles["binary"], health), "error")
