"""Host processes of the cluster: started with a log file and a pid file, stopped by that pid alone."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.settings import LOGS, STATE

_PIDS = STATE / "pids"


class StartError(RuntimeError):
    """A process ended or did not become ready in time; the message holds the end of its log."""


def start(name: str, command: Sequence[object], environment: Mapping[str, str] | None = None) -> None:
    """Start `command` in a session of its own, its output in logs/<name>.log."""
    for folder in (LOGS, _PIDS):
        folder.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=os.environ | dict(environment or {}),
            start_new_session=True,
        )
    (_PIDS / name).write_text(f"{process.pid} {_started(process.pid)}")


def wait_until(what: str, ready: Callable[[], bool], seconds: float = 60, log: str = "") -> None:
    """Ask `ready` until it is true; raises StartError after `seconds`, or when the process `log` has ended."""
    deadline = time.monotonic() + seconds
    while not ready():
        dead = bool(log) and _pid(log) is None
        if dead or time.monotonic() > deadline:
            text = (LOGS / f"{log}.log").read_text(errors="replace")[-3000:] if log else ""
            raise StartError(f"{what}: {'the process ended' if dead else f'not ready after {seconds} s'}\n{text}")
        time.sleep(0.2)


def stop_all() -> None:
    """Stop all that were started, at the same time: none of them is needed for another to end."""
    paths = list(_PIDS.iterdir()) if _PIDS.exists() else []
    pids = [pid for path in paths if (pid := _pid(path.name)) is not None]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    for pid in pids:
        stop(pid)
    for path in paths:
        path.unlink()


def stop(pid: int, seconds: float = 5) -> None:
    """End one process and wait for it: SIGTERM, after some seconds SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not _alive(pid):
                return
            time.sleep(0.05)


def _pid(name: str) -> int | None:
    """The pid, if it is still the process that was started: pids are used again, start times are not."""
    try:
        pid, started = (_PIDS / name).read_text().split()
        return int(pid) if _alive(int(pid)) and _started(int(pid)) == started else None
    except (FileNotFoundError, ValueError):
        return None


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _started(pid: int) -> str:
    return _stat(pid)[19]


def _alive(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return _stat(pid)[0] != "Z"
    except FileNotFoundError:
        return False
