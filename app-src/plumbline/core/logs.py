"""Log records as JSON lines."""

import logging
import time
from typing import Any

from pydantic_core import to_json


class Json(logging.Formatter):
    """A record as one line of JSON; with `extra={"request_id": …}` it names the request."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        entry: dict[str, Any] = {
            "at": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := getattr(record, "request_id", None):
            entry["request_id"] = request_id
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return to_json(entry, fallback=str).decode()


def timestamp(seconds: float | None = None) -> str:
    """RFC 3339 in UTC with milliseconds."""
    now = time.time() if seconds is None else seconds
    whole = int(now)
    return f"{_second(whole)}.{int((now - whole) * 1000):03d}Z"


_last: tuple[int, str] = (0, "")


def _second(whole: int) -> str:
    """A second as text; kept, since thousands of lines share it."""
    global _last
    if _last[0] != whole:
        _last = whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return _last[1]
