"""JSON log lines that a request never waits for: they gather in memory and a thread of their own writes them."""

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable

from pydantic_core import to_json

from plumbline.core.logs import Json, timestamp

log = logging.getLogger("serving")
_CAPACITY = 50_000
_FLUSH_SECONDS = 0.1


class LogBuffer(logging.Handler):
    """Collects lines; `start` begins to write them to stdout, `close` writes what is left.

    Where stdout is blocked, lines beyond 50,000 are dropped, and a line says how many.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Json())
        self._lines: deque[bytes] = deque(maxlen=_CAPACITY)
        self._appended = 0
        self._written = 0
        self.failed: Callable[[], None] = lambda: None
        """Called where lines could not be written."""
        self._stop = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def write(self, line: bytes) -> None:
        """Add one line that is JSON already, without its end."""
        self._appended += 1
        self._lines.append(line)

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record of the logging module."""
        self.write(self.format(record).encode())

    def start(self) -> None:
        """Begin to write in the background."""
        self._thread.start()

    def flush(self) -> None:
        """Write what has gathered, in the caller's thread."""
        with self._writing:
            lines = []
            while self._lines:
                lines.append(self._lines.popleft())
            taken = len(lines)
            if (lost := self._appended - self._written - taken - len(self._lines)) > 0:
                taken += lost
                lines.append(to_json({"at": timestamp(), "level": "warning", "message": f"{lost} log lines dropped"}))
            if lines:
                sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
                sys.stdout.buffer.flush()
            self._written += taken  # what could not be written is among the dropped of the next time

    def close(self) -> None:
        """Stop the thread and write the rest."""
        self._stop.set()
        self.flush()
        super().close()

    def _run(self) -> None:
        while not self._stop.wait(_FLUSH_SECONDS):
            try:
                self.flush()
            except Exception:  # stdout is full or closed, and a line about it would go there too
                self.failed()


def set_up(level: str) -> LogBuffer:
    """Send every logger's lines through a new buffer."""
    buffer = LogBuffer()
    logging.basicConfig(level=level, handlers=[buffer], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    buffer.start()
    return buffer
