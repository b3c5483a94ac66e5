"""Servers asked once, for four seconds at most, before a command relies on them.

Their clients are patient: MLflow's tries for four and a half minutes, and without an address it makes a database in the
folder where one stands and answers out of that.
"""

import os
import re
import ssl
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from plumbline.core.errors import Accident, Misuse, PlumblineError

SECONDS = 4
_OF_A_SERVICE = {
    "mlflow.exceptions.MlflowException": "MLflow",
    "psycopg.OperationalError": "PostgreSQL",
    "redis.exceptions.ConnectionError": "Redis",
    "redis.exceptions.TimeoutError": "Redis",
}
_MISTAKES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_USER = re.compile(r"(?<=://)[^/@\s]+@")


def tracking_server(address: str | None = None, *, patient: bool = False) -> str:
    """The address of MLflow's tracking server: the environment's MLFLOW_TRACKING_URI where none is given.

    Raises Misuse where there is none or it is not an address, Accident where the server does not answer. With
    `patient` MLflow's client goes on for its minutes where the server is lost later: a training of hours is worth them.
    """
    uri = address or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise Misuse("MLFLOW_TRACKING_URI is not set: name the tracking server, e.g. http://127.0.0.1:5000")
    wrong = Misuse("MLFLOW_TRACKING_URI is not an address; expected one like http://127.0.0.1:5000")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise wrong from error
    if "://" not in uri or (parts.scheme in ("http", "https") and not parts.hostname):
        raise wrong
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Without a way to its maker MLflow's client takes it back in a thread, out of the environment that a call to the
    # server is just reading: a training that fails by chance.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if not patient:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    if parts.scheme in ("http", "https"):
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        try:
            urllib.request.urlopen(f"{place}/health", timeout=SECONDS).close()  # noqa: S310 - its scheme is checked
        except (OSError, HTTPException, ValueError) as error:
            if not _answered(error):
                reason = error.reason if type(error) is URLError else error
                raise Accident(f"MLflow at {place} (MLFLOW_TRACKING_URI) does not answer: {reason}") from error
    return uri


def _answered(error: Exception) -> bool:
    """A gateway says with a 5xx that nobody is behind it. Certificates are for MLflow's client, which has its own."""
    if isinstance(error, HTTPError):
        return error.code < 500
    return isinstance(error, URLError) and isinstance(error.reason, ssl.SSLError)


def postgresql(url: str, variable: str) -> None:
    """Raise Accident where no connection is to be had, and Misuse where the URL is none to libpq."""
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=SECONDS).close()
    except psycopg.OperationalError as error:
        raise Accident(f"PostgreSQL ({variable}): {' '.join(str(error).split())}") from error
    except psycopg.ProgrammingError:
        problem = Misuse(f"{variable} is not an address of PostgreSQL; expected one like postgresql://host:5432/name")
    else:
        return
    raise problem  # outside the handler: libpq's message may hold the password


def redis(url: str, variable: str) -> None:
    """Raise Accident where the server does not answer a PING, and Misuse where the URL is none to redis-py."""
    from redis import Redis, RedisError
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    patience: dict[str, Any] = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
    try:
        with Redis.from_url(url, retry=Retry(NoBackoff(), 0), **patience) as client:
            client.ping()
    except RedisError as error:
        raise Accident(f"Redis ({variable}): {error}") from error
    except (ValueError, TypeError):  # a scheme, port or option that it does not know
        problem = Misuse(f"{variable} is not an address of Redis; expected one like redis://host:6379/0")
    else:
        return
    raise problem  # outside the handler: the message may hold the password


def failure_of_a_service(error: BaseException) -> PlumblineError | None:
    """What a client raised while a command worked, as an error of ours; None for what is a defect of the command.

    Told by the names of their classes: to import MLflow for it would take three seconds.
    """
    for kind in type(error).__mro__:
        if service := _OF_A_SERVICE.get(f"{kind.__module__}.{kind.__qualname__}"):
            mistaken = getattr(error, "error_code", "") in _MISTAKES
            message = _USER.sub("", " ".join(str(error).split()))
            return Misuse(f"{service}: {message}") if mistaken else Accident(f"{service}: {message}")
    return None
