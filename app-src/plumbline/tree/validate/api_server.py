"""A Kubernetes API server without nodes: etcd and kube-apiserver on loopback, gone when the caller is done.

It answers to every object as a cluster of the pinned version would: schemas, defaults, admission policies.
"""

import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plumbline.core.errors import Accident
from plumbline.tree import tools

_READY_SECONDS = 120


class ApiServerError(Accident):
    """The API server did not start; the message holds the end of the log of what failed."""


@contextmanager
def api_server() -> Iterator[httpx.Client]:
    """A client that may do everything on an empty API server. Raises ApiServerError."""
    if not (tools.api_server() / "kube-apiserver").exists():
        raise ApiServerError("the API server is missing: run `make api-server`")
    with TemporaryDirectory(prefix="api-server-") as folder, ExitStack() as stack:
        state = Path(folder)
        port, etcd_port, peer_port = _free_ports(3)
        token = secrets.token_urlsafe(32)
        stack.enter_context(_process(state, "etcd", _etcd(state, etcd_port, peer_port)))
        server = stack.enter_context(_process(state, "kube-apiserver", _server(state, port, etcd_port, token)))
        yield stack.enter_context(closing(_ready_client(state, server, f"https://127.0.0.1:{port}", token)))


def _etcd(state: Path, port: int, peer_port: int) -> dict[str, object]:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return {
        "name": "validate",
        "data-dir": state / "etcd",
        "unsafe-no-fsync": "true",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"validate={peer}",
    }


def _server(state: Path, port: int, etcd_port: int, token: str) -> dict[str, object]:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (state / "tokens.key").write_bytes(pem)
    (state / "tokens.csv").write_text(f"{token},validate,validate,system:masters\n", encoding="utf-8")
    return {
        "etcd-servers": f"http://127.0.0.1:{etcd_port}",
        "bind-address": "127.0.0.1",
        "advertise-address": "127.0.0.1",
        # No other API server and no node ever asks where this one is; loopback would be refused as an endpoint.
        "endpoint-reconciler-type": "none",
        "secure-port": port,
        "cert-dir": state,
        "token-auth-file": state / "tokens.csv",
        "authorization-mode": "RBAC",
        "service-account-issuer": "https://validate.invalid",
        "service-account-key-file": state / "tokens.key",
        "service-account-signing-key-file": state / "tokens.key",
        "service-cluster-ip-range": "10.0.0.0/24",
        # Pods name service accounts that only a controller would make.
        "disable-admission-plugins": "ServiceAccount",
    }


@contextmanager
def _process(state: Path, name: str, flags: dict[str, object]) -> Iterator["subprocess.Popen[bytes]"]:
    command = [str(tools.api_server() / name), *(f"--{flag}={value}" for flag, value in flags.items())]
    with (state / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=state)
    try:
        yield process
    finally:
        process.kill()  # what it holds is thrown away
        process.wait()


def _ready_client(state: Path, server: "subprocess.Popen[bytes]", url: str, token: str) -> httpx.Client:
    """A client, once the server answers; until then the certificate that it makes for itself may be half written."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        with suppress(OSError, httpx.TransportError):
            trust = ssl.create_default_context(cafile=str(state / "apiserver.crt"))
            headers = {"Authorization": f"Bearer {token}"}
            client = httpx.Client(base_url=url, headers=headers, verify=trust, timeout=60, trust_env=False)
            if client.get("/readyz").is_success:
                return client
            client.close()
        if server.poll() is not None or time.monotonic() > deadline:
            reason = f"not ready after {_READY_SECONDS} s" if server.poll() is None else "ended"
            logs = [path.read_text(errors="replace")[-1500:] for path in sorted(state.glob("*.log"))]
            raise ApiServerError(f"kube-apiserver: {reason}\n" + "\n".join(logs))
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]
