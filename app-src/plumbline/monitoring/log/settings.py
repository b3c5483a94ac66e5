"""Settings of the `monitoring` command, from the environment (prefix MONITORING_)."""

import socket
from typing import Annotated

from pydantic import AnyUrl, Field, RedisDsn, UrlConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where the log is read from and written to, and how patiently."""

    model_config = SettingsConfigDict(env_prefix="MONITORING_", frozen=True)

    redis_url: RedisDsn = RedisDsn("redis://localhost:6379/0")
    database_url: Annotated[AnyUrl, UrlConstraints(allowed_schemes=["postgresql"], host_required=False)] = AnyUrl(
        "postgresql://localhost:5432/monitoring"
    )
    """What it leaves out is libpq's to know: `postgresql:///predictions` with PGHOST, PGUSER and PGPASSWORD."""
    consumer: str = Field(default_factory=socket.gethostname)
    """The name within the consumer group: one per process. A restarted process with its old name goes on at once;
    under a new one its unfinished entries are taken over after `claim_seconds`."""
    batch_entries: Annotated[int, Field(gt=0)] = 200
    claim_seconds: Annotated[float, Field(gt=0)] = 60
    backoff_seconds: Annotated[float, Field(gt=0)] = 5
    """The longest pause between two tries while Redis or PostgreSQL is away."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """0: no metrics are served."""
    retention_days: Annotated[int, Field(gt=0)] = 400
    """Ids with an older time are parked, so that a forged one cannot make a partition of any day it likes."""
