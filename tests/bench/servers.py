"""The servers under test: how each is started, what it is sent, where the numbers stand in its answer."""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import services

from bench.environments import SERVING, python_of
from bench.load import SERVER_CORE, LoadError, Requests, pinned
from bench.subject import Rows, Subject, named

HANDLERS = Path(__file__).parent / "handlers"
Body = Callable[[Subject, Rows], Any]
Start = Callable[[Path, Subject, int], tuple[list[str | Path], Mapping[str, str]]]
"""(folder, subject, port) → the command and its environment."""
HEAD, _HEAD_SIZE = "inference-header-content-length", 256


@dataclass(frozen=True)
class Kind:
    """One kind of server."""

    name: str
    start: Start
    paths: tuple[str, str]
    """For one row and for a batch."""
    bodies: tuple[Body, Body]
    read: Callable[[Any], Any]
    """The probabilities in an answer, in any nesting."""
    version: tuple[str, str] | None = None
    """The lock and the package that say which version it is; None for what is of this repository."""
    headers: Mapping[str, str] = field(default_factory=dict)
    peer: bool = False
    checked: bool = True

    def requests(self, subject: Subject, port: int) -> dict[str, Requests]:
        """What is sent in the case of one row and in that of a batch."""
        headers = {"content-type": "application/json", **self.headers}
        sent: dict[str, list[Rows]] = {
            "one": [[row] for row in subject.rows],
            "many": [rows for _, rows in subject.batches()],
        }
        return {
            case: Requests(
                f"http://127.0.0.1:{port}{path}",
                [encoded(body(subject, rows)) for rows in sent[case]],
                headers,
            )
            for case, path, body in zip(sent, self.paths, self.bodies, strict=True)
        }


@dataclass
class Running:
    """A server that answers."""

    kind: Kind
    requests: dict[str, Requests]
    pid: int
    ready: float
    """Seconds from the start of its process to its first right answer."""
    port: int

    def check(self, subject: Subject) -> None:
        """Compare answers with scikit-learn's; raises LoadError."""
        if not self.kind.checked:
            return
        for case, expected in (("one", subject.expected), ("many", subject.expected)):
            size = 1 if case == "one" else len(subject.batches()[0][1])
            for index, body in enumerate(self.requests[case].bodies[:40]):
                answer = np.array(self.kind.read(post(self.requests[case], body)), float).reshape(size, -1)
                wanted = expected[index * size : (index + 1) * size]
                if not np.allclose(answer[:, 1], wanted, atol=1e-5):
                    raise LoadError(f"{self.kind.name}: wrong answer to {body[:200]!r}: {answer[:3]}, not {wanted[:3]}")

    def memory(self) -> float:
        """MB that its processes hold alone, and their share of what they hold together."""
        return sum(_proportional(pid) for pid in _family(self.pid)) / 1024

    def cpu(self) -> float:
        """Seconds of CPU that its processes have used."""
        ticks = 0
        for pid in _family(self.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(kind: Kind, subject: Subject, folder: Path, core: int = SERVER_CORE) -> Iterator[Running]:
    """Start a server on a core and stop it after the block."""
    port = services.free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command, environment = kind.start(folder, subject, port)
    requests = kind.requests(subject, port)
    begun = time.perf_counter()
    with services.process(
        pinned(core, command),
        ready=lambda: _answers(requests["one"]),
        log=folder / "log",
        environment={"PORT": str(port), "MODEL": str(subject.bundle.folder), "OMP_NUM_THREADS": "1", **environment},
        poll=0.01,
    ) as process:
        _keep_priority(process.pid)
        yield Running(kind, requests, process.pid, time.perf_counter() - begun, port)


def post(requests: Requests, body: bytes) -> Any:
    """One request; its answer as JSON, or as the numbers of its only binary tensor."""
    asked = urllib.request.Request(requests.url, body, dict(requests.headers))  # noqa: S310 - loopback
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
        content, head = answer.read(), answer.headers.get(HEAD)
    return json.loads(content) if head is None else np.frombuffer(content[int(head) :], np.float32)


def encoded(body: Any) -> bytes:
    """As it is sent: JSON, or bytes as they are."""
    return body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()


def _answers(requests: Requests) -> bool:
    try:
        post(requests, requests.bodies[0])
    except (OSError, ValueError):
        return False
    return True


def _keep_priority(pid: int) -> None:
    """A session of its own is a scheduling group of its own, which forgot the nice value that it was started with."""
    nice = os.nice(0)
    for member in _family(pid):
        group = Path(f"/proc/{member}/autogroup")
        if nice < 0 and group.exists():
            group.write_text(str(nice))


def _family(pid: int) -> list[int]:
    """A process and what it started."""
    found = [pid]
    for child in (Path(f"/proc/{pid}/task/{pid}/children")).read_text().split():
        found += _family(int(child))
    return found


def _proportional(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    return 0.0


def _handler(lock: str | None, name: str) -> Start:
    """A file of handlers/ in a peer's environment, or in the server's own."""

    def start(_: Path, __: Subject, ___: int) -> tuple[list[str | Path], Mapping[str, str]]:
        return [python_of(lock) if lock else SERVING, HANDLERS / f"{name}.py"], {}

    return start


def _mlserver(folder: Path, _: Subject, port: int) -> tuple[list[str | Path], Mapping[str, str]]:
    document = {"name": "model", "implementation": "mlserver_ort.OnnxModel"}
    (folder / "model-settings.json").write_text(json.dumps(document))
    environment = {
        "PYTHONPATH": str(HANDLERS),
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(services.free_port()),
        "MLSERVER_METRICS_PORT": str(services.free_port()),
        "MLSERVER_PARALLEL_WORKERS": "0",  # in the server's own process, which is three times as fast
        "MLSERVER_HOST": "127.0.0.1",
    }
    return [python_of("mlserver").with_name("mlserver"), "start", folder], environment


def _bentoml(folder: Path, _: Subject, port: int) -> tuple[list[str | Path], Mapping[str, str]]:
    environment = {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    bentoml = python_of("bentoml").with_name("bentoml")
    return [bentoml, "serve", "bentoml_ort:OnnxService", "--working-dir", HANDLERS, "-p", str(port)], environment


def _mlflow(folder: Path, subject: Subject, port: int) -> tuple[list[str | Path], Mapping[str, str]]:
    import subprocess

    python = python_of("mlflow")
    code = (
        "import mlflow.onnx, onnx, sys, numpy as np\n"
        "from mlflow.models import infer_signature\n"
        "rows = np.zeros((1, int(sys.argv[3])), np.float32)\n"
        "mlflow.onnx.save_model(onnx.load(sys.argv[1]), sys.argv[2], signature=infer_signature({'features': rows}))\n"
    )
    model, saved = subject.bundle.folder / "model.onnx", folder / "saved"
    if not saved.exists():
        subprocess.run([python, "-W", "ignore", "-c", code, model, saved, str(len(subject.names))], check=True)
    command: list[str | Path] = [
        python,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        saved,
        "-p",
        str(port),
        "--env-manager",
        "local",
    ]
    return command, {"PATH": f"{python.parent}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}


def _rows(_: Subject, rows: Rows) -> Any:
    return {"rows": rows}


def _tensor(_: Subject, rows: Rows) -> Any:
    flat = [value for row in rows for value in row]
    shape = [len(rows), len(rows[0])]
    return {"inputs": [{"name": "features", "shape": shape, "datatype": "FP32", "data": flat}]}


def binary_tensor(subject: Subject, rows: Rows) -> bytes:
    """A request of the Open Inference Protocol with binary tensors both ways; its JSON has one size for all."""
    raw = np.array(rows, np.float32).tobytes()
    tensor = {"name": "features", "shape": [len(rows), len(rows[0])], "datatype": "FP32"}
    outputs = [{"name": subject.bundle.schema.output.tensor, "parameters": {"binary_data": True}}]
    document = {"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}], "outputs": outputs}
    return encoded(document).ljust(_HEAD_SIZE) + raw


def in_binary(kind: Kind) -> Kind:
    """The same server, asked by binary tensors."""
    path = f"/v2/models/{'subject' if kind.version is None else 'model'}/infer"
    headers = {**kind.headers, "content-type": "application/octet-stream", HEAD: str(_HEAD_SIZE)}
    return replace(
        kind, paths=(path, path), bodies=(binary_tensor, binary_tensor), read=lambda numbers: numbers, headers=headers
    )


def _simple(name: str, start: Start, path: str, body: Body, read: Callable[[Any], Any], **more: Any) -> Kind:
    return Kind(name, start, (path, path), (body, body), read, **more)


ECHO = _simple("uvicorn echo", _handler(None, "echo"), "/", _rows, lambda answer: answer, checked=False)
MINIMAL = _simple(
    "minimal FastAPI + ORT", _handler(None, "minimal"), "/predict", _rows, lambda answer: answer["probabilities"]
)
PEERS = (
    _simple(
        "KServe Python server", _handler("kserve", "kserve_ort"), "/v1/models/model:predict",
        lambda _, rows: {"instances": rows}, lambda answer: answer["predictions"],
        version=("kserve", "kserve"), peer=True,
    ),
    _simple(
        "MLServer, in process", _mlserver, "/v2/models/model/infer", _tensor,
        lambda answer: answer["outputs"][0]["data"], version=("mlserver", "mlserver"), peer=True,
    ),
    _simple(
        "mlflow models serve", _mlflow, "/invocations",
        lambda _, rows: {"inputs": {"features": rows}}, lambda answer: answer["predictions"]["probabilities"],
        version=("mlflow", "mlflow"), peer=True,
    ),
    _simple(
        "LitServe", _handler("litserve", "litserve_ort"), "/predict", _rows, lambda answer: answer["probabilities"],
        version=("litserve", "litserve"), peer=True,
    ),
    _simple(
        "BentoML", _bentoml, "/predict", _rows, lambda answer: answer, version=("bentoml", "bentoml"), peer=True,
    ),
)  # fmt: skip


def answered(answer: Any) -> Any:
    """The probabilities in an answer of ours."""
    predictions = answer["predictions"] if "predictions" in answer else [answer["prediction"]]
    return [list(prediction["probabilities"].values()) for prediction in predictions]


def features(subject: Subject, rows: Rows) -> Any:
    """One row by its names."""
    return {"features": named(subject.names, rows[0])}


def by_name(subject: Subject, rows: Rows) -> Any:
    """A batch of rows by their names."""
    return {"rows": [named(subject.names, row) for row in rows]}


def matrix(subject: Subject, rows: Rows) -> Any:
    """A batch with the names once."""
    return {"columns": subject.names, "data": rows}
