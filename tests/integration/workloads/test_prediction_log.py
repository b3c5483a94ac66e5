"""The consumer of the prediction log as its manifests start it."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import psycopg
import redis
import services

from plumbline.core import ids

from .conftest import eventually
from .rendered import Workload, secrets


def test_it_makes_its_database_stores_and_says_when_a_server_is_away(
    postgres_url: str, role: str, tmp_path: Path
) -> None:
    redis_port, port = services.free_port(), services.free_port()
    here = {"PGHOST": "127.0.0.1", "PGPORT": postgres_url.rsplit(":", 1)[1].split("/")[0]}
    here |= {"REDIS_ADDRESS": f"127.0.0.1:{redis_port}", "MONITORING_METRICS_PORT": str(port)}
    workload = Workload("prediction-log", tmp_path, secrets())
    store = Workload("redis", tmp_path, secrets()).command("StatefulSet", "redis", {}, {})
    store.arguments.extend([f"--port {redis_port}", "--bind 127.0.0.1"])

    migrate = workload.command("Job", "migrate", here, {})
    assert migrate.run().startswith("made the database\napplied 0001")
    assert migrate.run() == "nothing to do\n"

    container = workload.get("Deployment", "prediction-log")["spec"]["template"]["spec"]["containers"][0]

    def answer(kind: str) -> int:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}{container[kind]['httpGet']['path']}").status_code
        return 0

    consumer = workload.command("Deployment", "prediction-log", here, {})
    with consumer.running(tmp_path / "consumer.log", lambda: answer("startupProbe") == 200):
        assert answer("readinessProbe") == 503, "there is no Redis yet"
        with store.running(tmp_path / "redis.log", lambda: services.accepts(redis_port)):
            eventually(lambda: answer("readinessProbe") == 200, within=30)
            client = redis.Redis(port=redis_port, password=secrets()["redis"]["REDIS_PASSWORD"])
            client.xadd("predictions", {"event": json.dumps(prediction())})
            query = "SELECT count(*) FROM monitoring.predictions"
            with psycopg.connect(postgres_url, dbname="predictions", user=role, autocommit=True) as connection:
                eventually(lambda: connection.execute(query).fetchone() == (1,), within=20)
        eventually(lambda: answer("readinessProbe") == 503, within=30)
        assert answer("livenessProbe") == 200, "a restart would not bring Redis back"


def prediction() -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "id": str(UUID(int=ids.floor(now).int | 0x7 << 76 | 0x2 << 62)), "at": now.isoformat(), "model": "flights",
        "version": "v1.0.0", "role": "stable", "arm": "", "subject": "", "request_id": "r",
        "columns": ["distance"], "data": [[1.0]], "outputs": [{"label": "late", "probability": 0.8}], "ms": 0.5,
    }  # fmt: skip
