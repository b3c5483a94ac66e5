"""A file that changes is read whole or not at all, and one that never answers keeps nobody else waiting."""

import asyncio
import json
import os
import threading
from typing import Any

import pytest
from changing import in_effect, until

from plumbline.core.documents import DocumentError
from plumbline.serving import files
from plumbline.serving.files import Files
from plumbline.serving.http.keys import read_keys

SHA, OTHER = "0" * 64, "1" * 64
ROW = {"features": {"distance": 1400.0, "hour": 17, "carrier": "UA"}}


def document(*hashes):
    return json.dumps({"keys": [{"name": f"n{sha[0]}", "sha256": sha, "rate": 1} for sha in hashes]})


@pytest.fixture
def watch(serve, bundles, tmp_path):
    """Watch a file of keys, and another one, in a server that is ready; `talk` changes them."""

    def run(talk, read=read_keys):
        path, other = tmp_path / "keys.yaml", tmp_path / "other"
        path.write_text(document(SHA))
        other.write_text("a")
        taken: list[int] = []
        others: list[str] = []

        async def use(client, server):
            server.files.add("KEYS", path, read, lambda ring: taken.append(len(ring._known)))
            server.files.add("OTHER", other, lambda file: file.read_text(), others.append)

            async def shown(value):
                return in_effect(server, "KEYS") == value

            async def change_the_other():
                """It is read on, and requests are answered."""
                other.write_text(f"{len(others)}")
                await until(lambda: _holds(others[-1] == other.read_text()))
                assert (await client.post("/v1/predict", json=ROW)).status_code == 200

            await talk(path, taken, shown, change_the_other)

        serve(bundles["binary"], use, reload_seconds=0.01)
        return taken

    return run


async def _holds(condition):
    return condition


def _lines(caplog):
    return [record.getMessage() for record in caplog.records if "is not taken" in record.getMessage()]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_not_read(watch, caplog, kind):
    async def talk(path, taken, shown, change_the_other):
        path.unlink()
        os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
        await until(lambda: shown(0))
        await change_the_other()
        path.unlink()
        path.write_text(document(SHA, OTHER))
        await until(lambda: shown(1))

    assert watch(talk) == [1, 2]
    (line,) = _lines(caplog)
    assert "KEYS: " in line
    assert "no regular file" in line


def test_a_file_that_never_answers_is_said_and_keeps_nobody_waiting(watch, caplog, monkeypatch):
    """As on a mount that hangs: the read does not return, and nothing can end it."""
    monkeypatch.setattr(files, "LATE_SECONDS", 0.1)
    hangs, answers = threading.Event(), threading.Event()

    def read(path):
        if hangs.is_set():
            answers.wait(60)
        return read_keys(path)

    async def talk(path, taken, shown, change_the_other):
        hangs.set()
        path.write_text(document(SHA, OTHER))
        await until(lambda: shown(0))
        await change_the_other()
        waiting = [thread for thread in threading.enumerate() if thread.name == "read KEYS"]
        assert len(waiting) == 1, "it is asked once, not at every look"
        assert waiting[0].daemon, "the process ends without it"
        assert taken == [1]
        answers.set()
        await until(lambda: shown(1))

    assert watch(talk, read) == [1, 2]
    (line,) = _lines(caplog)
    assert "KEYS: " in line
    assert "no answer within" in line


def test_a_file_that_is_written_while_it_is_read_is_read_again(watch, caplog):
    """Half of it is a whole YAML document with one key of two, which would shut a caller out."""
    reads = []

    def read(path):
        ring = read_keys(path)
        reads.append(len(ring._known))
        if len(reads) == 2:
            path.write_text(document(SHA, OTHER, "2" * 64))
        return ring

    async def talk(path, taken, shown, change_the_other):
        path.write_text(document(SHA, OTHER))
        await until(lambda: _holds(len(taken) == 2))

    assert watch(talk, read) == [1, 3]
    assert reads[:3] == [1, 2, 3]
    assert not _lines(caplog)


def test_a_fault_of_half_a_file_is_none(watch, caplog):
    """The rest is written while the first half is read."""
    reads = []

    def read(path):
        reads.append(path.read_text())
        try:
            return read_keys(path)
        finally:
            if len(reads) == 2:
                path.write_text(document(SHA, OTHER))

    async def talk(path, taken, shown, change_the_other):
        path.write_text(document(SHA, OTHER)[:40])
        await until(lambda: _holds(len(taken) == 2))

    assert watch(talk, read) == [1, 2]
    assert not _lines(caplog)


def test_a_file_that_is_being_written_is_left_alone_for_a_moment(watch, monkeypatch):
    """In parts, each of which could be read as a whole."""
    monkeypatch.setattr("plumbline.serving.files._WRITING_SECONDS", 0.5)
    monkeypatch.setattr("plumbline.serving.files.time.time", lambda: 1000.0)

    async def talk(path, taken, shown, change_the_other):
        path.write_text(document(SHA, OTHER))
        os.utime(path, (999.995, 999.995))
        await asyncio.sleep(0.1)
        assert taken == [1]
        os.utime(path, (999.0, 999.0))
        await until(lambda: _holds(taken == [1, 2]))

    watch(talk)


def test_the_watch_is_begun_again(serve, bundles, tmp_path, monkeypatch):
    real = Files._look
    died: list[int] = []

    def dies_once(self, file):
        if not died:
            died.append(1)
            raise RuntimeError("once")
        real(self, file)

    path = tmp_path / "keys.yaml"
    path.write_text(document(SHA))
    taken: list[Any] = []

    async def use(_, server):
        server.files.add("KEYS", path, read_keys, taken.append)
        monkeypatch.setattr(Files, "_look", dies_once)
        await until(lambda: _holds(died))
        path.write_text(document(OTHER))
        await until(lambda: _holds(len(taken) == 2))
        labels = {**server.metrics.labels, "task": "files"}
        return server.metrics.registry.get_sample_value("serving_task_failures_total", labels)

    assert serve(bundles["binary"], use, reload_seconds=0.01) == 1


def test_a_pipe_is_refused_at_the_start(serve, bundles, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def reason(_, server):
        with pytest.raises(DocumentError, match=f"^KEYS: {pipe}: .*no regular file"):
            server.files.add("KEYS", pipe, read_keys, print)
        return server.reason

    assert "SERVING_PUBLIC_KEY: [Errno 22] no regular file" in serve(bundles["binary"], reason, public_key=pipe)
    assert "no regular file" in serve(bundles["binary"], reason, release=pipe)
