"""Ids: UUIDv7 for predictions (RFC 9562, 5.7), so that an id's time gives the day that its record is kept in."""

import random
import re
import time

# Unique, not secret: a prediction's id is no credential. Seeded from the system's randomness in each process.
_bits = random.Random().getrandbits  # noqa: S311
_PREDICTION = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(:(0|[1-9][0-9]{0,6}))?", re.ASCII
)
_REQUEST = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
PREDICTION_PATTERN = f"^{_PREDICTION.pattern}$"


def prediction_id(milliseconds: int | None = None) -> str:
    """A new time-ordered id."""
    now = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    number = now << 80 | 0x7 << 76 | _bits(12) << 64 | 0b10 << 62 | _bits(62)
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def request_id(given: bytes | None) -> str:
    """The caller's id where it is short and plain, so that it can't forge a log line; else a new one."""
    if given is not None:
        text = given.decode("latin-1")
        if _REQUEST.fullmatch(text):
            return text
    return f"{_bits(96):024x}"


def is_prediction_id(text: str) -> bool:
    """Whether `text` has the shape of an id that this server gives, of a request or of a row of one."""
    return _PREDICTION.fullmatch(text) is not None
