"""Files that change while the server runs: keys of callers, of the gateway, of whoever signs models; the pod's role.

Kubernetes swaps a link where a Secret changes. A file is looked at every few seconds and read anew where it is another;
a bad one is not taken, and what was read before stays in effect.
"""

import asyncio
import errno
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from plumbline.core.documents import DocumentError
from plumbline.core.errors import PlumblineError
from plumbline.serving.logs import log
from plumbline.serving.metrics import Metrics

T = TypeVar("T")
Stamp = tuple[int, ...]
LATE_SECONDS = 30.0
"""A file that is not read by then is said to be bad; longer than it takes to judge a large model by another key."""
_WRITING_SECONDS = 1.0
"""A file that was written less than so long ago may be half of what it becomes."""


class Changing(Exception):
    """The file was written a moment ago or while it was read: it is looked at again, and nothing is wrong."""


@dataclass(slots=True)
class _File:
    variable: str
    path: Path
    read: Callable[[Path], Any]
    take: Callable[[Any], None]
    stamp: Stamp | None
    problem: str = ""
    asked: float | None = None
    """Since when it is read, by the loop's clock; None while it is not."""

    @property
    def place(self) -> str:
        return f"{self.variable}: {self.path}"


class Files:
    """What is watched, and a task that does."""

    def __init__(self, metrics: Metrics, seconds: float) -> None:
        self._metrics, self._seconds = metrics, seconds
        self._files: list[_File] = []

    def add(
        self, variable: str, path: Path, read: Callable[[Path], T], take: Callable[[T], None], *, now: bool = True
    ) -> None:
        """Watch a file and, if `now`, read and take it; then raises what `read` does, or DocumentError for no file.

        `read` runs in a thread when the file has changed; its error names the variable, and keeps what was taken.
        """
        file = _File(variable, path, read, take, None)
        try:
            file.stamp = stamp_of(path)
        except OSError as error:
            if now:
                raise DocumentError(f"cannot be read: {error}", source=file.place) from error
        if now:
            take(read(path))
        self._show(file, good=file.stamp is not None)
        self._files.append(file)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            for file in self._files:
                self._look(file)

    def _look(self, file: _File) -> None:
        """Have it read. A mount that hangs keeps the thread, and neither the loop, other files nor the process' end."""
        loop = asyncio.get_running_loop()
        if file.asked is None:
            Thread(target=self._ask, args=(loop, file), name=f"read {file.variable}", daemon=True).start()
            file.asked = loop.time()
        elif loop.time() - file.asked > LATE_SECONDS:
            self._refused(file, f"{file.place}: cannot be read: no answer within {LATE_SECONDS:g} s")

    def _ask(self, loop: asyncio.AbstractEventLoop, file: _File) -> None:
        try:
            answer: Any = self._changed(file)
        except Exception as error:
            answer = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._answered, file, answer)

    def _changed(self, file: _File) -> tuple[Stamp | None, Any] | None:
        """Its stamp and what it says; None where nothing has changed. Raises Changing, OSError, or what `read` does."""
        stamp = stamp_of(file.path)
        if stamp == file.stamp and not file.problem:
            return None
        if stamp is not None and 0 <= time.time() - stamp[-1] / 1e9 < min(self._seconds, _WRITING_SECONDS):
            raise Changing
        try:
            return stamp, file.read(file.path)
        finally:
            if stamp_of(file.path) != stamp:
                raise Changing  # whatever was read, or was wrong with it

    def _answered(self, file: _File, answer: Any) -> None:
        file.asked = None
        try:
            if isinstance(answer, Exception):
                raise answer
            if answer is not None:
                stamp, value = answer
                file.take(value)
                file.stamp, file.problem = stamp, ""
                self._show(file, good=True)
                log.info("%s has changed and is in effect", file.place)
        except Changing:
            log.debug("%s is being written", file.place)
        except PlumblineError as error:
            self._refused(file, " ".join(str(error).split()))
        except (OSError, ValueError) as error:
            self._refused(file, " ".join(f"{file.place}: {error}".split()))
        except Exception as error:  # the task goes on to look
            log.exception("%s could not be read", file.place)
            self._refused(file, f"{file.variable}: {error!r}")

    def _refused(self, file: _File, problem: str) -> None:
        if problem != file.problem:  # once, not every few seconds
            log.error("a changed file is not taken, and what was read before stays: %s", problem)
        file.problem = problem
        self._show(file, good=False)

    def _show(self, file: _File, *, good: bool) -> None:
        self._metrics.file_in_effect.labels(file=file.variable).set(good)


def stamp_of(path: Path) -> Stamp | None:
    """What differs if a file is another one, or was written, the time of that (ns) last; None where there is none.

    Raises OSError for a pipe or a device, which may never end.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns, status.st_mtime_ns
