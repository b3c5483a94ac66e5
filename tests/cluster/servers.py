"""What the releases of these tests serve: the real model server with signed models, and one that fails."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from bundles import make_keys, model_bytes, schema_of, sign
from harness.binaries import CACHE
from harness.images import Image, build_project_image, push
from harness.repositories import ROOT
from release import digest_of

MODEL = "flights"
VERSIONS = ("v1.0.0", "v1.1.0")
_NAME = "ghcr.io/plumbline/model-server"


@dataclass(frozen=True, slots=True)
class Server:
    """An image by digest, and the artifact that its release names."""

    image: str
    uri: str
    digest: str
    schema_digest: str


def real_servers() -> dict[str, Server]:
    """{version: the real server with that version's model}; one image holds them all."""
    models = _models()
    build_project_image(ROOT / "app-src/serving/Dockerfile", f"{_NAME}:built")
    image = f"{_NAME}@{push(Image(f'{_NAME}:with-models', 'with-models', (models,)))}"
    schema = schema_of("binary").model_copy(update={"model": MODEL})
    return {
        version: Server(image, f"file:///models/{version}", digest_of(models / version), schema.digest())
        for version in VERSIONS
    }


def failing_server(share: float, like: Server) -> Server:
    """A stand-in that answers this share of its requests with 500."""
    name = f"{_NAME}-faulty"
    image = f"{name}@{push(Image(f'{name}:test', 'stand-in', build_arguments=(f'FAULTY={share}',)))}"
    return Server(image, like.uri, like.digest, like.schema_digest)


def example() -> dict[str, object]:
    """A request that the model answers."""
    return {field.name: field.example for field in schema_of("binary").fields}


def _models() -> Path:
    """Signed models and their key, made once: signatures are random, so each new one would be a new image."""
    source = hashlib.sha256((ROOT / "tests/bundles.py").read_bytes() + Path(__file__).read_bytes()).hexdigest()[:16]
    folder = CACHE / f"models-{source}" / "models"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        keys = make_keys(partial)
        for seed, version in enumerate(VERSIONS):
            (partial / version).mkdir()
            (partial / version / "model.onnx").write_bytes(model_bytes("binary", seed))
            schema = schema_of("binary").model_copy(update={"model": MODEL})
            (partial / version / "schema.json").write_text(schema.to_json())
            sign(partial / version, keys)
        keys.private.unlink()
        partial.rename(folder)
    return folder
