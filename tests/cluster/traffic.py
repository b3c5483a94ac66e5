"""Steady load on loopback, every answer kept with its time."""

import http.client
import json
import threading
import time
from dataclasses import dataclass
from types import TracebackType

_THREADS = 4
_PAUSE = 0.04  # seconds between the requests of one thread: about 100 a second in all


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it ended (monotonic seconds), its status (0 for none) and the version that answered."""

    at: float
    status: int
    version: str


class Traffic:
    """A context manager that sends while it is open."""

    def __init__(self, host: str, port: int, body: str) -> None:
        self._port, self._body = port, body
        self._headers = {"Host": host, "Content-Type": "application/json"}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(_THREADS)]
        self.answers: list[Answer] = []

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def between(self, start: float, end: float) -> list[Answer]:
        """The answers of a window."""
        return [answer for answer in list(self.answers) if start <= answer.at < end]

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self._stop.is_set():
            try:
                connection.request("POST", "/v1/predict", self._body, self._headers)
                response = connection.getresponse()
                body = response.read()
                version = json.loads(body).get("version", "")
                self.answers.append(Answer(time.monotonic(), response.status, version))
            except (OSError, ValueError, http.client.HTTPException):
                self.answers.append(Answer(time.monotonic(), 0, ""))
                connection.close()
            time.sleep(_PAUSE)
