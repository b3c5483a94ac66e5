"""The life of `make dev`: one at a time, kept from start to start, gone when it is asked to be."""

import signal
import socket

import httpx
import psycopg
import pytest
import redis
import services

pytestmark = pytest.mark.timeout(2 * services.STARTUP_SECONDS)
ADDRESSES = 'echo "$MLFLOW_TRACKING_URI $MONITORING_REDIS_URL $MONITORING_DATABASE_URL $PROMOTION_REPO"'
API = "/api/2.0/mlflow/experiments"


def addresses(laptop) -> list[str]:
    return laptop.bash(f"source .dev/env; {ADDRESSES}").split()


def port(url: str) -> int:
    return int(url.rsplit(":", 1)[1].split("/")[0])


def test_it_is_kept_from_start_to_start_until_clean(laptop) -> None:
    with laptop.dev():
        mlflow, cache, database, remote = addresses(laptop)
        httpx.post(f"{mlflow}{API}/create", json={"name": "kept"}).raise_for_status()
        with redis.Redis.from_url(cache) as client:
            client.set("kept", "yes")
        with psycopg.connect(database) as connection:
            connection.execute("CREATE TABLE kept ()")
        laptop.bash("source .dev/env; git commit -q --allow-empty -m kept; git push -q $PROMOTION_REPO HEAD:main")

        refused = laptop.bash("make dev", expect=2)
        assert ".dev is in use: stop what runs there first" in refused
        assert ".dev is in use" in laptop.bash("make dev-clean", expect=2)
        assert addresses(laptop) == [mlflow, cache, database, remote], "the one that runs is not disturbed"
        assert services.answers_http(f"{mlflow}/health")
    for url in (mlflow, cache, database):
        assert not services.accepts(port(url)), f"{url} is still up"
    assert not (laptop.folder / ".dev/env").exists(), "what it says would lead nowhere"

    # Again, without make and until it is told to end, which is not Ctrl-C.
    command = [laptop.folder / ".venv/bin/python", "scripts/dev.py"]
    with laptop.dev(*command, stop=signal.SIGTERM) as running:
        mlflow, cache, database, remote = addresses(laptop)
        httpx.get(f"{mlflow}{API}/get-by-name", params={"experiment_name": "kept"}).raise_for_status()
        with redis.Redis.from_url(cache) as client:
            assert client.get("kept") == b"yes"
        with psycopg.connect(database) as connection:
            connection.execute("SELECT FROM kept")
        assert laptop.bash(f"git -C {remote} log -1 --format=%s main").strip() == "kept"
    assert running.returncode == 0
    assert not [url for url in (mlflow, cache, database) if services.accepts(port(url))]
    assert laptop.bash("git status --porcelain") == ""
    laptop.bash("make dev-clean")
    assert not (laptop.folder / ".dev").exists()


@pytest.mark.parametrize("taken", [True, False])
def test_the_usual_port_where_it_is_free(taken: bool) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        usual = listener.getsockname()[1]
        if taken:
            listener.listen()
        else:
            listener.close()
        assert (services.port_near(usual) == usual) is not taken
