"""Answers of the small servers: probes, and admission of whatever is asked."""

import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    """200 to every GET; to a POST the review that allows what it asks about."""

    def do_GET(self) -> None:
        """A probe."""
        self._answer(b"ok")

    def do_POST(self) -> None:
        """Every object is allowed: what is wrong in git is refused before it is merged."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = {"uid": asked["request"]["uid"], "allowed": True}
        self._answer(json.dumps(asked | {"response": response}).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Probes are no news."""


def start(port: int, certificate: Path | None = None, key: Path | None = None) -> None:
    """Serve in a thread, over TLS with a certificate."""
    server = ThreadingHTTPServer(("", port), _Handler)
    if certificate and key:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever).start()


def openssl(*arguments: object, stdin: str = "") -> str:
    """Run openssl; RuntimeError with what it said."""
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def self_signed(name: str, folder: Path) -> tuple[Path, Path]:
    """A certificate that is its own authority: the paths of certificate and key."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    names = ("-subj", f"/CN={name.split('.')[0]}", "-addext", f"subjectAltName=DNS:{name}")
    openssl("req", "-x509", *curve, *names, "-days", "30", "-keyout", key, "-out", certificate)
    return certificate, key
