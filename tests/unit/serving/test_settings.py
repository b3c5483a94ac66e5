"""Settings from the environment, the container's CPUs, and ids."""

import os
import re
import time
import uuid
from pathlib import Path

import pytest
import yaml

from plumbline.core import ids
from plumbline.core.errors import Misuse
from plumbline.core.settings import load
from plumbline.serving.cpus import available_cpus
from plumbline.serving.http.wire import protocol_within
from plumbline.serving.main import app
from plumbline.serving.settings import Limits, Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SERVING_"):
            monkeypatch.delenv(name)

    def put(**values):
        for name, value in ({"SERVING_RELEASE": "/r.yaml", "SERVING_PUBLIC_KEY": "/k"} | values).items():
            monkeypatch.setenv(name, value)

    return put


def test_the_environment_is_read(environment):
    environment(SERVING_PORT="9000", SERVING_ROLE="canary", SERVING_REDIS_URL="")
    settings = load(Settings)
    assert (settings.port, settings.role) == (9000, "canary")
    assert settings.redis_url is None


def test_a_password_is_not_shown(environment):
    environment(SERVING_REDIS_URL="redis://:hidden@x/0")
    assert "hidden" not in repr(load(Settings))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVING_PORT", "70000"),
        ("SERVING_PORT", "http"),
        ("SERVING_ROLE", "Stable One"),
        ("SERVING_REDIS_TIMEOUT_MS", "2000"),
        ("SERVING_REDIS_URL", "http://x"),
        ("SERVING_REDIS_URL", "redis://:hidden@x/0?no_such_option=1"),
        ("SERVING_REDIS_URL", "redis://:hidden@x/0?db=first"),
        ("SERVING_MAX_BATCH_ROWS", "0"),
        ("SERVING_QUEUE_SECONDS", "0"),
        ("SERVING_MAX_BYTES_IN_FLIGHT", "2048"),
    ],
)
def test_a_wrong_variable_is_named_with_what_it_holds(environment, name, value):
    environment(**{name: value})
    shown = "" if name == "SERVING_REDIS_URL" else f"; got '{value}'"  # a URL may hold a password
    with pytest.raises(Misuse, match=f"^{name}: [^;]*{shown}$"):
        load(Settings)


def test_a_body_that_never_finds_room_is_refused_at_the_start(environment):
    environment(SERVING_MAX_BODY_BYTES=str(64 << 20))
    with pytest.raises(Misuse, match=r"^SERVING_MAX_BYTES_IN_FLIGHT: .*SERVING_MAX_BODY_BYTES \(67108864\) or more"):
        load(Settings)
    environment(SERVING_MAX_BYTES_IN_FLIGHT=str(64 << 20))
    assert load(Settings).max_bytes_in_flight == 64 << 20


def test_the_limits_of_the_environment_are_a_connections(environment):
    environment(SERVING_MAX_HEADERS="17", SERVING_WRITE_SECONDS="3")
    limits = protocol_within(load(Settings)).limits
    assert (limits.max_headers, limits.write_seconds, limits.head_seconds) == (17, 3, Limits().head_seconds)


def test_the_queue_refuses_before_the_gateway_gives_up():
    (service,) = yaml.safe_load_all((ROOT / "kustomize/model-server/virtual-service.yaml").read_text())
    timeouts = {float(route["timeout"].removesuffix("s")) for route in service["spec"]["http"]}
    assert Limits().queue_seconds < min(timeouts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "the file is not UTF-8"),
        (b'{"role": "canary"}', "is no role"),
        (b"Stable One", "is no role"),
        (b"c" * 300, "is no role"),
        (None, "cannot be read: no regular file"),
    ],
)
def test_a_role_file_that_says_no_role_is_refused_in_one_line(environment, tmp_path, content, message):
    path = tmp_path / "role"
    path.mkdir() if content is None else path.write_bytes(content)
    environment(SERVING_ROLE_FILE=str(path))
    with pytest.raises(Misuse, match=f"^SERVING_ROLE_FILE: .*{message}") as refused:
        load(Settings)
    assert "\n" not in str(refused.value)


def test_a_role_file_may_be_empty_and_not_missing(environment, tmp_path):
    path = tmp_path / "role"
    environment(SERVING_ROLE_FILE=str(path))
    with pytest.raises(Misuse, match=r"^SERVING_ROLE_FILE: .*No such file"):
        load(Settings)
    path.write_text("\n")  # a pod's label that is not set yet
    assert load(Settings).role_file == path


def test_a_missing_variable_is_named_and_the_process_refuses_to_start(environment, monkeypatch, capsys):
    environment()
    monkeypatch.delenv("SERVING_RELEASE")
    with pytest.raises(SystemExit) as stopped:
        app([], "plumbline serve")
    assert stopped.value.code == 2
    assert "SERVING_RELEASE: Field required; it is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "50000 100000"}, 0.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "25000", "cpu/cpu.cfs_period_us": "100000"}, 0.25),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_cpus_are_those_of_the_cgroup(tmp_path, files, cpus):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cpus(tmp_path) == (cpus or len(os.sched_getaffinity(0)))


def test_prediction_ids_are_uuid7_of_now():
    made = uuid.UUID(text := ids.prediction_id())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert abs((made.int >> 80) / 1000 - time.time()) < 5
    assert re.fullmatch(ids.PREDICTION_PATTERN, text)
    assert re.fullmatch(ids.PREDICTION_PATTERN, f"{text}:12")
    assert not re.fullmatch(ids.PREDICTION_PATTERN, f"{text}:012")
    assert not re.fullmatch(ids.PREDICTION_PATTERN, str(uuid.uuid4()))
    assert ids.prediction_id(1) < ids.prediction_id(2)
    assert len({ids.prediction_id(5) for _ in range(1000)}) == 1000
