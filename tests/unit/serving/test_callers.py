"""Callers who hang up, send too much or do not read: what they left is not run, held or waited for."""

import asyncio
import errno
import gzip
import json
import logging
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from connections import BODY, PREDICT, SOON, head, saying, status

from plumbline.serving.http.wire import Protocol
from plumbline.serving.inference.batching import Runner
from plumbline.serving.metrics import Metrics
from plumbline.serving.server import Server

CHUNKED = head().replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked")
GONE, STAY = 200, 5
PATIENCE = 30
"""Seconds that a machine may take for what is over in one."""


class Standing:
    """A model that stands still with the first rows until it is let go."""

    def __init__(self, batch_rows: int = 1) -> None:
        self.batch_rows, self.ran, self.go = batch_rows, 0, threading.Event()
        self.all_wait = False

    def take(self, server: Server) -> None:
        """Stand in for the server's model, at a cost that sends its rows to the queue."""
        assert server.engine is not None
        model = server.engine.model
        model.cost = replace(model.cost, one_row=0.01, per_row=0.01, batch_rows=self.batch_rows)
        run = model.run

        def standing(matrix: Any) -> Any:
            self.ran += len(matrix)
            assert self.go.wait(PATIENCE)
            return run(matrix)

        model.run = standing  # type: ignore[method-assign]
        self.runner = server.engine.runner = Runner(model, Metrics(), server.settings)

    async def until(self, holds: Callable[["Standing"], bool], seconds: float = PATIENCE) -> None:
        """Wait; what asserts comes after."""
        for _ in range(int(seconds / 0.01)):
            if holds(self):
                return
            await asyncio.sleep(0.01)


def runs(model: Standing) -> bool:
    return model.ran > 0


def waiting(count: int) -> Callable[[Standing], bool]:
    return lambda model: model.runner._waiting_rows == count


async def caller(writer: asyncio.StreamWriter) -> socket.socket:
    """Another connection to where this one leads, with a small buffer and read by nobody."""
    quiet = socket.socket()
    quiet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    quiet.setblocking(False)
    await asyncio.get_running_loop().sock_connect(quiet, writer.get_extra_info("peername")[:2])
    return quiet


@pytest.mark.parametrize(("way", "together"), [("closed", 1), ("reset", 1), ("closed", 64)])
def test_rows_of_callers_who_hung_up_are_not_run(connect, way, together):
    """A caller that closes looks like one that still listens: it is asked whether it is there."""
    model = Standing(together)

    async def first(reader, writer):
        writer.write(PREDICT)
        await model.until(waiting(GONE + STAY))
        model.all_wait = True
        await model.until(waiting(STAY), 10)
        model.go.set()
        return await status(reader)

    async def gone(reader, writer):
        await model.until(runs)
        with await caller(writer) as quiet:
            await asyncio.get_running_loop().sock_sendall(quiet, PREDICT)
            await model.until(lambda model: model.all_wait)
            if way == "reset":
                quiet.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def stays(reader, writer):
        await model.until(runs)
        writer.write(PREDICT)
        return await status(reader)

    talks = [first, *[gone] * GONE, *[stays] * STAY]
    found, server, shown = connect(*talks, prepare=model.take, cache_seconds=0, queue_seconds=PATIENCE)
    assert [found[0], *found[-STAY:]] == [200] * (1 + STAY)
    assert model.ran == 1 + STAY, "rows were run for nobody"
    assert 'status="5' not in shown, "no release is at fault where a caller goes"
    assert f'route="/v1/predict",status="499",version="v1.0.0"}} {GONE}.0' in shown
    latency = 'serving_request_seconds_count{model="delays",role="stable",route="/v1/predict",version="v1.0.0"}'
    assert f"{latency} {1 + STAY}.0" in shown
    assert (server.in_flight, server.bodies.size) == (0, 0)


def test_a_caller_that_listens_with_half_a_connection_is_answered_from_the_queue(connect):
    model = Standing()

    async def half(reader, writer):
        await model.until(runs)
        writer.write(PREDICT)
        await model.until(waiting(1))
        writer.write_eof()
        asked = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        model.go.set()
        return asked + await asyncio.wait_for(reader.read(), PATIENCE)

    async def first(reader, writer):
        writer.write(PREDICT)
        return await status(reader)

    (code, text), _, _ = connect(first, half, prepare=model.take, cache_seconds=0)
    assert code == 200
    *asked, answer = text.split(b"HTTP/1.1 ")[1:]
    assert set(asked) == {b"100 Continue\r\n\r\n"}
    assert answer.startswith(b"200 ")


def test_bodies_beyond_what_the_server_holds_are_refused_unread(connect):
    padded = BODY + b" " * (700 - len(BODY))
    held: list[Server] = []

    async def full():
        while held[0].bodies.size < 2 * len(padded):
            await asyncio.sleep(0.01)

    async def one(reader, writer):
        writer.write(head(length=len(padded)) + padded)
        return await status(reader)

    async def refused(reader, writer):
        await full()
        writer.write(head(length=len(padded)))  # and no more, until the answer is here
        return await asyncio.wait_for(reader.read(), PATIENCE)

    async def in_chunks(reader, writer):
        await full()
        writer.write(CHUNKED + b"%x\r\n%b\r\n" % (len(padded), padded))
        return await asyncio.wait_for(reader.read(), PATIENCE)

    talks = (one, one, refused, in_chunks)
    limits = {"max_body_bytes": 1024, "max_bytes_in_flight": 2048}
    found, server, _ = connect(*talks, seconds=3 * SOON, prepare=held.append, **limits)
    assert found[:2] == [200, 200]
    for answer in found[2:]:
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer
    assert server.bodies.size == 0


def test_nothing_is_held_after_whatever_ends_a_request(connect):
    async def hangs_up(reader, writer):
        writer.write(head() + BODY[:5])
        await asyncio.sleep(0.1)

    packed = gzip.compress(BODY)
    talks = [
        saying(CHUNKED + b"800\r\n" + b" " * 2048 + b"\r\n"),
        saying(head() + BODY[:9]),
        saying(CHUNKED + b'5\r\n{"fea\r\nzz\r\n'),
        *(
            saying(head("connection: close", *more, length=len(body)) + body)
            for more, body in [
                ((), BODY),
                ((), b"{"),
                (("content-encoding: gzip",), packed),
                (("content-encoding: gzip",), packed[:-4]),
                (("content-encoding: br",), packed),
            ]
        ),
        hangs_up,
    ]
    found, server, _ = connect(*talks, max_body_bytes=1024, body_seconds=SOON)
    codes = [int(answer.split()[1]) for answer in found[:-1]]
    assert codes == [413, 408, 400, 200, 400, 200, 400, 415]
    assert (server.in_flight, server.bodies.size) == (0, 0)


@pytest.mark.parametrize("way", ["declared", "in chunks"])
def test_who_sends_too_much_and_reads_last_gets_the_answer(connect, way):
    size, parts = 1 << 20, 8

    async def talk(reader, writer):
        writer.write(CHUNKED if way == "in chunks" else head(length=parts * size))
        for _ in range(parts):
            writer.write(b"%x\r\n%b\r\n" % (size, b" " * size) if way == "in chunks" else b" " * size)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), PATIENCE)

    (answer,), server, _ = connect(talk, max_body_bytes=1024, linger_seconds=PATIENCE)
    text, _, body = answer.partition(b"\r\n\r\n")
    assert text.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["status"] == 413
    assert server.in_flight == 0


@pytest.mark.parametrize(
    "bound", [{"linger_seconds": 0.2}, {"linger_seconds": 2 * PATIENCE, "max_bytes_in_flight": 1 << 20}]
)
def test_who_never_ends_to_send_is_cut_off(connect, bound):
    async def talk(reader, writer):
        writer.write(CHUNKED)
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    writer.write(b"10000\r\n%b\r\n" % (b" " * 0x10000))
                    await writer.drain()
                    await asyncio.sleep(0.001)
        except ConnectionError:
            return "cut off"

    assert connect(talk, max_body_bytes=1024, body_seconds=2 * PATIENCE, **bound)[0] == ["cut off"]


def test_who_does_not_read_is_dropped(connect, caplog):
    """Its answers are more than all buffers between hold."""
    columns, row = ["distance", "hour", "carrier"], [1400.0, 17, "UA"]
    body = json.dumps({"columns": columns, "data": [row] * 1000}).encode()
    asked = head(path="/v1/predict/batch", length=len(body)) + body

    async def talk(reader, writer):
        send = asyncio.get_running_loop().sock_sendall
        with await caller(writer) as quiet:
            await send(quiet, asked * 60)
            try:
                async with asyncio.timeout(PATIENCE):
                    while True:
                        await send(quiet, b"\r\n")
                        await asyncio.sleep(0.01)
            except ConnectionError:
                return "dropped"

    with caplog.at_level(logging.WARNING):
        found, server, _ = connect(talk, max_pipelined=60, write_seconds=SOON)
    assert found == ["dropped"]
    assert "did not read its answer within 1 s" in caplog.text
    assert server.in_flight == 0


@pytest.mark.parametrize("end", ["says all", "garbage"])
def test_who_does_not_read_the_end_of_its_answers_is_dropped(connect, monkeypatch, end):
    """What is left is too little to keep the next answer waiting, and no next one comes."""
    answered: list[Protocol] = []
    complete = Protocol.on_response_complete

    def on_response_complete(self: Protocol) -> None:
        answered.append(self)
        complete(self)

    monkeypatch.setattr(Protocol, "on_response_complete", on_response_complete)
    body = json.dumps({"columns": ["distance", "hour", "carrier"], "data": [[1400.0, 17, "UA"]] * 200}).encode()
    asked = head(path="/v1/predict/batch", length=len(body)) + body

    async def talk(reader, writer):
        with await caller(writer) as quiet:
            async with asyncio.timeout(PATIENCE):
                while not answered or not answered[0].transport.get_write_buffer_size():
                    before = len(answered)
                    await asyncio.get_running_loop().sock_sendall(quiet, asked)
                    while len(answered) == before:
                        await asyncio.sleep(0.001)
            assert not answered[0].flow.write_paused
            if end == "garbage":
                quiet.send(b"\0\0\r\n\r\n")
            else:
                quiet.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(PATIENCE):
                while quiet.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != errno.ECONNRESET:
                    await asyncio.sleep(0.01)
        return "dropped"

    found, server, _ = connect(talk, write_seconds=SOON)
    assert found == ["dropped"]
    assert server.in_flight == 0


def test_what_one_caller_leaves_unread_is_bounded_in_the_kernel_too(connect):
    """Left to itself it would take 4 MB for each connection, and counts them as the pod's memory."""
    body = json.dumps({"columns": ["distance", "hour", "carrier"], "data": [[1400.0, 17, "UA"]] * 200}).encode()
    asked = head(path="/v1/predict/batch", length=len(body)) + body
    total = 0

    async def talk(reader, writer):
        nonlocal total
        with await caller(writer) as quiet:
            send = asyncio.get_running_loop().sock_sendall
            for _ in range(60):
                await send(quiet, asked)
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            ports = writer.get_extra_info("peername")[1], quiet.getsockname()[1]
            (held,) = re.findall(r":{:04X} \S+:{:04X} \S+ (\w+):".format(*ports), Path("/proc/net/tcp").read_text())
            total = int(held, 16)

    connect(talk, max_pipelined=60)
    assert 0 < total < 1 << 19
