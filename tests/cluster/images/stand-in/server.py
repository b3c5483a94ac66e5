"""Stands in for the model server: says which release it was given, counts its answers as the real one does."""

import os
import random
import re
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RELEASE = Path(os.environ["SERVING_RELEASE"]).read_text()
VERSION = re.search(r"^  version: (\S+)", RELEASE, re.MULTILINE)[1]  # type: ignore[index]
FAULTY = float(os.environ["FAULTY"])
COUNTS = {"200": 0, "500": 0}
READY = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            lines = [f'serving_requests_total{{route="/v1/predict",status="{s}"}} {n}\n' for s, n in COUNTS.items()]
            self._answer(200, "# TYPE serving_requests_total counter\n" + "".join(lines))
        else:
            self._answer(200 if READY.is_set() or self.path == "/health/live" else 503, "")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = 500 if random.random() < FAULTY else 200
        COUNTS[str(status)] += 1
        self._answer(status, f'{{"version": "{VERSION}"}}')

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def drain(*_: object) -> None:
    READY.clear()
    threading.Timer(5, lambda: os._exit(0)).start()


signal.signal(signal.SIGTERM, drain)
server = ThreadingHTTPServer(("0.0.0.0", 8080), Handler)  # noqa: S104 - a pod's own network
threading.Thread(target=server.serve_forever).start()
READY.set()
while True:
    time.sleep(3600)
