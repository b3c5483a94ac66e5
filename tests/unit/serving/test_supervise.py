"""A task of the server that ends is begun again, and counted."""

import asyncio
import io
import json
import logging
import sys
import time

import pytest

from plumbline.serving.events import PredictionLog
from plumbline.serving.logs import LogBuffer
from plumbline.serving.redis_link import RedisLink
from plumbline.serving.supervise import supervise


def test_a_task_that_ends_or_fails_is_begun_again_and_stops_when_it_is_told(monkeypatch, caplog):
    monkeypatch.setattr("plumbline.serving.supervise._DELAYS", (0.0, 0.01))
    began, failed = [], []
    runs = asyncio.Event()

    async def work():
        began.append(1)
        if len(began) == 1:
            raise RuntimeError("the first time")
        if len(began) > 3:
            runs.set()
            await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(supervise("redis", work, lambda: failed.append(1)))
        await asyncio.wait_for(runs.wait(), 30)
        task.cancel()
        await asyncio.wait([task], timeout=30)
        return task.cancelled()

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(main())
    assert (len(began), len(failed)) == (4, 3)
    assert "the task redis ended" in caplog.text
    assert "the first time" in caplog.text


def test_delays_grow_and_begin_anew_after_it_went_well(monkeypatch):
    slept, now = [], [0.0]
    lasts = iter([1, 1, 1, 1, 1, 100, 1])

    async def work():
        now[0] += next(lasts)  # at the end: StopIteration, which a coroutine turns into RuntimeError
        raise ValueError

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 7:
            raise asyncio.CancelledError

    monkeypatch.setattr("plumbline.serving.supervise.time.monotonic", lambda: now[0])
    monkeypatch.setattr("plumbline.serving.supervise.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(supervise("redis", work, lambda: None))
    assert slept == [0.1, 1.0, 5.0, 30.0, 30.0, 0.1, 1.0]


@pytest.mark.parametrize(
    ("owner", "work", "task"), [(RedisLink, "keep", "redis"), (PredictionLog, "run", "prediction-log")]
)
def test_the_servers_own_tasks_outlive_an_error(serve, bundles, monkeypatch, owner, work, task):
    real, begun = getattr(owner, work), []

    async def dies_once(self):
        begun.append(1)
        if len(begun) == 1:
            raise RuntimeError("once")
        await real(self)

    monkeypatch.setattr(owner, work, dies_once)

    async def use(client, server):
        for _ in range(3000):
            if len(begun) == 2:
                break
            await asyncio.sleep(0.01)
        row = {"features": {"distance": 1400.0, "hour": 17, "carrier": "UA"}}
        answer = await client.post("/v1/predict", json=row)
        labels = {**server.metrics.labels, "task": task}
        return answer.status_code, server.metrics.registry.get_sample_value("serving_task_failures_total", labels)

    # A port that nobody listens on: Redis is away, which ends no task.
    assert serve(bundles["binary"], use, redis_url="redis://127.0.0.1:1/0") == (200, 1)
    assert len(begun) == 2


class Full(io.BytesIO):
    """A stdout that takes nothing for a while."""

    full = True

    def write(self, data):
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_lines_are_written_again_after_stdout_was_full_and_the_lost_are_counted(monkeypatch):
    stdout, failed = Full(), []
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stdout))
    monkeypatch.setattr("plumbline.serving.logs._FLUSH_SECONDS", 0.01)
    buffer = LogBuffer()
    buffer.failed = lambda: failed.append(1)
    buffer.write(b'{"n":0}')
    buffer.start()
    _until(lambda: failed)
    stdout.full = False
    buffer.write(b'{"n":1}')
    _until(stdout.getvalue)
    buffer._stop.set()
    buffer._thread.join(30)
    lines = [json.loads(line) for line in stdout.getvalue().splitlines()]
    assert {"n": 1} in lines
    assert [line["message"] for line in lines if "message" in line] == ["1 log lines dropped"]


def _until(holds):
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
