"""Redis and the object store as their manifests start them."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import redis
import services
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from .rendered import Workload, secrets


def test_redis_wants_a_password_keeps_the_streams_and_survives_a_kill(tmp_path: Path) -> None:
    workload, port = Workload("redis", tmp_path, secrets()), services.free_port()
    command = workload.command("StatefulSet", "redis", {}, {})
    container = workload.get("StatefulSet", "redis")["spec"]["template"]["spec"]["containers"][0]
    probe = [*container["readinessProbe"]["exec"]["command"], "-p", str(port)]
    probe.append(probe.pop(probe.index("ping")))  # options come before the command
    command.arguments.extend([f"--port {port}", "--bind 127.0.0.1"])

    with command.running(tmp_path / "log", lambda: services.accepts(port)) as running:
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        assert subprocess.run(probe, check=False).returncode != 0, "the probe without the password"
        assert subprocess.run(probe, env=os.environ | command.environment, check=False).returncode == 0
        client = redis.Redis(port=port, password=secrets()["redis"]["REDIS_PASSWORD"])
        for number in range(100):
            client.xadd("predictions", {"event": str(number)})
        # Much more than it may hold, all of which expires.
        client.config_set("maxmemory", "16mb")
        for number in range(3_000):
            client.set(f"cache:{number}", os.urandom(10_000), ex=600)
        assert client.info("stats")["evicted_keys"] > 1_000
        assert client.xlen("predictions") == 100
        time.sleep(1.5)  # a second is what it may lose
        running.send_signal(signal.SIGKILL)
        running.wait(10)
    with command.running(tmp_path / "log", lambda: answers(client)):
        assert client.xlen("predictions") == 100


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_the_object_store_has_its_buckets_and_lets_nobody_in_without_a_key(tmp_path: Path) -> None:
    workload, port = Workload("object-store", tmp_path, secrets()), services.free_port()
    workload.init_command("StatefulSet", "object-store").run()
    command = workload.command("StatefulSet", "object-store", {}, {})
    command.arguments[command.arguments.index(":7070")] = f"127.0.0.1:{port}"
    url = f"http://127.0.0.1:{port}"

    def client(**arguments: Any) -> Any:
        return boto3.client("s3", endpoint_url=url, region_name="us-east-1", **arguments)

    with command.running(tmp_path / "log", lambda: services.accepts(port)):
        container = workload.get("StatefulSet", "object-store")["spec"]["template"]["spec"]["containers"][0]
        assert httpx.get(url + container["readinessProbe"]["httpGet"]["path"]).status_code == 200
        keys = secrets()["object-store"]
        root = client(aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"])
        assert {bucket["Name"] for bucket in root.list_buckets()["Buckets"]} == {"mlflow", "workflows", "releases"}
        root.put_object(Bucket="mlflow", Key="a/b", Body=b"bytes")
        assert root.get_object(Bucket="mlflow", Key="a/b")["Body"].read() == b"bytes"
        anonymous = client(config=Config(signature_version=UNSIGNED))
        with pytest.raises(ClientError, match="AccessDenied"):
            anonymous.get_object(Bucket="mlflow", Key="a/b")
        root.put_object(Bucket="releases", Key="m/a", Body=b"released")
    # The second container mounts this one bucket.
    (tmp_path / "door").mkdir()
    (tmp_path / "data/releases").rename(tmp_path / "door/releases")
    door = workload.command("StatefulSet", "object-store", {}, {"/data": str(tmp_path / "door")}, container=1)
    door.arguments[door.arguments.index(":7071")] = f"127.0.0.1:{port}"
    with door.running(tmp_path / "log", lambda: services.accepts(port)):
        keys = secrets()["releases"]
        reader = client(
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"]
        )
        assert reader.get_object(Bucket="releases", Key="m/a")["Body"].read() == b"released"
        assert [bucket["Name"] for bucket in reader.list_buckets()["Buckets"]] == ["releases"]
        for act in (
            lambda: reader.put_object(Bucket="releases", Key="m/a", Body=b"other"),
            lambda: reader.put_object(Bucket="releases", Key="m/b", Body=b"more"),
            lambda: reader.delete_object(Bucket="releases", Key="m/a"),
            lambda: reader.get_object(Bucket="mlflow", Key="a/b"),
            lambda: root.get_object(Bucket="releases", Key="m/a"),
        ):
            with pytest.raises(ClientError, match=r"AccessDenied|NoSuchBucket|UserNotFound"):
                act()
