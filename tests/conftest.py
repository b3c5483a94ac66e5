"""What holds for every test."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from loopback import Quiet, serving

# What tests start shall hear Ctrl-C, also where they themselves run as a background job of a script, which ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Threads that wait for each other by spinning cost more than they gain where as many tests run as there are cores.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("plumbline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plumbline")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is declared, that a test may break; with the model `flights`, also where a person removed it."""
    from trees import with_model

    from plumbline.tree.render.build import READ

    root = Path(__file__).parents[1]
    for folder in READ:
        if (root / folder).exists():
            shutil.copytree(root / folder, tmp_path / folder)
    with_model(tmp_path, "flights")
    return tmp_path


@dataclass
class Alertmanager:
    """What a receiver of alerts was sent, over HTTP as Alertmanager takes it."""

    url: str = ""
    alerts: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200


@pytest.fixture
def alertmanager() -> Iterator[Alertmanager]:
    """A receiver of alerts at /api/v2/alerts that answers with its `status`."""

    received = Alertmanager()

    class Handler(Quiet):
        def do_POST(self) -> None:
            assert self.path == "/api/v2/alerts"
            received.alerts += json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(received.status)
            self.end_headers()

    with serving(Handler) as received.url:
        yield received
