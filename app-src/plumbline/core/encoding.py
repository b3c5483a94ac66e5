"""What a moment, a text or a list of categories becomes: several numbers, made by one function for rows and columns.

Numbers, categories and booleans are one column each and need none of this (`core.schema`).
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args
from zlib import crc32
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

if TYPE_CHECKING:
    from plumbline.core.schema import SchemaField

Part = Literal[
    "hour", "weekday", "month", "day_of_year", "epoch_days", "age_seconds", "age_minutes", "age_hours", "age_days"
]
"""What a model sees of a moment. The first four are those of a clock and a calendar in the field's time zone, weekday 0
is Monday; days since 1970 and the age at the row's moment are the same everywhere."""
PARTS: tuple[Part, ...] = get_args(Part)
LOCAL = frozenset(("hour", "weekday", "month", "day_of_year"))
_RANGES = {"hour": (0, 23), "weekday": (0, 6), "month": (1, 12), "day_of_year": (1, 366)}
AGES = {"age_seconds": 1.0, "age_minutes": 60.0, "age_hours": 3600.0, "age_days": 86400.0}
MOMENT_PATTERN = (
    r"^(1[6-9]|2[0-9])[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""RFC 3339, to the microsecond, from 1600 to 2999: every such moment has a date in every time zone."""
MOMENT_EXAMPLE = "2024-05-01T08:30:00+02:00"
LONGEST_MOMENT = 32
OTHERS = "unknown"
"""The column that counts a list's members that training did not see."""
LARGEST_CHARACTER = 0x10FFFF

RowEncoder = Callable[[Any, float | None], Sequence[float]]
"""A value, or None, and the row's moment in seconds since 1970 → its numbers."""

_moment_like = re.compile(MOMENT_PATTERN[:-1]).fullmatch
_words_of = re.compile(r"\w+").findall


class Shape(NamedTuple):
    """One column of a field that has several."""

    name: str
    type: Literal["number", "integer"]
    minimum: float | None
    maximum: float | None


def moment_of(value: Any) -> datetime | None:
    """A moment from its text, or from a datetime with a time zone; None for what is neither."""
    if isinstance(value, str):
        return _read(value)
    # pandas calls a missing moment a datetime too: one without a zone.
    return value if isinstance(value, datetime) and value.tzinfo is not None and 1600 <= value.year < 3000 else None


@lru_cache(maxsize=1024)  # a request's text is judged, and then encoded
def _read(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if _moment_like(text) else None
    except ValueError:  # 31 February
        return None


def seconds_of(value: Any) -> float | None:
    """A moment in seconds since 1970; None where it is missing or none."""
    moment = moment_of(value)
    return None if moment is None else moment.timestamp()


def zone_fault(name: str) -> str:
    """Why this names no time zone; empty where it does."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if not available_timezones():
            return f"zone {name!r}: this machine has no table of time zones; install the package tzdata"
        return f"zone {name!r}: expected a name of the IANA time zones such as 'Europe/Berlin' or 'UTC'"
    return ""


def shapes(field: "SchemaField") -> list[Shape]:
    """The columns of a timestamp, a text or a list of categories, in the order of the encoder's numbers."""
    name = field.name
    if field.type == "timestamp":
        return [
            Shape(f"{name}.{part}", "integer" if part in LOCAL else "number", *_RANGES.get(part, (None, None)))
            for part in field.parts
        ]
    if field.type == "text":
        most = LARGEST_CHARACTER if field.by == "codepoints" else field.most
        return [Shape(f"{name}.{place}", "integer", 0, most) for place in range(field.buckets)]
    members = [Shape(f"{name}={member}", "integer", 0, 1) for member in field.vocabulary]
    return [*members, Shape(f"{name}.{OTHERS}", "integer", 0, field.most)]


def encoder(field: "SchemaField") -> RowEncoder:
    """How a value of a field becomes its numbers; what is missing is NaN in each of them."""
    made = {"timestamp": _of_moment, "text": _of_text, "categories": _of_members, "category": _of_category}
    encode = made.get(field.type, lambda _: lambda value, _: (value,))(field)
    missing = (math.nan,) * len(field.columns)
    return lambda value, moment: missing if value is None else encode(value, moment)


def _of_category(field: "SchemaField") -> RowEncoder:
    codes = field.codes
    return lambda value, _: (codes.get(value, math.nan),)


def _of_moment(field: "SchemaField") -> RowEncoder:
    zone, parts = ZoneInfo(field.zone) if field.zone else UTC, field.parts

    def encode(value: Any, moment: float | None) -> Sequence[float]:
        there = moment_of(value)
        if there is None:
            raise ValueError(f"{field.name}: {value!r:.60} is no moment")
        local, seconds = there.astimezone(zone), there.timestamp()

        def number(part: Part) -> float:
            if part == "hour":
                return local.hour
            if part == "weekday":
                return local.weekday()
            if part == "month":
                return local.month
            if part == "day_of_year":
                return local.timetuple().tm_yday
            if part == "epoch_days":
                return seconds / 86400
            return math.nan if moment is None else (moment - seconds) / AGES[part]

        return [number(part) for part in parts]

    return encode


def _of_text(field: "SchemaField") -> RowEncoder:
    """Counts of n-grams by their hash (Weinberger et al. 2009, without their signs), or the characters themselves.

    CRC-32 of the UTF-8 is the same on every machine, and needs no vocabulary and no language.
    """
    buckets, size, by_words = field.buckets, field.grams, field.by == "words"

    def characters(value: str, _: float | None) -> Sequence[float]:
        codes = [float(ord(character)) for character in value[:buckets]]
        return codes + [0.0] * (buckets - len(codes))

    def counts(value: str, _: float | None) -> Sequence[float]:
        counted = [0.0] * buckets
        folded = value.casefold()
        tokens: Sequence[str] = _words_of(folded) if by_words else " ".join(folded.split())
        # A shorter text is one gram as a whole.
        for start in range(max(1, len(tokens) - size + 1) if tokens else 0):
            gram = tokens[start : start + size]
            counted[crc32((" ".join(gram) if by_words else str(gram)).encode("utf-8", "surrogatepass")) % buckets] += 1
        return counted

    return characters if field.by == "codepoints" else counts


def _of_members(field: "SchemaField") -> RowEncoder:
    places = {member: place for place, member in enumerate(field.vocabulary)}
    others = len(places)

    def encode(value: Any, _: float | None) -> Sequence[float]:
        counted = [0.0] * (others + 1)
        for member in set(value):  # one that stands twice is one
            counted[places.get(member, others)] += 1
        return counted

    return encode
