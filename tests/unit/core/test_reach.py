"""Servers that are not named or do not answer: said in one line and in time, whatever the command."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import psycopg
import pytest
from loopback import Quiet, serving
from redis import Redis
from typer.testing import CliRunner

from plumbline.cli import MODULES
from plumbline.core import reach
from plumbline.core.errors import Accident, Misuse

RELEASE = f"""\
apiVersion: plumbline.dev/v1
kind: Release
metadata: {{name: toy, annotations: {{}}}}
spec:
  version: v1.0.0
  image: localhost/model-server@sha256:{"a" * 64}
  artifact:
    uri: s3://releases/flights/{"b" * 64}
    digest: sha256:{"c" * 64}
    schemaDigest: sha256:{"d" * 64}
  lineage: {{registryVersion: "1", run: {"b" * 32}, code: {"e" * 40}, data: "sha256:{"f" * 64}"}}
  evidence: {{gate: "sha256:{"0" * 64}"}}
"""
OF_MLFLOW = [
    "train run --model iris",
    "train data --model iris --work work",
    *(f"train {step} --work work" for step in ("search", "train", "evaluate", "convert", "finish")),
    "train report --model iris --workflow w --status Failed",
    "train runs --model iris",
    "promote list",
    "promote register --run r",
    "promote approve --model toy --version v1.0.0 --env production --reason good",
    "monitor drift --model toy --run r --out out",
]
OF_POSTGRESQL = [
    "migrate",
    "prune --older-than 1d",
    "readout --model toy",
    "experiment --model flights --policies {policies}",
    "consume --until-empty",
]


@pytest.fixture
def closed() -> Iterator[str]:
    """A port that nobody listens on, and nobody else can take."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A port that takes connections and never says a word; it is given up sooner than elsewhere."""
    monkeypatch.setattr(reach, "SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def files(tmp_path: Path, iris: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a release; the current one is beside it, and empty."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files/release.yaml").write_text(RELEASE)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "files"


def said(command: str, code: int) -> str:
    """What a command says; it ends with the code, in one line, in time, and leaves nothing behind."""
    topic, *arguments = command.split()
    app = import_module(f"plumbline.{MODULES[topic]}").app
    began = time.monotonic()
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, (done.output, done.exception)
    # Four seconds, and what a busy machine needs to import the clients; a client of its own accord tries for minutes.
    assert time.monotonic() - began < 30
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(Path().iterdir()) == []
    return done.stderr


@pytest.mark.parametrize("command", OF_MLFLOW)
def test_a_tracking_server_that_is_not_named_is_refused(
    command: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "error: MLFLOW_TRACKING_URI is not set: name the tracking server" in said(command.format(files=files), 2)


@pytest.mark.parametrize("command", OF_MLFLOW)
def test_a_tracking_server_that_is_away_is_said(
    command: str, files: Path, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:secret@{closed}")
    text = said(command.format(files=files), 1)
    assert f"failed: MLflow at http://{closed} (MLFLOW_TRACKING_URI) does not answer: " in text
    assert "secret" not in text


@pytest.mark.parametrize("command", ["train runs --model iris", "promote list"])
@pytest.mark.usefixtures("files")
def test_a_tracking_server_that_never_answers_is_said(
    command: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{silent}")
    assert "does not answer: timed out" in said(command, 1)


@pytest.mark.parametrize("address", ["127.0.0.1:5000", "mlflow", "http://", "http:///mlflow"])
def test_what_is_no_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(Misuse, match="expected one like http://"):
        reach.tracking_server()


def test_patience_is_the_persons_then_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    name, address = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "sqlite:///mlflow.db"
    monkeypatch.setenv(name, "9")
    assert reach.tracking_server(address) == address
    assert os.environ[name] == "9"
    monkeypatch.delenv(name)
    reach.tracking_server(address, patient=True)
    assert name not in os.environ
    reach.tracking_server(address)
    assert os.environ.pop(name) == "2"


@pytest.mark.parametrize(("status", "there"), [(200, True), (401, True), (404, True), (502, False), (503, False)])
def test_a_gateway_with_nobody_behind_it_is_no_answer(status: int, there: bool) -> None:
    class Gateway(Quiet):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

    with serving(Gateway) as address:
        if there:
            assert reach.tracking_server(address) == address
        else:
            with pytest.raises(Accident, match=str(status)):
                reach.tracking_server(address)


@pytest.mark.parametrize(
    ("command", "port"), [*((command, "closed") for command in OF_POSTGRESQL), ("readout --model toy", "silent")]
)
@pytest.mark.usefixtures("files")
def test_postgresql_that_is_away_is_said(
    command: str, port: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "policies/experiments"
    folder.mkdir(parents=True)
    (folder / "flights.yaml").write_text(EXPERIMENT)
    monkeypatch.setattr(reach, "redis", lambda *_: None)  # it is there
    monkeypatch.setenv("MONITORING_DATABASE_URL", f"postgresql://ada:secret@{request.getfixturevalue(port)}/log")
    text = said(f"monitor {command.format(policies=folder.parent)}", 1)
    assert text.startswith("failed: PostgreSQL")
    assert "secret" not in text


@pytest.mark.parametrize("port", ["closed", "silent"])
@pytest.mark.usefixtures("files")
def test_redis_that_is_away_is_said(port: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITORING_REDIS_URL", f"redis://:secret@{request.getfixturevalue(port)}/0")
    text = said("monitor consume --until-empty", 1)
    assert text.startswith("failed: Redis (MONITORING_REDIS_URL): ")
    assert "secret" not in text


def test_mlflows_client_does_not_report_to_its_maker() -> None:
    """Where that fails, it changes the environment in a thread, which breaks whatever reads it."""
    script = (
        "from plumbline.core import reach; reach.tracking_server('sqlite:///x.db')\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
    )
    # It is quiet by itself within a test or CI.
    few = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    done = subprocess.run([sys.executable, "-c", script], env=few, check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"


def test_an_address_that_libpq_does_not_take_is_not_repeated() -> None:
    with pytest.raises(Misuse) as caught:
        reach.postgresql("postgresql://ada:se%zzcret@127.0.0.1/log", "MONITORING_DATABASE_URL")
    assert "expected one like postgresql://" in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret/1@127.0.0.1:6379",
        "redis://:secret@127.0.0.1:99999",
        "redis://:secret@127.0.0.1?secret=1",
        "redis://:secret@127.0.0.1?db=first",
        "redis://:secret@[::1",
        "http://:secret@127.0.0.1",
        "secret",
    ],
)
def test_an_address_that_redis_does_not_take_is_named_and_not_repeated(url: str) -> None:
    with pytest.raises(Misuse) as caught:
        reach.redis(url, "FEATURES_REDIS_URL")
    assert str(caught.value).startswith("FEATURES_REDIS_URL is not an address of Redis; expected one like redis://")
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_service_that_is_lost_on_the_way_is_an_accident_and_a_defect_is_not(closed: str) -> None:
    for service, ask in {
        "PostgreSQL": lambda: psycopg.connect(f"postgresql://{closed}/log"),
        "Redis": lambda: Redis.from_url(f"redis://{closed}", retry=None).ping(),
    }.items():
        with pytest.raises(Exception, match="refused") as lost:
            ask()
        assert str(reach.failure_of_a_service(lost.value)).startswith(f"{service}: ")
    assert reach.failure_of_a_service(psycopg.errors.SyntaxError("SELEC")) is None


EXPERIMENT = """\
apiVersion: plumbline.dev/v1
kind: Experiment
model: flights
control: {role: stable}
treatment: {role: canary}
answersChangeOutcomes: true
share: 0.5
salt: "1"
alpha: 0.05
weeks: [2]
labelDays: 1
minimumCallers: 30
promote: [{metric: accuracy, above: 0, gain: 0.01, deviation: 0.5}]
rollback: [{metric: accuracy, below: 0}]
plan: {power: 0.8, callers: 100, rowsPerDay: 100, callerShare: 0.01, dayShare: 0.01}
"""
