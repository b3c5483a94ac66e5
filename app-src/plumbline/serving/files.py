"""Files that change while the server runs: keys of callers, of the gateway, and of whoever signs models.

Kubernetes swaps a link where a Secret changes. A file is looked at every few seconds and read anew where it is another;
a bad one is not taken, and what was read before stays in effect.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from plumbline.core.errors import PlumblineError
from plumbline.serving.logs import log
from plumbline.serving.metrics import Metrics

T = TypeVar("T")


@dataclass(slots=True)
class _File:
    variable: str
    path: Path
    read: Callable[[Path], Any]
    take: Callable[[Any], None]
    stamp: object
    problem: str = ""


class Files:
    """What is watched, and a task that does."""

    def __init__(self, metrics: Metrics, seconds: float) -> None:
        self._metrics, self._seconds = metrics, seconds
        self._files: list[_File] = []

    def add(
        self, variable: str, path: Path, read: Callable[[Path], T], take: Callable[[T], None], *, now: bool = True
    ) -> None:
        """Watch a file and, if `now`, read and take it; then raises what `read` does.

        `read` runs in a thread when the file has changed; its error names the variable, and keeps what was taken.
        """
        file = _File(variable, path, read, take, _stamp(path))
        if now:
            take(read(path))
        self._show(file, good=file.stamp is not None)
        self._files.append(file)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            for file in self._files:
                await self._look(file)

    async def _look(self, file: _File) -> None:
        stamp = _stamp(file.path)
        if stamp == file.stamp and not file.problem:
            return
        try:
            value = await asyncio.to_thread(file.read, file.path)  # it may be a large file, or a model to verify
            file.take(value)
        except (PlumblineError, OSError, ValueError) as error:
            self._refused(file, " ".join(str(error).split()))
        except Exception as error:  # the task goes on to look
            log.exception("%s: %s could not be read", file.variable, file.path)
            self._refused(file, f"{file.variable}: {error!r}")
        else:
            file.stamp, file.problem = stamp, ""
            self._show(file, good=True)
            log.info("%s: %s has changed and is in effect", file.variable, file.path)

    def _refused(self, file: _File, problem: str) -> None:
        if problem != file.problem:  # once, not every few seconds
            log.error("a changed file is not taken, and what was read before stays: %s", problem)
        file.problem = problem
        self._show(file, good=False)

    def _show(self, file: _File, *, good: bool) -> None:
        self._metrics.file_in_effect.labels(file=file.variable).set(good)


def _stamp(path: Path) -> object:
    """What differs if a file is another one, or was written; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
