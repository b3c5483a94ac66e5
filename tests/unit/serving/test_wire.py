"""An answer leaves in one write, and nothing of it stays behind."""

import asyncio
import socket
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from plumbline.serving.http.wire import protocol_within
from plumbline.serving.settings import Limits

POST = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi"


class Connection(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.socket = socket.socket()  # of the kernel, connected to nobody
        where = {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}
        super().__init__(where | {"socket": self.socket})
        self.written: list[bytes] = []
        self.closed = self.aborted = False
        self.unread = 0

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def talk(app: Any, request: bytes) -> Connection:
    """What an application's answer to a request writes."""

    async def main() -> Connection:
        kind = protocol_within(Limits())
        config = uvicorn.Config(app, http=kind, lifespan="off", log_config=None)
        config.load()
        connection = Connection()
        protocol = kind(config, ServerState(), {})
        protocol.connection_made(connection)
        protocol.data_received(request)
        await asyncio.gather(*protocol.tasks, return_exceptions=True)
        if protocol.timeout_keep_alive_task is not None:
            protocol.timeout_keep_alive_task.cancel()
        return connection

    return asyncio.run(main())


def answering(status: int, *bodies: bytes, fail: bool = False) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-length", b"%d" % sum(map(len, bodies)))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if fail:
            raise RuntimeError("after the head")
        for index, body in enumerate(bodies, 1):
            await send({"type": "http.response.body", "body": body, "more_body": index < len(bodies)})

    return app


@pytest.mark.parametrize("status", [200, 202])
def test_head_and_body_are_one_write(status: int) -> None:
    (written,) = talk(answering(status, b"body"), POST).written
    assert written.startswith(b"HTTP/1.1 %d " % status)
    assert written.endswith(b"\r\n\r\nbody")


def test_of_a_body_in_parts_the_first_goes_with_the_head() -> None:
    first, second = talk(answering(200, b"one", b"two"), POST).written
    assert first.endswith(b"\r\n\r\none")
    assert second == b"two"


def test_a_head_without_a_body_leaves_too() -> None:
    head = talk(answering(200, b"body"), b"HEAD / HTTP/1.1\r\nhost: h\r\n\r\n").written
    assert b"".join(head).endswith(b"content-length: 4\r\n\r\n")
    empty = talk(answering(204, b""), POST).written
    assert b"".join(empty).startswith(b"HTTP/1.1 204 ")


def test_a_head_whose_body_fails_leaves_before_the_connection_closes() -> None:
    connection = talk(answering(200, b"body", fail=True), POST)
    assert b"".join(connection.written).endswith(b"\r\n\r\n")
    assert connection.closed


def test_a_caller_that_waits_is_told_to_go_on_at_once() -> None:
    waiting = POST.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n", 1)
    first, answer = talk(answering(200, b"body"), waiting).written
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.endswith(b"body")


def test_two_requests_of_one_connection_are_answered_in_turn() -> None:
    first, second = talk(answering(200, b"body"), POST + POST).written[:2]
    assert first.endswith(b"body")
    assert second.endswith(b"body")


def test_an_answer_that_is_not_read_keeps_no_connection_that_is_closed() -> None:
    async def main(unread: int) -> Connection:
        kind = protocol_within(Limits(write_seconds=0.05))
        config = uvicorn.Config(answering(200, b"body"), http=kind, lifespan="off", log_config=None)
        config.load()
        connection = Connection()
        connection.unread = unread
        protocol = kind(config, ServerState(), {})
        protocol.connection_made(connection)
        protocol.data_received(POST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
        await asyncio.gather(*protocol.tasks)
        assert connection.closed
        await asyncio.sleep(0.2)
        return connection

    assert asyncio.run(main(10)).aborted
    assert not asyncio.run(main(0)).aborted
