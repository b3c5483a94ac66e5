"""The time inside a UUIDv7: its first 48 bits are milliseconds since 1970 (RFC 9562, section 5.7).

Such ids sort by time, so tables are partitioned by the id itself: a day is a range of ids, and looking one up by its
id alone touches one partition.
"""

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

_RANDOM_BITS = 80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


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
    start = datetime.combine(day, time(), UTC)
    return floor(start), floor(start + timedelta(days=1))
