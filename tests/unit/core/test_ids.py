from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.core import ids

MOMENTS = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC))


def made_at(moment: datetime, randomness: int) -> UUID:
    random_bits = randomness & ((1 << 80) - 1) & ~(0xF << 76) & ~(0x3 << 62)
    return UUID(int=ids.floor(moment).int | 0x7 << 76 | 0x2 << 62 | random_bits)


def test_the_example_of_the_standard() -> None:
    # RFC 9562, appendix A.6: 2022-02-22 19:22:22 UTC.
    assert ids.instant(UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


@given(MOMENTS, st.integers(0, (1 << 80) - 1))
def test_an_id_keeps_its_millisecond_and_lies_in_its_day_only(moment: datetime, randomness: int) -> None:
    identifier = made_at(moment, randomness)
    assert moment - ids.instant(identifier) < timedelta(milliseconds=1)
    start, end = ids.day_range(moment.date())
    assert start <= identifier < end
    start, end = ids.day_range(moment.date() + timedelta(days=1))
    assert not start <= identifier < end


def test_days_touch_without_gap() -> None:
    assert ids.day_range(date(2026, 2, 28))[1] == ids.day_range(date(2026, 3, 1))[0]


def test_what_is_no_uuid7_is_refused() -> None:
    with pytest.raises(ValueError, match="not a UUIDv7"):
        ids.instant(uuid4())
    with pytest.raises(ValueError, match="after the year 9999"):
        ids.instant(UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"))


def test_ids_are_the_systems_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Python's own generator 60 ids tell all that follow."""
    monkeypatch.setattr(ids, "urandom", lambda size: b"\x5a" * size)
    monkeypatch.setattr(ids, "_for_prediction", ids._pieces(10).__next__)
    monkeypatch.setattr(ids, "_for_request", ids._pieces(12).__next__)
    assert ids.prediction_id(0) == "00000000-0000-7a5a-9a5a-5a5a5a5a5a5a"
    assert ids.request_id(None) == "5a" * 12
