"""How a request's cost grows with rows, features and trees: CPU of the whole server in process, and of its model alone.

`python -m bench.curves FILE` writes JSON; HTTP and Redis are left out, for they do not grow with the model.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from bench.servers import features, matrix
from bench.subject import FEATURES, TREES, Rows, Subject, boosting
from bundles import make_keys
from plumbline.serving.http.app import create_app
from plumbline.serving.logs import LogBuffer
from plumbline.serving.metrics import Metrics
from plumbline.serving.server import Server
from plumbline.serving.settings import Settings

ROWS = (1, 3, 10, 30, 100, 300, 1000)
WIDTHS = (3, 10, 30, 100, 300)
FORESTS = (10, 30, 100, 300, 1000)
_SECONDS = 0.25


def cost(call: Any) -> float:
    """The median microseconds of CPU of a call."""
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        begun = time.thread_time()
        call()
        times.append((time.thread_time() - begun) * 1e6)
    return round(statistics.median(times), 1)


class InProcess:
    """The whole server but for its sockets."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject = subject
        settings = Settings(
            release=subject.bundle.release(folder / "release.yaml"),
            public_key=subject.bundle.keys.public,
            cache_dir=folder / "cache",
        )
        self.loop = asyncio.new_event_loop()
        self.server = Server(settings, Metrics(), LogBuffer())
        self.app = create_app(self.server, None)
        self.loop.run_until_complete(self._ready())

    async def _ready(self) -> None:
        self.server.start()
        while self.server.engine is None:
            await asyncio.sleep(0.01)

    def ask(self, rows: Rows) -> None:
        """One request; an answer other than 200 raises."""
        one = len(rows) == 1
        body = json.dumps((features if one else matrix)(self.subject, rows)).encode()
        scope = {
            "type": "http", "method": "POST", "path": "/v1/predict" if one else "/v1/predict/batch",
            "headers": [(b"content-type", b"application/json")],
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: MutableMapping[str, Any]) -> None:
            assert message.get("status", 200) == 200, message

        self.call = lambda: self.loop.run_until_complete(self.app(dict(scope), receive, send))

    def point(self, at: int, rows: Rows) -> dict[str, float]:
        """One point of a curve."""
        self.ask(rows)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(self.subject.bundle.folder / "model.onnx", options)
        encoded = {"features": np.array(rows, np.float32)}
        return {"at": at, "server": cost(self.call), "model": cost(lambda: session.run(None, encoded))}


def main() -> None:
    """Measure every curve."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = make_keys(folder / "keys")

        def made(label: str, **size: int) -> InProcess:
            return InProcess(boosting(folder / label, keys, **size), folder / f"{label}-server")

        base = made("base", rows=1000)
        rows = base.subject.rows
        widths = {width: made(f"width-{width}", features=width) for width in WIDTHS if width != FEATURES}
        forests = {trees: made(f"trees-{trees}", trees=trees) for trees in FORESTS if trees != TREES}
        one = {
            "features": widths | {FEATURES: base},
            "trees": forests | {TREES: base},
        }
        curves = {"rows": [base.point(size, rows[:size]) for size in ROWS]}
        for label, points in one.items():
            curves[label] = [server.point(at, server.subject.rows[:1]) for at, server in sorted(points.items())]
    Path(sys.argv[1]).write_text(json.dumps(curves))


if __name__ == "__main__":
    main()
