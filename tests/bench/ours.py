"""The model server with all that production has on: validation, key, limit, cache, metrics, ids and both logs."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import services
import yaml

from bench.environments import SERVING
from bench.servers import HANDLERS, Body, Kind, Start, answered, features, matrix
from bench.subject import Subject

KEY = "a-key-of-the-benchmark-only"
RATE = 50_000
"""Requests a second that the key may make: more than one process reaches, so that the limit is counted, not hit."""
NAME = "plumbline"


def start(redis_url: str, changes: tuple[str, ...] = (), **settings: Any) -> Start:
    """Start it with everything on, but for `changes` of handlers/changed.py and `settings`."""

    def command(folder: Path, subject: Subject, port: int) -> tuple[list[str | Path], Mapping[str, str]]:
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        keys = folder / "keys.yaml"
        keys.write_text(yaml.safe_dump({"keys": [{"name": "bench", "sha256": digest, "rate": RATE}]}))
        environment = {
            "SERVING_RELEASE": str(subject.bundle.release(folder / "release.yaml")),
            "SERVING_PUBLIC_KEY": str(subject.bundle.keys.public),
            "SERVING_CACHE_DIR": str(folder / "cache"),
            "SERVING_PORT": str(port),
            "SERVING_METRICS_PORT": str(services.free_port()),
            "SERVING_REDIS_URL": redis_url,
            "SERVING_API_KEYS_FILE": str(keys),
            # The benchmark has no consumer that reads the stream; how long it may get does not change what it costs.
            "SERVING_STREAM_MAXLEN": "10000",
            "MALLOC_ARENA_MAX": "2",  # as in the image
        } | {name: str(value) for name, value in settings.items()}
        if not changes:
            return [SERVING, "-m", "plumbline", "serve"], environment
        return [SERVING, HANDLERS / "changed.py", *changes], environment

    return command


def kind(
    redis_url: str, name: str = NAME, batch: Body = matrix, changes: tuple[str, ...] = (), **settings: Any
) -> Kind:
    """A kind of server of ours."""
    return Kind(
        name,
        start(redis_url, changes, **settings),
        ("/v1/predict", "/v1/predict/batch"),
        (features, batch),
        answered,
        headers={"x-api-key": KEY},
    )
