"""The real server process, from an environment that holds nothing but its locks."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import services

from bundles import Bundle, Keys, make_bundle, make_keys

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-serving" / "bin" / "python"


class Running:
    """A server process and a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, metrics: str, output: Path) -> None:
        self.process, self.url, self.metrics, self.output = process, url, metrics, output
        self.client = httpx.Client(base_url=url, timeout=10, trust_env=False)

    def wait(self, path: str = "/health/ready", status: int = 200, seconds: float = 30) -> httpx.Response:
        """Until `path` answers with `status`; fails with the server's log."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                response = self.client.get(path)
                if response.status_code == status:
                    return response
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"{path} did not answer {status}; the log:\n{self.log()}")

    def predict(self, **row: Any) -> dict[str, Any]:
        response = self.client.post("/v1/predict", json={"features": row})
        assert response.status_code == 200, response.text
        return response.json()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series of this name whose labels are these."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        text = self.client.get(self.metrics).text
        family = name.removesuffix("_sum")  # of a histogram
        assert f"# TYPE {family} " in text, f"the server has no metric {name}: its sum would always be nothing"
        lines = text.splitlines()
        found = [
            line for line in lines if line.split("{")[0].split()[0] == name and all(item in line for item in wanted)
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def until(self, done: Callable[[], bool], seconds: float = 15) -> None:
        """Wait for something; fails with the server's log."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"it did not happen; the log:\n{self.log()}"
            time.sleep(0.02)

    def log(self) -> str:
        return self.output.read_text()

    def stop(self, seconds: float = 20) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Callable[..., Bundle]:
    """A small signed model of a kind, made once."""
    made: dict[tuple[Any, ...], Bundle] = {}

    def make(kind: Any = "binary", **more: Any) -> Bundle:
        key = (kind, *sorted(more.items()))
        if key not in made:
            made[key] = make_bundle(tmp_path_factory.mktemp("bundles") / kind, keys, kind, **more)
        return made[key]

    return make


@pytest.fixture(scope="session")
def serving_python() -> Path:
    assert PYTHON.exists(), f"{PYTHON} is missing: run `make install`"
    return PYTHON


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, serving_python: Path) -> Callable[..., Any]:
    """Start a server of a release for the time of a `with` block."""

    @contextmanager
    def run(release: Path, keys: Keys, *, wait: bool = True, **settings: Any) -> Iterator[Running]:
        folder, port, metrics = tmp_path_factory.mktemp("server"), services.free_port(), services.free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "SERVING_RELEASE": str(release),
            "SERVING_PUBLIC_KEY": str(keys.public),
            "SERVING_CACHE_DIR": str(folder / "cache"),
            "SERVING_PORT": str(port),
            "SERVING_METRICS_PORT": str(metrics),
            "SERVING_DRAIN_SECONDS": "0",
        } | {name: str(value) for name, value in settings.items()}
        output = folder / "log"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [serving_python, "-m", "plumbline", "serve"],
                cwd=folder,
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        running = Running(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics}/metrics", output)
        try:
            if wait:
                running.wait()
            yield running
        finally:
            running.client.close()
            if process.poll() is None:
                process.kill()
            process.wait(10)

    return run


@pytest.fixture
def serve(start: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Start a server of a bundle."""

    def run(bundle: Bundle, *, artifact: dict[str, str] | None = None, **settings: Any) -> Any:
        return start(bundle.release(tmp_path / "release.yaml", **artifact or {}), bundle.keys, **settings)

    return run
