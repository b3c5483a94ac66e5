"""Serves bare repositories over HTTPS as a public host would, by git's own http-backend, and charts as files.

Run as `python -m harness.git_server FOLDER CHARTS ADDRESS PORT CERTIFICATE KEY`; FOLDER holds <owner>/<name>.git,
CHARTS <host>/<path>. Whoever has the token of $GIT_TOKEN as password may push.
"""

import base64
import hmac
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from harness.https import serve


class Handler(BaseHTTPRequestHandler):
    """Hands each request to `git http-backend` as a CGI program."""

    root: Path
    charts: Path
    token: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The first half of a fetch or push, or a chart."""
        path = urlsplit(self.path).path.lstrip("/")
        file = self.charts / self.headers.get("Host", "").partition(":")[0] / path
        if ".." not in path and file.is_file():
            self.send_response(200)
            self.send_header("Content-Length", str(file.stat().st_size))
            self.end_headers()
            self.wfile.write(file.read_bytes())
        else:
            self._serve(b"")

    def do_POST(self) -> None:
        """The second half."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._serve(body)

    def _chunk(self) -> bytes:
        chunk = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return chunk

    def _may_push(self) -> bool:
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        password = base64.b64decode(given).partition(b":")[2] if kind == "Basic" else b""
        return hmac.compare_digest(password, self.token.encode())

    def _serve(self, body: bytes) -> None:
        url = urlsplit(self.path)
        owner, name, *rest = url.path.lstrip("/").split("/")
        pushes = "git-receive-pack" in self.path
        if pushes and not self._may_push():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        environment = os.environ | {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": "/".join(["", owner, name.removesuffix(".git") + ".git", *rest]),
            "QUERY_STRING": url.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": self.client_address[0],
        }
        if pushes:
            environment["REMOTE_USER"] = "token"  # without a user git refuses a push
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Serve until killed."""
    root, charts, address, port, certificate, key = sys.argv[1:]
    Handler.root, Handler.charts, Handler.token = Path(root), Path(charts), os.environ["GIT_TOKEN"]
    serve(Handler, (address, int(port)), Path(certificate), Path(key))


if __name__ == "__main__":
    main()
