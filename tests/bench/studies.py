"""What is measured of this server alone: its features, its cache, its start, several of its processes."""

import os
import signal
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import redis

from bench import ours
from bench.environments import SERVING
from bench.load import LOAD_CORE, SERVER_CORE, Window, closed, pinned
from bench.rounds import measure
from bench.servers import HANDLERS, PEERS, Kind, Running, in_binary, post, running
from bench.subject import Subject

BASE = "everything on"
# What is taken out, and how: a change of handlers/changed.py, or a setting.
_WITHOUT = {
    "validation": ("validation",),
    "API key": ("key",),
    "rate limit": ("rate limit",),
    "cache look-up": ("cache look-up",),
    "metrics": ("metrics",),
    "request id": ("request id",),
    "prediction log": ("prediction log",),
}
_ALL = tuple(change for changes in _WITHOUT.values() for change in changes)


def without_features(redis_url: str) -> list[Kind]:
    """The server as it is, without each of its features, and with what it decided against."""
    quiet: dict[str, Any] = {"SERVING_ACCESS_LOG": "false"}
    return [
        ours.kind(redis_url, BASE),
        *(ours.kind(redis_url, name, changes=changes) for name, changes in _WITHOUT.items()),
        ours.kind(redis_url, "access log", **quiet),
        ours.kind(redis_url, "all of these", changes=_ALL, **quiet),
        ours.kind(redis_url, "cache, against its decision", changes=("cache decision",)),
        ours.kind(redis_url, "batching, against its decision", changes=("inline",)),
    ]


def features(redis_url: str, subject: Subject, folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of CPU that each feature costs a request of one row, each switched alone."""
    with ExitStack() as stack:
        servers = start(stack, without_features(redis_url), subject, folder)
        found = measure(servers, "one", partial(closed, 16, 1), rounds, folder)
    base = found.pop(BASE)
    shown = {BASE: {"cpu_us": statistics.median(base.cpu), "ratio": 1.0}}
    for name, series in found.items():
        costs = [mine - theirs for mine, theirs in zip(base.cpu, series.cpu, strict=True)]
        if "against" in name:  # put in, not taken out
            costs = [-cost for cost in costs]
        shown[name] = {"cpu_us": statistics.median(costs), "ratio": series.over(base)}
    return shown


def binary(redis_url: str, subject: Subject, folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """100 rows as binary tensors of the Open Inference Protocol, 16 callers: this server and the peers that take them.

    Of the peers KServe does: MLServer reads JSON alone, the others do not speak the protocol.
    """
    kinds = [in_binary(ours.kind(redis_url)), *(in_binary(kind) for kind in PEERS if kind.name.startswith("KServe"))]
    with ExitStack() as stack:
        servers = start(stack, kinds, subject, folder)
        found = measure(servers, "many", partial(closed, 16, 1), rounds, folder)
        for server in servers:
            server.check(subject)
    return {name: series.summary(found[kinds[-1].name]) for name, series in found.items()}


def cache(
    redis_url: str, subjects: dict[str, Subject], folder: Path, rounds: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Each model with the cache as the server decides and without it: p50 and throughput of one caller."""
    shown: dict[str, dict[str, dict[str, Any]]] = {}
    for name, subject in subjects.items():
        kinds = [ours.kind(redis_url, "on"), ours.kind(redis_url, "off", SERVING_CACHE_SECONDS=0)]
        kinds = [replace(kind, checked=False) for kind in kinds]
        with ExitStack() as stack:
            servers = start(stack, kinds, subject, folder / name.replace(" ", "-"))
            shown[name] = {"decision": models(servers[0])["runtime"]}
            for inputs, low, high in (("never repeated", 0, len(subject.rows)), ("always repeated", 0, 8)):
                found = measure(servers, "one", _slices(low, high, rounds * len(servers)), rounds, folder)
                shown[name][inputs] = {key: series.summary(found["off"]) for key, series in found.items()}
    return shown


def _slices(low: int, high: int, windows: int) -> Callable[..., Window]:
    """A closed loop of one caller; each window has its own part of the bodies if there are enough of them."""
    taken = iter(range(10**9))
    size = max(8, (high - low) // windows)

    def how(requests: Any, folder: Path) -> Window:
        begin = low + (next(taken) * size) % max(1, high - low - size + 1)
        return closed(1, 1, replace(requests, bodies=requests.bodies[begin : begin + size]), folder)

    return how


def redis_lost(redis_url: str, subject: Subject, folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """One caller's latency while Redis answers, and while it hangs and the breaker is open; for a model it caches."""
    store = redis.Redis.from_url(redis_url)
    process = int(store.info("server")["process_id"])
    with ExitStack() as stack:
        (server,) = start(stack, [replace(ours.kind(redis_url), checked=False)], subject, folder / "lost")
        how = _slices(0, len(subject.rows), 2 * rounds)
        before = measure([server], "one", how, rounds, folder)[ours.NAME]
        os.kill(process, signal.SIGSTOP)
        try:
            end = time.monotonic() + 20
            while metric(server, "serving_redis_breaker_state") == 0:
                post(server.requests["one"], server.requests["one"].bodies[int(time.monotonic() * 1e3) % 100])
                if time.monotonic() > end:
                    raise TimeoutError("the breaker did not open")
            during = measure([server], "one", how, rounds, folder)[ours.NAME]
        finally:
            os.kill(process, signal.SIGCONT)
    return {"Redis answers": before.summary(before), "Redis hangs": during.summary(before)}


def pods(redis_url: str, subject: Subject, folder: Path, rounds: int) -> list[dict[str, float]]:
    """1, 2 and 4 processes, spread over the cores, each with callers of its own that use the same cores."""
    shown = []
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                running(ours.kind(redis_url), subject, folder / f"pod-{number}", (SERVER_CORE, LOAD_CORE)[number % 2])
            )
            for number in range(4)
        ]
        for count in (1, 2, 4):
            results = [_together(servers[:count], folder) for _ in range(rounds)]
            shown.append(
                {
                    "pods": count,
                    "rate": statistics.median(rate for rate, _ in results),
                    "cpu_us": statistics.median(cpu for _, cpu in results),
                }
            )
    return shown


def _together(servers: Sequence[Running], folder: Path) -> tuple[float, float]:
    before = sum(server.cpu() for server in servers)
    with ThreadPoolExecutor(len(servers)) as pool:
        windows = list(
            pool.map(
                lambda item: closed(16, 1, item[1].requests["one"], _made(folder / f"load-{item[0]}")),
                enumerate(servers),
            )
        )
    cpu = sum(server.cpu() for server in servers) - before
    return sum(window.rate for window in windows), cpu / sum(w.rate * w.seconds for w in windows) * 1e6


def starts(redis_url: str, subject: Subject, folder: Path, rounds: int) -> dict[str, Any]:
    """From the process to the first right answer, by the server's own steps; and memory, by what was imported."""
    ready, steps, memory = [], [], []
    for number in range(rounds):
        with running(ours.kind(redis_url), subject, folder / f"start-{number}") as server:
            ready.append(server.ready)
            time.sleep(1)  # Redis' client is imported when the server is ready
            memory.append(server.memory())
            steps.append(_labelled(server, "serving_start_seconds", "step"))
    code = [SERVING, HANDLERS / "memory.py", subject.bundle.folder]
    shown = subprocess.run(pinned(SERVER_CORE, code), check=True, capture_output=True, text=True).stdout
    return {
        "ready_s": statistics.median(ready),
        "steps_s": {name: statistics.median(step[name] for step in steps) for name in steps[0]},
        "memory_mb": statistics.median(memory),
        "memory_after_mb": orjson.loads(shown),
    }


def start(stack: ExitStack, kinds: Sequence[Kind], subject: Subject, folder: Path) -> list[Running]:
    """Start servers one after another and check their answers."""
    servers = []
    for kind in kinds:
        server = stack.enter_context(running(kind, subject, folder / kind.name.replace(" ", "-")))
        server.check(subject)
        servers.append(server)
    return servers


def models(server: Running) -> dict[str, Any]:
    """What the server says of its model."""
    return orjson.loads(_get(server, "/v1/models"))["models"][0]  # type: ignore[no-any-return]


def metric(server: Running, name: str) -> float:
    """The sum of a metric's series."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in _series(server, name))


def _labelled(server: Running, name: str, label: str) -> dict[str, float]:
    return {
        line.partition(f'{label}="')[2].partition('"')[0]: float(line.rsplit(" ", 1)[1])
        for line in _series(server, name)
    }


def _series(server: Running, name: str) -> list[str]:
    environment = Path(f"/proc/{server.pid}/environ").read_text().split("\0")
    (port,) = (item.partition("=")[2] for item in environment if item.startswith("SERVING_METRICS_PORT="))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return [line for line in answer.read().decode().splitlines() if line.startswith(name + "{")]


def _get(server: Running, path: str) -> bytes:
    asked = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers={"x-api-key": ours.KEY})
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - loopback
        return answer.read()  # type: ignore[no-any-return]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
