"""A real Prometheus on loopback that holds the history a test gives it."""

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services import answers_http, free_port, process

sys.path.append(str(Path(__file__).parent / "cluster"))

from harness.binaries import binaries


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    address: str

    def query(self, promql: str, at: float) -> list[float]:
        """The values of an instant query, as Argo Rollouts gets them."""
        return [value for _, value in self.labelled(promql, at)]

    def labelled(self, promql: str, at: float) -> list[tuple[dict[str, str], float]]:
        """Its series, each with its labels."""
        query = urllib.parse.urlencode({"query": promql, "time": at})
        url = f"{self.address}/api/v1/query?{query}"
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - loopback
            return [(item["metric"], float(item["value"][1])) for item in json.load(response)["data"]["result"]]


@contextmanager
def prometheus(folder: Path, history: str, config: str = "") -> Iterator[Prometheus]:
    """Hold these samples: the OpenMetrics text format with timestamps; and scrape by a configuration.

    Programs are built where there are none.
    """
    programs = binaries("prometheus")
    (folder / "history.txt").write_text(history)
    (folder / "prometheus.yml").write_text(config)
    blocks = [str(programs["promtool"]), "tsdb", "create-blocks-from", "openmetrics", "history.txt", "data"]
    subprocess.run(blocks, cwd=folder, check=True, capture_output=True)
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [programs["prometheus"], f"--web.listen-address={address}"]
    command += [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with process(command, ready=lambda: answers_http(f"http://{address}/-/ready"), log=folder / "prometheus.log"):
        yield Prometheus(f"http://{address}")
