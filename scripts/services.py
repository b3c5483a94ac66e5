"""The services that the platform leans on, started for real on one machine: the demo and the tests use them.

Each is a context manager that picks a free port on loopback, keeps its data below the folder it is given, waits until
it answers, and stops what it started. A missing program raises ServiceError with the command that installs it.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
STARTUP_SECONDS = 300


class ServiceError(RuntimeError):
    """A service that is not installed or did not come up; the message says what to do."""


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 API with one bucket."""

    url: str
    access_key: str
    secret_key: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        """What an AWS client reads."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": self.url,
            "MLFLOW_S3_ENDPOINT_URL": self.url,
        }


@dataclass(frozen=True, slots=True)
class Mlflow:
    """An MLflow tracking server; user and password are empty where it has no sign-in."""

    url: str
    username: str = ""
    password: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What an MLflow client reads."""
        signed_in = {"MLFLOW_TRACKING_USERNAME": self.username, "MLFLOW_TRACKING_PASSWORD": self.password}
        return {"MLFLOW_TRACKING_URI": self.url} | (signed_in if self.username else {})


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_near(usual: int) -> int:
    """The usual port of a service, or another one where somebody listens on it."""
    return free_port() if accepts(usual) else usual


def program(name: str, install: str, *, also_in: Sequence[str] = ()) -> str:
    """The path of a program; raises ServiceError that says how to install it."""
    location = shutil.which(name) or next(
        (str(path) for pattern in also_in for path in sorted(Path("/").glob(pattern), reverse=True)), None
    )
    if location is None:
        raise ServiceError(f"{name} is not installed: run `{install}`")
    return location


@contextmanager
def process(
    command: Sequence[str | Path],
    *,
    ready: Callable[[], bool],
    log: Path,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
    poll: float = 0.05,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends; raises ServiceError with the end of its log if it does not become ready.

    `ready` is asked every `poll` seconds.
    """
    name = Path(command[0]).name
    with log.open("ab") as output:
        running = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            **_as(user),
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + STARTUP_SECONDS
        while not ready():
            if running.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                state = "stopped" if running.poll() is not None else f"is not ready after {STARTUP_SECONDS} s"
                raise ServiceError(f"{name} {state}; the end of {log}:\n{tail}")
            time.sleep(poll)
        yield running
    finally:
        _stop(running, stop)


def _as(user: str | None) -> dict[str, Any]:
    """Arguments of a subprocess that drop every right of ours for those of `user`."""
    return {"user": user, "group": user, "extra_groups": []} if user else {}


def _stop(running: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Ask first, and end the whole process group if it has not gone in 15 s."""
    if running.poll() is None:
        running.send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            running.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait(15)


def answers_http(url: str) -> bool:
    """Whether a GET is answered with a status below 500."""
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - loopback URLs of this file
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def accepts(port: int) -> bool:
    """Whether something listens on a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def redis(directory: Path, *, port: int | None = None) -> Iterator[str]:
    """A Redis server that keeps every write; yields its URL. The same folder and port give the same data again."""
    binary = program("redis-server", "apt-get install redis-server")
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--appendonly", "yes"]
    with process([binary, *options, "--save", ""], ready=lambda: accepts(port), log=directory / "redis.log"):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def postgres(directory: Path, *, port: int | None = None) -> Iterator[str]:
    """A PostgreSQL server; yields the URL of its `postgres` database. An existing folder is started as it is."""
    server = ["usr/lib/postgresql/*/bin/postgres"]
    binary = program("postgres", "apt-get install postgresql", also_in=server)
    port = port or free_port()
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    data = directory / "data"
    if not data.exists():
        directory.mkdir(parents=True, exist_ok=True)
        if user:
            shutil.chown(directory, user)
            _open_way_to(directory)
        initdb = program("initdb", "apt-get install postgresql", also_in=["usr/lib/postgresql/*/bin/initdb"])
        subprocess.run(
            [initdb, "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"],
            check=True,
            cwd=directory,
            stdout=subprocess.DEVNULL,
            **_as(user),
        )
    options = [
        "-D",
        str(data),
        "-p",
        str(port),
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        f"unix_socket_directories={directory}",
    ]
    isready = program("pg_isready", "apt-get install postgresql", also_in=["usr/lib/postgresql/*/bin/pg_isready"])
    # It listens before it has recovered; until then it answers that it is starting up.
    probe = [isready, "-q", "-h", "127.0.0.1", "-p", str(port)]
    with process(
        [binary, *options],
        ready=lambda: subprocess.run(probe, check=False).returncode == 0,
        log=directory / "postgres.log",
        user=user,
        stop=signal.SIGINT,
    ):
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"


def _open_way_to(directory: Path) -> None:
    """Let another user pass through the folders above; temporary ones are closed to all but their owner."""
    for parent in directory.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)


@contextmanager
def s3(directory: Path, *, bucket: str = "artifacts") -> Iterator[S3]:
    """An S3 API (versitygw over a folder) with one bucket."""
    binary = program("versitygw", "make tools", also_in=[str(REPOSITORY / ".cache/bin/versitygw").lstrip("/")])
    port = free_port()
    (directory / "buckets" / bucket).mkdir(parents=True, exist_ok=True)
    store = S3(f"http://127.0.0.1:{port}", "plumbline", "plumbline-secret", bucket)
    credentials = {"ROOT_ACCESS_KEY": store.access_key, "ROOT_SECRET_KEY": store.secret_key}
    with process(
        [binary, "--port", f"127.0.0.1:{port}", "posix", directory / "buckets"],
        ready=lambda: accepts(port), log=directory / "s3.log", environment=credentials,
    ):  # fmt: skip
        yield store


@contextmanager
def mlflow(
    directory: Path,
    *,
    port: int | None = None,
    backend: str | None = None,
    store: S3 | None = None,
    auth_database: str | None = None,
) -> Iterator[Mlflow]:
    """An MLflow tracking server that proxies its artifacts.

    backend: a database URL; SQLite in the folder without one. store: an S3 API; a folder without one.
    auth_database: the URL of a database for users and permissions; no sign-in without one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    username, password = ("admin", "local-admin-password") if auth_database else ("", "")
    server = Mlflow(f"http://127.0.0.1:{port}", username, password)
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [program("mlflow", "make install", also_in=[str(REPOSITORY / ".venv/bin/mlflow").lstrip("/")]), "server"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", backend or f"sqlite:///{directory}/mlflow.db"]
    command += ["--artifacts-destination", f"s3://{store.bucket}/mlflow" if store else str(directory / "artifacts")]
    if store:
        environment |= store.environment
    if auth_database:
        command += ["--app-name", "basic-auth"]
        configuration = directory / "auth.ini"
        configuration.write_text(
            f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = {auth_database}\n"
            f"admin_username = {username}\nadmin_password = {password}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        environment |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": os.urandom(16).hex(),
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        }
    with process(
        command,
        ready=lambda: answers_http(f"{server.url}/health"),
        log=directory / "mlflow.log",
        environment=environment,
    ):
        yield server
