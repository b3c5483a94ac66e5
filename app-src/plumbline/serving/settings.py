"""Everything that can be set from outside, by environment variables that begin with SERVING_."""

import re
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, RedisDsn, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from plumbline.serving.files import stamp_of

_REDIS_OPTIONS = frozenset({"db", "username", "password", "client_name", "health_check_interval"})
_TLS_OPTIONS = frozenset(f"ssl_{name}" for name in ("ca_certs", "ca_path", "cert_reqs", "certfile", "keyfile"))
"""What may follow the ? of the address; the time limits and retries are the server's own."""
_NUMBERS = frozenset({"db", "health_check_interval"})
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,30}", re.ASCII)


def read_role(path: Path) -> str:
    """The role that a file says, empty where it says none yet; raises ValueError for what is no role, or OSError."""
    stamp_of(path)
    role = path.read_text(encoding="utf-8").strip()
    if role and not _ROLE.fullmatch(role):
        raise ValueError(f"{role[:40]!r} is no role; expected small letters, digits and - alone, such as canary")
    return role


class Limits(BaseModel):
    """What callers may ask of a connection, and all of them together of a server."""

    model_config = ConfigDict(frozen=True)

    max_connections: Annotated[int, Field(ge=1)] = 12_000
    """Open at once, at 8 KB each while idle; a new one beyond is told 503, beyond an eighth more it is closed."""
    max_head_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024
    max_headers: Annotated[int, Field(ge=16)] = 100
    max_pipelined: Annotated[int, Field(ge=1)] = 16
    """Requests that may wait on one connection behind the one that is answered; after more it is closed."""
    head_seconds: Annotated[float, Field(gt=0)] = 10
    """How long a new connection, and the head of a request, may take."""
    body_seconds: Annotated[float, Field(gt=0)] = 30
    """How long the body of a request may take after its head."""
    write_seconds: Annotated[float, Field(gt=0)] = 30
    """How long a caller may leave unread what it was answered."""
    linger_seconds: Annotated[float, Field(gt=0)] = 2
    """How long what is still sent after a refusal is read and dropped, so that its sender gets to read the answer."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    max_bytes_in_flight: Annotated[int, Field(ge=1024, validate_default=True)] = 32 * 1024 * 1024
    """Of all bodies that are being read, or whose requests wait for their answers; and of rows that wait, encoded."""
    max_waiting: Annotated[int, Field(ge=1)] = 256
    """Callers that may wait for the model."""
    queue_seconds: Annotated[float, Field(gt=0)] = 4
    """How long a caller may wait for the model to begin with its rows: the gateway gives up after 5 s."""

    @field_validator("max_bytes_in_flight")
    @classmethod
    def _one_body_fits(cls, most: int, info: ValidationInfo) -> int:
        body = info.data.get("max_body_bytes", 0)
        if most < body:
            raise ValueError(f"less than one body, expected SERVING_MAX_BODY_BYTES ({body}) or more")
        return most


class Settings(BaseSettings, Limits):
    """The server's settings. Sizes are in bytes; times are in the unit that ends the name."""

    model_config = SettingsConfigDict(env_prefix="SERVING_", frozen=True, env_ignore_empty=True)

    release: Path
    """The release.yaml that names what is served."""
    public_key: Path
    """PEM, ECDSA P-256: the key that the model's signature must verify with."""
    cache_dir: Path = Path(tempfile.gettempdir()) / "plumbline-models"
    """Verified artifacts, one folder for each digest and version."""
    role: Annotated[str, Field(pattern=f"^{_ROLE.pattern}$")] = "stable"
    """What this pod is in a rollout (stable, canary, …): a label of every metric and logged prediction."""
    role_file: Path | None = None
    """Where the role stands now, for the log: a pod that is promoted goes on, and only its labels change."""

    @field_validator("role_file")
    @classmethod
    def _says_a_role(cls, path: Path | None) -> Path | None:
        """What is no role would be found out long after the start, by who reads the log."""
        try:
            if path is not None:
                read_role(path)
        except UnicodeDecodeError as error:
            raise ValueError("the file is not UTF-8; expected one word, such as canary") from error
        except OSError as error:
            raise ValueError(f"the file cannot be read: {error.strerror}") from error
        return path

    arms: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}(,[A-Za-z0-9._-]{1,64})*$")] = "stable,canary"
    """What x-arm may say, with commas between: each is a series of metrics. Anything else is logged as `other`."""
    gateway_key: Annotated[SecretStr, Field(min_length=16)] | None = None
    """What the gateway alone writes into x-plumbline-gateway. With it, nobody else says arm, subject or mirrored."""
    gateway_key_file: Path | None = None
    """The same from a file, which may change; of several in it, on a line each, any is the gateway's."""

    @field_validator("gateway_key_file")
    @classmethod
    def _alone(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and info.data.get("gateway_key") is not None:
            raise ValueError("SERVING_GATEWAY_KEY is set as well; expected one of them")
        return path

    host: str = "127.0.0.1"
    """An address, or a name of an IPv4 address."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """Where Prometheus asks; callers have no way to it."""
    drain_seconds: Annotated[float, Field(ge=0, le=300)] = 5
    """After SIGTERM the server says unready and still answers for so long, until no gateway sends to it any more."""
    shutdown_seconds: Annotated[int, Field(ge=1, le=600)] = 20
    """After that: how long requests in flight may still take."""
    access_log: bool = True
    log_level: Annotated[str, Field(pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"

    max_batch_rows: Annotated[int, Field(ge=1)] = 1000
    cpus: Annotated[float, Field(gt=0)] | None = None
    """CPUs that the model may use; by default what the container's cgroup allows."""

    redis_url: Annotated[RedisDsn | None, Field(repr=False)] = None
    """Without it there is no prediction log, no feedback, no shared cache or limits and no online features."""

    @field_validator("redis_url")
    @classmethod
    def _known_options(cls, url: RedisDsn | None) -> RedisDsn | None:
        """An option that redis-py does not take would end the task that connects, long after the start."""
        if url is None:
            return None
        allowed = _REDIS_OPTIONS | (_TLS_OPTIONS if url.scheme == "rediss" else frozenset())
        if unknown := sorted({name for name, _ in url.query_params()} - allowed):
            raise ValueError(f"unknown options {unknown}, expected {sorted(allowed)} alone")
        if wrong := sorted({name for name, value in url.query_params() if name in _NUMBERS and not value.isdecimal()}):
            raise ValueError(f"options {wrong} that are no whole numbers")
        return url

    redis_timeout_ms: Annotated[float, Field(gt=0, le=16)] = 15
    """For one call on the way to an answer. It waits for three at most, so that a slow Redis adds under 50 ms."""
    cache_seconds: Annotated[float, Field(ge=0)] = 60
    """How long an answer may be given again; 0 switches the response cache off."""
    cache_entries: Annotated[int, Field(ge=1)] = 10_000
    log_queue: Annotated[int, Field(ge=1)] = 10_000
    """Rows that may wait for Redis in memory; more are dropped and counted."""
    stream_maxlen: Annotated[int, Field(ge=1)] = 1_000_000

    api_keys_file: Path | None = None
    """Hashed API keys with their rates; without it every caller is let in (for a local machine only)."""
    wrong_keys_rate: Annotated[float, Field(gt=0)] = 1
    wrong_keys_burst: Annotated[float, Field(ge=1)] = 20
    """Requests without a known key, from one address: a second, and at once."""
    reload_seconds: Annotated[float, Field(gt=0)] = 5
    """So often is looked whether a file of keys, or of the role, has changed."""

    fetch_timeout_seconds: Annotated[float, Field(gt=0)] = 30
    max_artifact_bytes: Annotated[int, Field(ge=1)] = 2 * 1024**3
