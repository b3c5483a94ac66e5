"""The load: wrk in a closed loop, vegeta at a constant rate with its latencies corrected for coordinated omission.

Servers and their children are held on one core, the load on another, so that neither takes the other's time.
"""

import base64
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import services

from bench.environments import vegeta

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
_SCRIPT = Path(__file__).with_name("wrk.lua")
_CONNECTIONS = 64
"""Of the open loop: a server that falls behind makes requests wait for one of these."""


class LoadError(RuntimeError):
    """A server answered wrongly or not at all under load."""


@dataclass(frozen=True)
class Window:
    """What one measurement of one server gave."""

    rate: float
    """Answers a second."""
    seconds: float
    p50: float
    p95: float
    p99: float
    """Seconds."""


@dataclass(frozen=True)
class Requests:
    """What is sent to one server in one case: bodies in turn."""

    url: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str]


def pinned(core: int, command: Sequence[str | Path]) -> list[str | Path]:
    """A command that runs on one core."""
    return ["taskset", "-c", str(core), *command]


def closed(connections: int, seconds: int, requests: Requests, folder: Path) -> Window:
    """As many requests as are answered, each connection with one on its way."""
    bodies, headers = folder / "bodies", folder / "headers"
    bodies.write_bytes(b"".join(b"%d\n%b" % (len(body), body) for body in requests.bodies))
    headers.write_text("".join(f"{name}: {value}\n" for name, value in requests.headers.items()))
    wrk = services.program("wrk", "apt-get install wrk")
    command: list[str | Path] = [
        wrk,
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "30s",
        "-s",
        _SCRIPT,
        requests.url,
    ]
    done = subprocess.run(
        pinned(LOAD_CORE, [*command, "--", bodies, headers]), check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise LoadError(f"{requests.url}: {found}")
    return Window(found["requests"] / found["seconds"], found["seconds"], found["p50"], found["p95"], found["p99"])


def opened(rate: int, seconds: int, requests: Requests, folder: Path) -> Window:
    """A constant rate; a request's time counts from when it was due, not from when a connection was free for it."""
    headers = {name: [value] for name, value in requests.headers.items()}
    targets = folder / "targets"
    lines = (
        json.dumps({"method": "POST", "url": requests.url, "body": base64.b64encode(body).decode(), "header": headers})
        for body in requests.bodies
    )
    targets.write_text("\n".join(lines) + "\n")
    attack: list[str | Path] = [vegeta(), "attack", "-format", "json", "-targets", targets, "-rate", f"{rate}/s"]
    attack += ["-duration", f"{seconds}s", "-timeout", "60s"]
    attack += ["-workers", str(_CONNECTIONS), "-max-workers", str(_CONNECTIONS), "-connections", str(_CONNECTIONS)]
    results = folder / "results"
    with results.open("wb") as output:
        subprocess.run(pinned(LOAD_CORE, attack), check=True, stdout=output)
    csv = subprocess.run([vegeta(), "encode", "-to", "csv", results], check=True, capture_output=True, text=True).stdout
    rows = [line.split(",") for line in csv.splitlines()]
    if wrong := [row for row in rows if row[1] != "200"]:
        raise LoadError(f"{requests.url}: {len(wrong)} of {len(rows)} failed: {wrong[0][1]} {wrong[0][5]}")
    sent, took, number = (np.array([int(row[column]) for row in rows]) for column in (0, 2, 8))
    due = sent[number.argmin()] + number * (1e9 / rate)
    waited = (np.maximum(sent - due, 0) + took) / 1e9
    p50, p95, p99 = np.quantile(waited, (0.5, 0.95, 0.99))
    lasted = ((sent + took).max() - sent.min()) / 1e9
    return Window(len(rows) / lasted, lasted, float(p50), float(p95), float(p99))
