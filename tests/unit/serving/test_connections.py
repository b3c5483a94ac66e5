"""How many connections a process holds, and how each of them ends."""

import asyncio
import gc
import json
import re
from contextlib import suppress

import pytest
from connections import BODY, PREDICT, head, status

from plumbline.serving.http.wire import Protocol

GET = head(path="/v1/models", method="GET", length=0)
BATCH = json.dumps({"rows": [json.loads(BODY)["features"]] * 100}).encode()


async def another(writer):
    """A connection to the same server."""
    return await asyncio.open_connection(*writer.get_extra_info("peername"))


async def rest(reader):
    """What is read until the other end closes; nothing where it did so with a reset."""
    try:
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionResetError:
        return b""


def value(shown, name):
    found = re.search(rf"^{name}\{{.*\}} (.*)$", shown, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_connections_beyond_the_most_are_told_so_or_closed_and_those_open_go_on(connect):
    async def talk(reader, writer):
        others = [await another(writer) for _ in range(7)]
        writer.write(PREDICT)  # in flight while others are turned away
        for _, other in others[1:]:
            other.write(PREDICT)
        told_reader, told = await another(writer)
        told.write(PREDICT)
        answer = await rest(told_reader)
        told_reader, told = await another(writer)  # the one before lingers
        cut = await another(writer)
        cut[1].write(PREDICT)
        assert await rest(cut[0]) == b""
        answers = [await status(reader), *[await status(other) for other, _ in others[1:]]]
        for _, one in (*others, (None, told), cut):
            one.close()
        for _ in range(300):
            late_reader, late = await another(writer)
            late.write(PREDICT)
            if (await late_reader.read(12)).endswith(b"200"):
                return answer, answers
            late.close()
            await asyncio.sleep(0.01)
        raise AssertionError("nobody is let in when others have gone")

    ((answer, answers),), server, shown = connect(talk, seconds=0.3, max_connections=8, linger_seconds=30)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n")
    assert b"connection: close" in answer
    assert b'"status":503' in answer
    assert answers == [200] * 7
    assert value(shown, "serving_connections_refused_total") >= 2
    assert server.in_flight == 0


HTTP_1_0 = PREDICT.replace(b"HTTP/1.1", b"HTTP/1.0")
KEPT = PREDICT.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\nconnection: keep-alive\r\n")
NO_HOST = PREDICT.replace(b" HTTP/1.1\r\nhost: h", b" HTTP/1.0")
CLOSE = head("connection: close") + BODY
GET_1_0 = GET.replace(b"HTTP/1.1", b"HTTP/1.0")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("sent", [HTTP_1_0, KEPT, NO_HOST, CLOSE, CLOSE + CLOSE, GET_1_0, HTTP_1_0[:-5]])
def test_who_wants_one_answer_gets_it_and_nothing_is_left(connect, sent, half):
    """HTTP/1.0, or `Connection: close`: closed by the server, also for one that shuts its half, or leaves in a body."""

    async def talk(reader, writer):
        writer.write(sent)
        if half:
            writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 30)
        if not half:  # the server's end is closed, and not by a reset
            for _ in range(300):
                gc.collect()
                if not _alive():
                    break
                await asyncio.sleep(0.01)
            assert not _alive(), "its protocol is still there"
        return answer

    (answer,), server, shown = connect(talk, body_seconds=0.2)
    if sent == HTTP_1_0[:-5]:
        assert (answer == b"") if half else (b" 408 " in answer.split(b"\r\n")[0])
    else:
        assert re.fullmatch(rb"HTTP/1.1 200 OK\r\n.*", answer, re.DOTALL)
        assert answer.count(b"HTTP/1.1") == 1
        assert re.search(rb"\r\nconnection: close\r\n", answer)
    assert server.in_flight == 0
    assert server.bodies.size == 0
    assert value(shown, "serving_connections") == 0


def _alive():
    return [thing for thing in gc.get_objects() if isinstance(thing, Protocol)]


LEFT = {
    "a prediction": PREDICT,
    "two on one connection": PREDICT * 2,
    "a batch": head(path="/v1/predict/batch", length=len(BATCH)) + BATCH,
    "a GET": GET,
    "a HEAD": head(path="/health/live", method="HEAD", length=0),
    "a wrong row": head(length=2) + b"{}",
    "no JSON": head(length=1) + b"x",
    "no such route": head(path="/nowhere", method="GET", length=0),
    "no HTTP": b"\x00\r\n\r\n",
    "half a body": head(length=1000) + b"{",
    "a head that does not end": b"POST /v1/predict HT",
}


@pytest.mark.parametrize("request_", LEFT.values(), ids=LEFT)
def test_a_request_and_its_connection_leave_nothing_to_the_collector(connect, request_):
    # Which hardly ever has to run: what is left to it stays until 20,000 objects are, with their bodies.
    async def talk(_, writer):
        async def ask():
            for _ in range(3):
                reader, other = await another(writer)
                other.write(request_)
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(100_000), 0.05)
                other.close()
                await other.wait_closed()
            await asyncio.sleep(0.1)

        await ask()  # what is made once
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await ask()
            gc.collect()
            return [item for item in gc.garbage if type(item).__module__.partition(".")[0] in ("plumbline", "uvicorn")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()

    (left,), *_ = connect(talk)
    assert left == []
