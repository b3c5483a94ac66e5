"""What a caller may do with a connection: slow, half-closed, too large, piled up, or an offer of another protocol.

A real socket leads to the protocol and the edge as they are deployed.
"""

import asyncio
import json
import re
import threading
import time
from typing import Any

import pytest
from connections import BODY, LIMITS, PREDICT, SOON, Say, head, saying, status
from prometheus_client import generate_latest

from plumbline.serving.http import beside
from plumbline.serving.metrics import Metrics
from plumbline.serving.server import Server

UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"


@pytest.mark.parametrize("offer", [UPGRADE, "Connection: Upgrade\r\nUpgrade: websocket\r\n"])
@pytest.mark.parametrize("apart", [False, True])
def test_the_offer_of_another_protocol_is_ignored_and_the_connection_goes_on(connect, offer, apart):
    offered = head(offer.rstrip())
    parts = [offered, BODY] if apart else [offered + BODY]

    async def talk(reader, writer):
        found = []
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)
        found.append(await status(reader))
        writer.write(PREDICT)
        found.append(await status(reader))
        writer.write(head(offer.rstrip(), path="/health/live", method="GET", length=0) + PREDICT)
        return [*found, await status(reader), await status(reader)]

    (found,), _, _ = connect(talk)
    assert found == [200, 200, 200, 200]


def test_a_half_closed_connection_is_answered(connect):
    async def talk(reader, writer):
        writer.write(PREDICT)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 10)

    (found,), _, _ = connect(talk, seconds=0.1)
    assert found.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in found


def test_heads_and_bodies_that_do_not_end_are_closed_and_not_in_flight(connect):
    held: list[Server] = []
    in_flight: list[int] = []
    done: list[Say] = []

    async def look(reader, writer):
        while len(done) < len(talks):
            in_flight.append(held[0].in_flight)
            await asyncio.sleep(0.01)

    def counted(talk):
        async def until_done(reader, writer):
            try:
                return await talk(reader, writer)
            finally:
                done.append(talk)

        return until_done

    heads, bodies = [saying(head()[:40])] * 50, [saying(head() + b"{")] * 50
    talks = [counted(talk) for talk in (*heads, *bodies, saying())]
    found, server, shown = connect(look, *talks, prepare=held.append, head_seconds=SOON, body_seconds=SOON)
    assert all(answer.startswith(b"HTTP/1.1 408 ") and b"problem+json" in answer for answer in found[1:-1])
    assert found[-1] == b"", "a caller that says nothing gets nothing"
    assert len(in_flight) > 5
    assert max(in_flight) == 0, "a body that is not complete stays in flight for all of its time"
    assert server.in_flight == 0
    assert 'route="/v1/predict",status="408"' in shown
    assert (
        'serving_request_seconds_count{model="delays",role="stable",route="/v1/predict",version="v1.0.0"} 0.0' in shown
    )


def test_a_slow_body_is_the_callers_time(connect):
    async def slow(reader, writer):
        writer.write(head() + BODY[:-1])
        await asyncio.sleep(SOON)
        writer.write(BODY[-1:])
        return await status(reader)

    (found,), _, shown = connect(slow)
    assert found == 200
    total = re.search(r'serving_request_seconds_sum\{[^}]*route="/v1/predict"[^}]*\} (\S+)', shown)
    assert total is not None
    assert float(total[1]) < SOON, "the caller's pause counts as the model's"


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (head(f"x-long: {'x' * 4000}"), 431),
        (head(*[f"x-{number}: 1" for number in range(30)]), 431),
        (head(path=f"/{'p' * 4000}"), 414),
        (b"GET / HTTP/1.1\r\nx-long: " + b"x" * 400_000, 431),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (head()[:-4] + b"0" * 30 + b"\r\n\r\n", 400),
    ],
)
def test_a_head_beyond_the_limits_is_a_problem_in_short(connect, sent, refused):
    (answer,), _, _ = connect(saying(sent[:1000], sent[1000:]))
    text, _, body = answer.partition(b"\r\n\r\n")
    assert text.startswith(b"HTTP/1.1 %d " % refused)
    assert b"application/problem+json" in text
    assert b"connection: close" in text
    assert json.loads(body)["status"] == refused
    assert len(answer) < 1000


def test_a_body_that_is_not_chunked_as_it_says_is_400(connect):
    chunked = b"POST /v1/predict HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
    (answer,), server, _ = connect(saying(chunked))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert server.in_flight == 0


def test_what_is_piled_up_beyond_the_limit_is_not_answered_and_the_rest_in_turn(connect):
    (answer,), _, _ = connect(saying(PREDICT * 50))
    assert answer.count(b"HTTP/1.1 200 ") == 1 + LIMITS["max_pipelined"]
    assert answer.count(b"connection: close") == 1


def test_garbage_after_a_request_does_not_take_its_answer(connect):
    (answer,), _, _ = connect(saying(PREDICT + b"\x00\x00\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_kept_connection_that_sends_no_request_is_closed(connect):
    (answer,), _, _ = connect(saying(PREDICT, *[b"\r\n"] * 3, pause=0.1), head_seconds=SOON)
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/docs", "/v1/models", "/openapi.json", "/v2"])
def test_head_is_answered_without_a_body(connect, path):
    async def talk(reader, writer):
        writer.write(head(path=path, method="HEAD", length=0))
        text = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        writer.write(PREDICT)
        return text, await status(reader)

    ((text, next_one),), _, _ = connect(talk)
    assert text.startswith(b"HTTP/1.1 200 ")
    assert next_one == 200


@pytest.mark.parametrize("part", [b"a:b\r\n" * 100, b"x" * 500], ids=["fields", "one field"])
def test_what_follows_a_chunk_is_bounded(connect, part):
    """Trailers without end, and what stands behind a chunk's length, would be kept until memory ends."""
    begun = head().replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked") + b"1\r\na\r\n0\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        answer = asyncio.create_task(status(reader))
        for piece in [begun, *[part] * 100]:
            if answer.done():
                break
            writer.write(piece)
            await asyncio.wait([answer], timeout=0.01)
        return await answer

    (code,), server, _ = connect(talk)
    assert code == 431
    assert server.in_flight == 0


def test_many_small_chunks_are_no_trailers(connect):
    begun = head().replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked")
    padded = b" " * 3000 + BODY
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in padded) + b"0\r\n\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        for start in range(0, len(chunks), 1000):
            writer.write((begun if not start else b"") + chunks[start : start + 1000])
            await writer.drain()
        return await status(reader)

    assert connect(talk)[0] == [200]


def test_a_body_behind_its_answer_leaves_the_connection_as_long_as_it_was(connect):
    """A gateway would use it again, after the time that a head may take."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[int]:
        writer.write(head().replace(b"application/json", b"text/plain"))
        first = await status(reader)
        writer.write(BODY)
        await asyncio.sleep(2 * SOON)
        writer.write(PREDICT)
        return [first, await status(reader)]

    assert connect(talk, head_seconds=SOON)[0] == [[415, 200]]


def test_a_scrape_reads_on_the_event_loop():
    """The series change on the loop alone: read beside it, counts were lost and a scrape in eight failed."""
    metrics, seen = Metrics(), []

    def depth() -> float:
        seen.append(threading.current_thread())
        return 1

    metrics.watch(metrics.queue_depth, depth)

    async def main() -> bytes:
        metrics.exposed.loop = asyncio.get_running_loop()
        return await asyncio.to_thread(generate_latest, metrics.exposed)

    assert b"serving_queue_rows" in asyncio.run(main())
    assert seen == [threading.main_thread()]


def test_a_scrape_that_the_loop_has_no_time_for_is_told_so(monkeypatch, caplog):
    monkeypatch.setattr("plumbline.serving.metrics._SCRAPE_SECONDS", 0.02)
    metrics = Metrics()
    said: list[str] = []
    answer = beside.application(metrics.exposed, dict)

    def begin(status: str, *_: Any) -> Any:
        said.append(status)

    def scrape() -> bytes:
        asked = {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET"}
        return b"".join(answer(asked, begin))

    async def main() -> bytes:
        metrics.exposed.loop = asyncio.get_running_loop()
        asking = asyncio.create_task(asyncio.to_thread(scrape))
        await asyncio.sleep(0)
        end = time.monotonic() + 30
        while not said and time.monotonic() < end:  # and the loop does nothing else
            time.sleep(0.01)
        return await asking

    assert asyncio.run(main()) == b"the server is too busy to say\n"
    assert said == ["503 Service Unavailable"]
    assert not caplog.records


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text;version=new", "text/plain;version=1.x"])
def test_a_scrape_is_answered_whatever_it_accepts(accept):
    metrics, said = Metrics(), dict[str, Any]()
    answer = beside.application(metrics.exposed, dict)

    def begin(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        said.update(dict(headers), status=status)

    async def main() -> bytes:
        metrics.exposed.loop = asyncio.get_running_loop()
        asked = {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET", "HTTP_ACCEPT": accept}
        return await asyncio.to_thread(lambda: b"".join(answer(asked, begin)))

    assert b"serving_" in asyncio.run(main())
    assert (said["status"], said["Content-Type"].partition(";")[0]) == ("200 OK", "text/plain")
