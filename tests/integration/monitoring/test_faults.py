"""Fault F6 for the log: servers and the consumer itself are killed under load; nothing is lost or doubled."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
import redis
import services


@contextmanager
def consuming(log: Any, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`plumbline monitor consume` as a process of its own; killed at the end if it still runs."""
    settings = {
        "MONITORING_REDIS_URL": log.redis_url, "MONITORING_DATABASE_URL": log.dsn, "MONITORING_BATCH_ENTRIES": "20",
        "MONITORING_METRICS_PORT": "0", "MONITORING_CONSUMER": "one", "MONITORING_BACKOFF_SECONDS": "0.5",
    }  # fmt: skip
    command = [sys.executable, "-m", "plumbline", "monitor", "consume"]
    running = subprocess.Popen(command, env=os.environ | settings | environment, stderr=subprocess.PIPE)
    errors: list[bytes] = []
    reader = threading.Thread(target=lambda: errors.extend(running.stderr or ()))
    reader.start()
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        reader.join()
        sys.stderr.write(b"".join(errors[-20:]).decode())


def eventually(condition: Callable[[], bool], *, within: float) -> float:
    """Wait for a condition; returns how long it took."""
    start = time.monotonic()
    while not _holds(condition):
        assert time.monotonic() - start < within, f"not within {within} s"
        time.sleep(0.1)
    return time.monotonic() - start


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except psycopg.Error:  # a server that accepts connections may still be recovering
        return False


def write(log: Any, written: list[str], n: int) -> None:
    """n answers of two rows and a label for each; waits while Redis is away, as a server's buffer does."""
    for _ in range(n):
        identifier = log.new_id()
        _insist(partial(log.predict, id=identifier, rows=2))
        _insist(partial(log.label, f"{identifier}:1"))
        written.append(identifier)
        time.sleep(0.002)


def _insist(add: Callable[[], Any]) -> None:
    while True:
        try:
            add()
            return
        except redis.RedisError:
            time.sleep(0.05)


def all_there_once(log: Any, written: list[str]) -> bool:
    rows = log.query("SELECT id::text, row FROM monitoring.predictions")
    labels = {identifier for (identifier,) in log.query("SELECT DISTINCT id::text FROM monitoring.feedback")}
    assert len(rows) == len(set(rows))
    return {(identifier, row) for identifier in written for row in (0, 1)} == set(rows) and labels == set(written)


@pytest.mark.parametrize("fault", ["postgres", "redis", "consumer"])
def test_nothing_is_lost_or_doubled(fault: str, open_log: Callable[[str, str], Any]) -> None:
    ports = {"redis": services.free_port(), "postgres": services.free_port()}
    with ExitStack() as stack:
        # Apart from pytest's own folder: another run that starts meanwhile closes that to the user `postgres`.
        folder = Path(stack.enter_context(TemporaryDirectory()))
        folders = {name: folder / name for name in ports}
        servers = {
            name: stack.enter_context(getattr(services, name)(folders[name], port=ports[name])) for name in ports
        }
        log = open_log(servers["redis"], servers["postgres"])
        port = services.free_port()
        run = partial(consuming, log, MONITORING_METRICS_PORT=str(port))
        written: list[str] = []
        writer = threading.Thread(target=write, args=(log, written, 400))
        consumer = stack.enter_context(run())
        writer.start()
        eventually(lambda: _stored(log) > 50, within=30)
        if fault == "consumer":
            for _ in range(2):
                time.sleep(random.Random(len(written)).random() / 4)
                consumer.kill()
                consumer.wait()  # the port is free again
                consumer = stack.enter_context(run())
                before = _stored(log)
                eventually(partial(_moved_on, log, before, writer), within=30)
        else:
            _kill(ports[fault])
            time.sleep(2)
            stack.enter_context(getattr(services, fault)(folders[fault], port=ports[fault]))
        writer.join()
        seconds = eventually(lambda: all_there_once(log, written), within=60)
        print(f"{fault}: complete {seconds:.1f} s after the last event")
        if fault != "redis":  # a label may be written twice when Redis dies before it answers: then it is kept twice
            assert log.count("feedback") == len(written)
        assert log.count("dead_letters") == 0
        # The one that was started last may have had nothing left to do: a signal before it runs would just end Python.
        eventually(lambda: services.answers_http(f"http://127.0.0.1:{port}/metrics"), within=30)
        consumer.send_signal(signal.SIGTERM)
        assert consumer.wait(10) == 0
        assert log.redis.xpending("predictions", "monitoring")["pending"] == 0


def _moved_on(log: Any, before: int, writer: threading.Thread) -> bool:
    return _stored(log) > before or not writer.is_alive()


def _stored(log: Any) -> int:
    try:
        return int(log.count("predictions"))
    except psycopg.Error:
        return 0


def _kill(port: int) -> None:
    """SIGKILL to what listens on a port of loopback: the whole server, as a power cut would."""
    listeners = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    pid = int(listeners.split("pid=")[1].split(",")[0])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)  # its parent is this process; a zombie would look alive to the next postmaster


def test_sigterm_finishes_the_batch_and_leaves(log: Any) -> None:
    port = services.free_port()
    with consuming(log, MONITORING_METRICS_PORT=str(port)) as consumer:
        eventually(lambda: services.answers_http(f"http://127.0.0.1:{port}/metrics"), within=30)
        for _ in range(300):
            log.predict()
        consumer.send_signal(signal.SIGTERM)
        assert consumer.wait(10) == 0
    read = log.redis.xinfo_groups("predictions")[0]
    assert read["pending"] == 0  # what was read is stored; the rest waits in Redis
    assert _stored(log) == (read["entries-read"] or 0)


def test_the_metrics_port_tells_lag_and_reconnects(log: Any) -> None:
    port = services.free_port()
    log.redis.xadd("predictions", {"event": "poison"})
    with consuming(log, MONITORING_METRICS_PORT=str(port)):

        def metrics() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                return str(answer.read().decode())

        eventually(lambda: services.answers_http(f"http://127.0.0.1:{port}/metrics"), within=30)
        line = 'monitoring_entries_total{result="parked",stream="predictions"} 1.0'
        eventually(lambda: line in metrics(), within=20)
        for name in ("monitoring_stream_lag_entries", "monitoring_stream_pending_entries", "monitoring_commit_seconds"):
            assert name in metrics()


def test_until_empty_gives_up_on_a_server_that_stays_away(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plumbline.monitoring.log.consumer._UNTIL_EMPTY_PATIENCE", 1)
    with pytest.raises(redis.ConnectionError):
        log.consume(redis_url=f"redis://127.0.0.1:{services.free_port()}/0")
    assert log.metric("monitoring_reconnects_total", service="redis") > 2
