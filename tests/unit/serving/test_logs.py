"""JSON log lines, and the cache's entries in this process."""

import json
import logging
import time

from plumbline.core.logs import timestamp
from plumbline.serving.inference.cache import LocalCache
from plumbline.serving.logs import LogBuffer, set_up


def test_lines_are_json_with_their_request_id_and_exception(capfdbinary):
    buffer = set_up("INFO")
    logger = logging.getLogger("test")
    logger.info('said "%s"', "so", extra={"request_id": "r1"})
    logger.debug("not this")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logger.exception("failed")
    buffer.write(b'{"a":1}')
    buffer.close()
    logging.getLogger().removeHandler(buffer)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert lines[0]["message"] == 'said "so"'
    assert lines[0]["request_id"] == "r1"
    assert "ZeroDivisionError" in lines[1]["exception"]
    assert lines[2] == {"a": 1}
    assert len(lines) == 3


def test_lines_beyond_the_buffer_are_dropped_and_counted(capfdbinary, monkeypatch):
    monkeypatch.setattr("plumbline.serving.logs._CAPACITY", 3)
    buffer = LogBuffer()
    for number in range(10):
        buffer.write(b'{"n":%d}' % number)
    buffer.flush()
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["n"] for line in lines[:3]] == [7, 8, 9]
    assert lines[3]["message"] == "7 log lines dropped"


def test_timestamps_are_rfc_3339():
    assert timestamp(0.25) == "1970-01-01T00:00:00.250Z"
    assert timestamp(1.5) == "1970-01-01T00:00:01.500Z"


def test_the_local_cache_forgets_the_oldest_and_the_aged(monkeypatch):
    now = 10.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cache = LocalCache(entries=2, seconds=5)
    cache.put(b"a", [1.0])
    cache.put(b"b", [2.0])
    assert cache.get(b"a") == [1.0]
    cache.put(b"c", [3.0])
    assert cache.get(b"b") is None
    assert cache.get(b"a") == [1.0]
    now += 6
    assert cache.get(b"a") is None
