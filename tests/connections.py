"""What a caller says by a connection of its own."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

BODY = json.dumps({"features": {"distance": 1400.0, "hour": 17, "carrier": "UA"}}).encode()
LIMITS = {"max_head_bytes": 2048, "max_headers": 20, "max_pipelined": 3, "linger_seconds": 0.5}
SOON = 1.0
"""Seconds: a limit whose end a test waits for. Others are the server's own, which a busy machine keeps."""
Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]


def head(*more: str, path: str = "/v1/predict", method: str = "POST", length: int = len(BODY)) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: h", "content-type: application/json", f"content-length: {length}"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


PREDICT = head() + BODY


async def status(reader: asyncio.StreamReader) -> int:
    """Read one answer, whose body is read by its length."""
    text = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()
    length = re.search(r"content-length: (\d+)", text)
    assert length is not None
    await reader.readexactly(int(length[1]))
    return int(text.split()[1])


def saying(*parts: bytes, pause: float = 0.0) -> Say:
    """Send parts and read until the server closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)
        return await asyncio.wait_for(reader.read(), 30)

    return talk
