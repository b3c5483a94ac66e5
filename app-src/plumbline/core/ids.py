"""Ids of predictions (UUIDv7, RFC 9562, section 5.7) and of requests.

The first 48 bits of a UUIDv7 are milliseconds since 1970. Such ids sort by time, so tables are partitioned by the id
itself: a day is a range of ids, and looking one up by its id alone touches one partition.

An id that is made for an owner says so to who knows the owner's seal: its last 32 bits are a keyed hash of the others.
Every pod can tell so, also after a restart, and nothing is stored.
"""

import re
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from os import urandom
from uuid import UUID

_REQUEST = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
PREDICTION_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(:(0|[1-9][0-9]{0,6}))?$"
"""Of the id of an answer, or of a row of one."""
_RANDOM_BITS = 80
_VARIANTS = "89ab"
_SEALED = 24
"""Digits of an id before its owner's mark: the time and 42 random bits."""
_PIECES = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def _pieces(size: int) -> Iterator[bytes]:
    """The system's randomness, a block at a time: a call of the kernel for each id would be two thirds of its cost."""
    while True:
        block = urandom(size * _PIECES)
        for start in range(0, len(block), size):
            yield block[start : start + size]


_for_prediction, _for_request = _pieces(10).__next__, _pieces(12).__next__


def prediction_id(milliseconds: int | None = None, seal: bytes = b"") -> str:
    """A new time-ordered id, for the owner of the seal if there is one."""
    now = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    # The system's randomness: 60 ids of Python's own generator tell all that follow, and feedback is taken by id.
    drawn = _for_prediction()
    digits = drawn.hex()
    text = f"{now:012x}7{digits[1:4]}{_VARIANTS[drawn[2] >> 4 & 3]}{digits[5:12]}"
    end = _mark(text, seal) if seal else digits[12:]
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}{end}"


def is_for(identifier: str, seal: bytes) -> bool:
    """Whether a prediction's id, or that of a row of it, was made for the owner of the seal."""
    text = identifier.partition(":")[0].replace("-", "")
    return compare_digest(text[_SEALED:], _mark(text[:_SEALED], seal))


@lru_cache(maxsize=4096)
def _keyed(seal: bytes) -> blake2b:
    return blake2b(digest_size=4, key=seal)


def _mark(text: str, seal: bytes) -> str:
    hashed = _keyed(seal).copy()
    hashed.update(text.encode())
    return hashed.hexdigest()


def request_id(given: bytes | None) -> str:
    """The caller's id where it is short and plain, so that it can't forge a log line; else a new one."""
    if given is not None:
        text = given.decode("latin-1")
        if _REQUEST.fullmatch(text):
            return text
    return _for_request().hex()


def instant(identifier: UUID) -> datetime:
    """When a UUIDv7 was made; raises ValueError for another version and for a time that no calendar has."""
    if identifier.version != 7:
        raise ValueError(f"{identifier} is not a UUIDv7; expected the prediction_id of an answer")
    try:
        return _EPOCH + (identifier.int >> _RANDOM_BITS) * _MILLISECOND
    except OverflowError as error:
        raise ValueError(f"{identifier}: its time is after the year 9999") from error


def floor(moment: datetime) -> UUID:
    """The smallest id of a moment: every UUIDv7 made from then on is at least this."""
    return UUID(int=((moment - _EPOCH) // _MILLISECOND) << _RANDOM_BITS)


def day_range(day: date) -> tuple[UUID, UUID]:
    """The ids of one UTC day: first included, last excluded."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return floor(start), floor(start + timedelta(days=1))
