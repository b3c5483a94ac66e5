"""A platform on one machine: PostgreSQL, Redis, MLflow, a git remote and a key pair, for `make dev` and `make demo`."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import services

from plumbline.core import programs
from plumbline.core.digests import sha256

HERE = services.REPOSITORY
PLUMBLINE = HERE / ".venv/bin/plumbline"


@contextmanager
def platform(home: Path, *, fresh: bool = False) -> Iterator[dict[str, str]]:
    """Start it and stop it again; yields what the commands read from the environment.

    What the folder holds from an earlier start is taken up, or removed if `fresh`. Ports are the usual ones where
    nobody listens on them.
    Raises ServiceError where something of it can't be started.
    """
    with ExitStack() as stack:
        stack.enter_context(alone(home))
        if fresh:
            clear(home)
        database = stack.enter_context(services.postgres(home / "postgres", port=services.port_near(5432)))
        redis = stack.enter_context(services.redis(home / "redis", port=services.port_near(6379)))
        mlflow = stack.enter_context(services.mlflow(home / "mlflow", port=services.port_near(5000)))
        keys, origin = home / "keys", home / "origin.git"
        if not keys.exists():
            _ended(programs.run(PLUMBLINE, "promote", "keygen", keys))
        if not origin.exists():
            _ended(programs.git("clone", "-q", "--bare", str(HERE), str(origin)))
            _ended(programs.git("update-ref", "refs/heads/main", "HEAD", cwd=origin))
        yield mlflow.environment | {
            "MONITORING_REDIS_URL": redis,
            "MONITORING_DATABASE_URL": database,
            "MONITORING_METRICS_PORT": "0",
            "FEATURES_REDIS_URL": redis,
            "PROMOTION_SIGNING_KEY": str(keys / "signing-key.pem"),
            "PROMOTION_PUBLIC_KEY": str(keys / "signing-key.pub"),
            "PROMOTION_STORE": (home / "releases").absolute().as_uri(),
            "PROMOTION_REPO": str(origin),
            "SERVER_IMAGE": f"localhost/model-server@{source_digest()}",
            "SERVING_PUBLIC_KEY": str(keys / "signing-key.pub"),
            "SERVING_CACHE_DIR": str(home / "models"),
            "SERVING_REDIS_URL": redis,
            "SERVING_PORT": str(services.port_near(8080)),
            "SERVING_METRICS_PORT": str(services.port_near(8081)),
            "SERVING_DRAIN_SECONDS": "0",
            "PYTHONWARNINGS": "ignore",
        }


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Hold a folder against a second start, which would write into the same files."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise services.ServiceError(f"{home} is in use: stop what runs there first (Ctrl-C)") from error
        yield


def clear(home: Path) -> None:
    """Empty a folder that is held, but for the lock."""
    for path in home.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def source_digest() -> str:
    """No container is built here: the digest of the server's committed sources stands for that of its image."""
    return sha256(_ended(programs.git("archive", "HEAD", "app-src/plumbline", "locks/serving.txt", cwd=HERE)))


def _ended(done: programs.Done) -> bytes:
    if done.code:
        raise services.ServiceError(done.error)
    return done.stdout
