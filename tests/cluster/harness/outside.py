"""What staging and production leave to AWS, each at its own interface: under its name, with a certificate of that name.

PostgreSQL and Redis are Debian's, the S3 API is versitygw, the rest is harness.aws, harness.cloud and, for people,
harness.identity.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from harness import pki
from harness.processes import start, wait_until
from harness.repositories import OURS, TOKEN
from harness.settings import (
    AWS_IP,
    BRIDGE,
    DATABASES_IP,
    IDENTITY_IP,
    POD_IDENTITY_IP,
    ROOT,
    RUNNING,
    S3_DUALSTACK_IP,
    S3_IP,
    S3_LOOPBACK,
    STATE,
)
from plumbline.tree.bootstrap import contents
from plumbline.tree.kubectl import Kubectl
from plumbline.tree.tools import kustomize
from plumbline.tree.values import Values, read_values

FOLDER = STATE / "outside"
_BUCKETS = FOLDER / "buckets"
_RELEASES = "plumbline-releases"
_SHARED = ("signing-key", "public-key")
_TAKEN = FOLDER / "taken-along.json"
_BINARIES = Path("/usr/lib/postgresql/15/bin")
# Of the entries that docs/secrets.md lists, those that clusters/local has no Secret for.
_WRITTEN_BY_PEOPLE = {
    "alertmanager-receivers": {"slack-url": "https://slack.example/x", "pagerduty-key": "none"},
    "people": {"client-id": "people", "client-secret": "none", "cookie-secret": "32-characters-for-this-test-only"},
    "argocd-oidc": {"issuer": "https://id.example", "client-id": "argocd", "client-secret": "none"},
    "grafana": {
        "client-id": "grafana",
        "client-secret": "none",
        **{f"{part}-url": f"https://id.example/{part}" for part in ("api", "auth", "token")},
    },
}
# PostgreSQL ends at once by SIGINT alone.
_AT_ONCE = 'trap \'kill -INT "$child"\' TERM; "$@" & child=$!; wait $child; wait $child'


def is_needed(values: Values) -> bool:
    """Whether an environment stands in a cloud; `local` has all of it in its own workloads."""
    return bool(values.region)


def services(values: Values) -> dict[str, str]:
    """What `terraform output` says of them, by the names that their certificates have."""
    return {
        "PGHOST": f"plumbline-{values.name}.test.{values.region}.rds.amazonaws.com",
        "REDIS_ADDRESS": f"master.plumbline-{values.name}.test.{values.region}.cache.amazonaws.com:6379",
        "PROMOTION_STORE": f"s3://{_RELEASES}",
    }


def names(values: Values) -> dict[str, tuple[str, ...]]:
    """{address: the names that lead there}."""
    if not is_needed(values):
        return {}
    known = services(values)
    return {
        AWS_IP: (f"secretsmanager.{values.region}.amazonaws.com",),
        DATABASES_IP: (known["PGHOST"], known["REDIS_ADDRESS"].partition(":")[0]),
        IDENTITY_IP: (str(urlsplit(values.issuer).hostname),),
    }


def zones(values: Values) -> dict[str, str]:
    """{zone: the address of every name in it}; a bucket is a name."""
    if not is_needed(values):
        return {}
    return {
        f"s3.{values.region}.amazonaws.com": S3_IP,
        f"s3.dualstack.{values.region}.amazonaws.com": S3_DUALSTACK_IP,
        "s3.amazonaws.com": S3_DUALSTACK_IP,
    }


def serve(values: Values, kubectl: Kubectl) -> None:
    """Start all of it."""
    from harness.cloud import STORAGE_CLASS

    FOLDER.mkdir(exist_ok=True)
    for address in (AWS_IP, S3_IP, S3_DUALSTACK_IP, DATABASES_IP, IDENTITY_IP, POD_IDENTITY_IP):
        subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", BRIDGE], check=True)
    secrets = _secrets()
    path = FOLDER / "secrets.json"
    path.touch(0o600)
    path.write_text(json.dumps({f"plumbline/{values.name}/{name}": entry for name, entry in secrets.items()}))
    keys = _keys(secrets["mlflow"])
    _start_aws(values, path, keys)
    _start_identity(values)
    _start_s3(values, keys)
    _start_postgresql(values, secrets["postgresql"]["PGPASSWORD"])
    _start_redis(values, secrets["redis"]["REDIS_PASSWORD"])
    kubectl.apply([STORAGE_CLASS])
    start("cloud", [sys.executable, "-m", "harness.cloud"], _python())


def take_along(values: Values) -> Path | None:
    """What of another environment's cluster outlives it, put beside its folder; None where none ran in a cloud.

    The repository, the released models and the keys that sign them: what environments share.
    """
    before = RUNNING.read_text() if RUNNING.exists() else values.name
    if before == values.name or not (is_needed(values) and is_needed(read_values(ROOT, before))):
        return None
    kept = STATE.with_name(f"{STATE.name}.kept")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(0o700)
    entries = json.loads((FOLDER / "secrets.json").read_text())
    shared = {name: entries[f"plumbline/{before}/{name}"] for name in _SHARED}
    (kept / "secrets.json").write_text(json.dumps(shared))
    for path in (OURS, _BUCKETS / _RELEASES):
        shutil.move(path, kept / path.name)
    return kept


def put_down(kept: Path) -> None:
    """Lay it where the new environment finds it."""
    for path in (OURS, _BUCKETS / _RELEASES):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(kept / path.name, path)
    shutil.move(kept / "secrets.json", _TAKEN)
    kept.rmdir()


def _python() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(ROOT / "tests"), *sys.path])}


def secret(values: Values, name: str) -> dict[str, str]:
    """An entry of the environment's Secrets Manager."""
    entries: dict[str, dict[str, str]] = json.loads((FOLDER / "secrets.json").read_text())
    return entries[f"plumbline/{values.name}/{name}"]


def _secrets() -> dict[str, dict[str, str]]:
    """Drawn as `scripts/bootstrap local` draws them, and what a person writes."""
    found: dict[str, dict[str, str]] = json.loads(_TAKEN.read_text()) if _TAKEN.exists() else {}
    for wanted in yaml.safe_load((ROOT / "clusters/local/secrets.yaml").read_text()):
        if wanted["name"] not in found:
            found[wanted["name"]] = contents(wanted, found)
    for name in ("git", "git-read"):
        found[name] = {"GIT_TOKEN": TOKEN.read_text()}
    return found | _WRITTEN_BY_PEOPLE


def _start_aws(values: Values, secrets: Path, keys: Mapping[str, str]) -> None:
    certificate, key = pki.issue("aws", "aws", hosts=names(values)[AWS_IP])
    command = [sys.executable, "-m", "harness.aws", AWS_IP, certificate, key, secrets]
    start("aws", command, _python() | dict(keys))


def _start_identity(values: Values) -> None:
    certificate, key = pki.issue("identity", "identity", hosts=names(values)[IDENTITY_IP])
    command = [sys.executable, "-m", "harness.identity", IDENTITY_IP, certificate, key, values.issuer]
    start("identity", command, _python())


def _start_s3(values: Values, keys: Mapping[str, str]) -> None:
    """Three doors to the same buckets: pods ask by two domains, each gateway knows one; to this machine none leads."""
    for name in (*(f"{values.buckets}-{part}" for part in ("backups", "logs", "mlflow", "workflows")), _RELEASES):
        (_BUCKETS / name).mkdir(parents=True, exist_ok=True)
    doors: dict[str, list[Any]] = {"s3-loopback": [f"--port={S3_LOOPBACK}"]}
    for name, address in (("s3", S3_IP), ("s3-dualstack", S3_DUALSTACK_IP)):
        domains = [zone for zone, at in zones(values).items() if at == address]
        hosts = tuple(host for domain in domains for host in (domain, f"*.{domain}"))
        certificate, key = pki.issue(name, name, hosts=hosts)
        doors[name] = [f"--port={address}:443", f"--cert={certificate}", f"--key={key}"]
        doors[name].append(f"--virtual-domain={domains[0]}")
    gateway = kustomize().with_name("versitygw").resolve()
    for name, options in doors.items():
        start(name, [gateway, *options, f"--region={values.region}", "posix", _BUCKETS], keys)


def store_on_loopback(values: Values) -> dict[str, str]:
    """The settings of the S3 API for who works on this machine."""
    keys = _keys(secret(values, "mlflow"))
    return {
        "AWS_ENDPOINT_URL_S3": f"http://{S3_LOOPBACK}",
        "AWS_DEFAULT_REGION": values.region,
        "AWS_ACCESS_KEY_ID": keys["ROOT_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": keys["ROOT_SECRET_KEY"],
        "PROMOTION_STORE": services(values)["PROMOTION_STORE"],
    }


def _keys(mlflow: Mapping[str, str]) -> dict[str, str]:
    return {"ROOT_ACCESS_KEY": "AKIATEST", "ROOT_SECRET_KEY": mlflow["MLFLOW_FLASK_SERVER_SECRET_KEY"]}


def _start_postgresql(values: Values, password: str) -> None:
    folder = FOLDER / "postgresql"
    data = folder / "data"
    folder.mkdir()
    hosts = (services(values)["PGHOST"],)
    for path, name in zip(
        pki.issue("postgresql", "postgresql", hosts=hosts), ("server.crt", "server.key"), strict=True
    ):
        shutil.copyfile(path, folder / name)
        (folder / name).chmod(0o600)
        shutil.chown(folder / name, "postgres")
    shutil.chown(folder, "postgres", "postgres")
    as_user: list[str | Path] = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    made: list[str | Path] = [
        _BINARIES / "initdb",
        f"--pgdata={data}",
        "--auth=trust",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]
    subprocess.run([*as_user, *made], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    # As RDS: over TLS alone, with a password.
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 10.244.0.0/16 scram-sha-256\n")
    settings = {
        "listen_addresses": DATABASES_IP,
        "unix_socket_directories": folder,
        "ssl": "on",
        "ssl_cert_file": folder / "server.crt",
        "ssl_key_file": folder / "server.key",
        "dynamic_shared_memory_type": "mmap",
        "fsync": "off",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    server = [*as_user, _BINARIES / "postgres", "-D", data, *options]
    start("postgresql", ["sh", "-c", _AT_ONCE, "sh", *server])
    ask = [*as_user, _BINARIES / "psql", f"--host={folder}", "--dbname=postgres", "--quiet", "--command"]
    create = f"CREATE ROLE plumbline LOGIN CREATEDB CREATEROLE PASSWORD '{password}'"

    def ready() -> bool:
        return subprocess.run([*ask, create], capture_output=True, check=False, cwd=folder).returncode == 0

    wait_until("PostgreSQL", ready, log="postgresql")


def _start_redis(values: Values, password: str) -> None:
    folder = FOLDER / "redis"
    folder.mkdir()
    host = services(values)["REDIS_ADDRESS"].partition(":")[0]
    certificate, key = pki.issue("redis", "redis", hosts=(host,))
    options = {
        "port": 0,
        "tls-port": 6379,
        "bind": DATABASES_IP,
        "tls-cert-file": certificate,
        "tls-key-file": key,
        "tls-ca-cert-file": pki.CA,
        "tls-auth-clients": "no",
        "requirepass": password,
        "dir": folder,
    }
    # An option without a value is one that stands for none.
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    start("redis", ["redis-server", *flags, "--save", ""])
