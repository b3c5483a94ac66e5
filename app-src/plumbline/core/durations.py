"""Durations as people write them: `20s`, `30m`, `24h`, `90d`."""

import re
from datetime import timedelta

from plumbline.core.errors import Misuse

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """Read a duration; raises Misuse that says what was expected."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})([smhd])", text)
    if match is None:
        raise Misuse(f"{text!r} is not a duration; expected one like 20s, 30m, 24h or 90d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
