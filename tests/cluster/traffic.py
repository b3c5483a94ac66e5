"""Steady load on loopback, every answer kept with its time."""

import base64
import http.client
import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pandas as pd
from mlflow import MlflowClient

from harness.kubectl import Kubectl
from plumbline.core.schema import ModelSchema


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it ended (monotonic seconds), its status (0 for none) and the version that answered."""

    at: float
    status: int
    version: str


class Traffic:
    """Sends while it is open, as a context manager: `threads` connections, each with `pause` seconds between its calls.

    They are from `callers` people, each with a name, or from one: the gateway tells apart names, else keys.
    """

    def __init__(
        self,
        host: str,
        port: int,
        bodies: Sequence[str],
        key: str,
        threads: int = 4,
        pause: float = 0.04,
        callers: int = 0,
    ) -> None:
        self._port, self._bodies, self._pause, self._callers = port, bodies, pause, callers
        self._headers = {"Host": host, "Content-Type": "application/json", "x-api-key": key}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(threads)]
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

    def ask(self, body: str, headers: Mapping[str, str] = {}) -> tuple[int, bytes]:
        """One request on a connection of its own: status and answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("POST", "/v1/predict", body, {**self._headers, **headers})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self._stop.is_set():
            try:
                caller = {"x-subject": f"caller-{random.randrange(self._callers)}"} if self._callers else {}
                connection.request("POST", "/v1/predict", random.choice(self._bodies), self._headers | caller)
                response = connection.getresponse()
                body = response.read()
                version = json.loads(body).get("version", "") if response.status == 200 else ""
                self.answers.append(Answer(time.monotonic(), response.status, version))
            except (OSError, ValueError, http.client.HTTPException):
                self.answers.append(Answer(time.monotonic(), 0, ""))
                connection.close()
            time.sleep(self._pause)


def api_key(kubectl: Kubectl) -> str:
    """The key that scripts/bootstrap made for whoever asks the models."""
    secret = kubectl.get("secret", "api-key", "--namespace=default")
    return base64.b64decode(secret["data"]["API_KEY"]).decode()


def requests_of(mlflow: MlflowClient, run: str, folder: Path) -> list[str]:
    """Bodies for /v1/predict from the rows that a run's model was judged on."""
    schema = Path(mlflow.download_artifacts(run, "bundle/schema.json", str(folder))).read_text()
    names = [field.name for field in ModelSchema.model_validate_json(schema).fields]
    table = pd.read_parquet(mlflow.download_artifacts(run, "evaluation/holdout.parquet", str(folder)))[names]
    rows = json.loads(table.to_json(orient="records"))
    return [
        json.dumps({"features": {name: _whole(value) for name, value in row.items() if value is not None}})
        for row in rows
    ]


def _whole(value: object) -> object:
    """A column with gaps holds whole numbers as 5.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
