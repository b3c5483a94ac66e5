"""What a request's framing may say: each way of it is one answer, the same as by any other way, or a refusal in words.

A real socket leads to the protocol and the edge as they are deployed.
"""

import asyncio
import gzip
import re

import pytest
from connections import BODY, PREDICT, head, saying, status

LENGTH = f"content-length: {len(BODY)}"
CHUNKS = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
SMALL = 60_000


def raw(*lines: str, first: str = "POST /v1/predict HTTP/1.1", body: bytes = BODY) -> bytes:
    return "\r\n".join([first, "host: h", "content-type: application/json", *lines, "", ""]).encode("latin-1") + body


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


def test_what_follows_a_body_is_no_field_of_the_head(connect):
    """Else it would be believed, and said where nobody looks for it: key, arm, encoding."""
    fields = b"x-request-id: behind\r\ncontent-encoding: br\r\nexpect: 100-continue\r\n\r\n"
    sent = raw("transfer-encoding: chunked", "x-request-id: before", "connection: close", body=CHUNKS + fields)
    (answer,), _, _ = connect(saying(sent))
    assert statuses(answer) == [200]
    assert b"x-request-id: before\r\n" in answer


def test_a_caller_of_http_1_0_is_told_nothing_before_its_answer(connect):
    old = raw(LENGTH, "expect: 100-continue", first="POST /v1/predict HTTP/1.0")
    (answer,), _, _ = connect(saying(old))
    assert statuses(answer) == [200]


def test_a_whole_answer_is_that_of_parts(connect):
    """A connection that ends with its answer is answered as uvicorn writes it, one that goes on at once."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(PREDICT)
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)

    (whole, parts), _, _ = connect(once, saying(head("connection: close") + BODY))
    names = [
        [line.split(b":")[0] for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")] for answer in (whole, parts)
    ]
    assert [*names[0], b"connection"] == names[1]


@pytest.mark.parametrize(("name", "sent", "expected"), [
    ("two lengths", raw(LENGTH, "content-length: 5"), [400]),
    ("a length twice", raw(LENGTH, LENGTH), [400]),
    ("a list of lengths", raw(f"{LENGTH}, {len(BODY)}"), [400]),
    ("a length with a sign", raw(f"content-length: +{len(BODY)}"), [400]),
    ("a length below nothing", raw("content-length: -1"), [400]),
    ("a length in hexadecimal", raw(f"content-length: {len(BODY):#x}"), [400]),
    ("a length beyond 64 bits", raw("content-length: 18446744073709551616"), [400]),
    ("a length beyond the limit", raw("content-length: 18446744073709551615"), [413]),
    ("a length and chunks", raw(LENGTH, "transfer-encoding: chunked", body=CHUNKS + b"\r\n"), [400]),
    ("chunks twice", raw(*["transfer-encoding: chunked"] * 2, body=CHUNKS + b"\r\n"), [200, 400]),
    ("chunks that are not last", raw("transfer-encoding: chunked, identity", body=CHUNKS + b"\r\n"), [400]),
    ("a space before the colon", raw("transfer-encoding : chunked", body=CHUNKS + b"\r\n"), [400]),
    ("a folded line", raw("x: y", " z", LENGTH), [400]),
    ("a bare return", raw(LENGTH, "x: a\rb: c"), [400]),
    ("a NUL in a value", raw(LENGTH, "x: a\0b"), [400]),
    ("a name of nothing", raw(LENGTH, ": x"), [400]),
    ("a size below nothing", raw("transfer-encoding: chunked", body=b"-1\r\n"), [400]),
    ("a size beyond 64 bits", raw("transfer-encoding: chunked", body=b"1" + b"0" * 16 + b"\r\n"), [400]),
    ("a size in the C way", raw("transfer-encoding: chunked", body=b"0x2\r\n{}\r\n0\r\n\r\n"), [400]),
    ("another version", raw(LENGTH, first="POST /v1/predict HTTP/3.7"), [400]),
    ("no version", b"GET /\r\n\r\n", [404]),
    ("another protocol's beginning", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    ("a method of nobody", raw(LENGTH, first="FROB /v1/predict HTTP/1.1"), [400]),
    ("a method in small letters", raw(LENGTH, first="post /v1/predict HTTP/1.1"), [400]),
    ("a target that is a star", raw(LENGTH, first="OPTIONS * HTTP/1.1"), [404]),
    ("a target without a path", raw(LENGTH, first="POST http://h HTTP/1.1"), [400]),
    ("a target of letters", "POST /v1/prädict HTTP/1.1\r\nhost: h\r\n\r\n".encode(), [400]),
    ("a long name", raw(LENGTH, f"{'x' * SMALL}: y"), [431]),
    ("a proxy's method", b"CONNECT h:443 HTTP/1.1\r\nhost: h\r\n\r\n", [405]),
])  # fmt: skip
def test_a_framing_that_can_be_read_in_two_ways_is_refused(connect, name, sent, expected):
    (answer,), server, _ = connect(saying(sent))
    codes = statuses(answer)
    assert codes in ([code] for code in expected), (name, answer[:500])
    assert codes == [200] or b"problem+json" in answer
    assert server.in_flight == 0
    assert server.bodies.size == 0


@pytest.mark.parametrize(("name", "sent"), [
    ("an absolute target", raw(LENGTH, "connection: close", first="POST http://elsewhere/v1/predict?x=1 HTTP/1.1")),
    ("an escaped path", raw(LENGTH, "connection: close", first="POST /v1/%70redict HTTP/1.1")),
    ("no version to keep", raw(LENGTH, first="POST /v1/predict HTTP/1.0")),
    ("a chunk's extension", raw("transfer-encoding: chunked", "connection: close",
        body=b'%x;a="b";c\r\n%b\r\n0;d\r\n\r\n' % (len(BODY), BODY))),
    ("zeros before a length", raw(f"content-length: 000000{len(BODY)}", "connection: close")),
    ("an expectation of something else", raw(LENGTH, "expect: a-miracle", "connection: close")),
    ("two ids", raw(LENGTH, "x-request-id: one", "x-request-id: two", "connection: close")),
    ("an id that is none", raw(LENGTH, f"x-request-id: {'x' * 500}", "connection: close")),
    ("letters beyond ASCII", raw(LENGTH, "x-api-key: \xff\xfe", "x-arm: \xe9", "x-subject: \xe9", "connection: close")),
    ("many in one", raw(LENGTH, "connection: close, keep-alive, x-api-key")),
])  # fmt: skip
def test_a_framing_that_means_one_thing_is_answered(connect, name, sent):
    (answer,), _, _ = connect(saying(sent))
    assert statuses(answer) == [200], (name, answer[:500])


def test_a_body_that_the_transfer_packs_is_refused_in_plain_words(connect):
    packed = gzip.compress(BODY)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    (answer,), _, _ = connect(saying(raw("transfer-encoding: gzip, chunked", "connection: close", body=chunks)))
    assert statuses(answer) == [400]
    assert b"the transfer encoding is gzip, chunked; expected chunked alone" in answer


def test_who_waits_to_be_told_to_go_on_is_not_told_so_where_he_is_refused(connect):
    """A body that nobody wants is not asked for."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        writer.write(head("expect: 100-continue", path="/v1/nowhere"))
        return await status(reader)

    assert connect(talk)[0] == [404]
