"""The tracking server as its manifests start it: PostgreSQL, the object store, hooks, sign-in, two replicas."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import mlflow
import pytest
import services
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests import HTTPError

from .rendered import ROOT, Command, Workload, secrets

# Two servers that import MLflow, and six commands: a minute, and several on a machine that is busy elsewhere.
pytestmark = pytest.mark.timeout(900)
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=10"
# As app-src/mlflow-server/Dockerfile lays them out.
PROGRAMS = {"/app": str(ROOT / "app-src/mlflow-server")}


@dataclass(frozen=True, slots=True)
class Server:
    replicas: tuple[str, str]
    metrics: str
    """Of the second replica."""
    accounts: Command
    """The hook, to run it again."""
    passwords: dict[str, str]

    def get(self, path: str, account: str = "", replica: int = 0, **arguments: object) -> httpx.Response:
        auth = (account, self.passwords[account]) if account else None
        return httpx.get(self.replicas[replica] + path, auth=auth, timeout=30, **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres_url: str, role: str, s3: services.S3) -> Iterator[Server]:
    """The migration, twice; two replicas; the accounts."""
    values = secrets() | {"object-store": {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}}
    here = {"PGHOST": "127.0.0.1", "PGPORT": postgres_url.rsplit(":", 1)[1].split("/")[0]}
    here |= {"AWS_ENDPOINT_URL_S3": s3.url, "MLFLOW_ARTIFACTS": f"s3://{s3.bucket}/deployed"}

    def workload() -> Workload:
        return Workload("mlflow", tmp_path_factory.mktemp("pod"), values)

    migrate = workload().command("Job", "migrate", here, PROGRAMS)
    assert "made the database mlflow\n" in migrate.run(), "an empty server"
    assert "made" not in migrate.run(), "a server that has them"
    with ExitStack() as stack:
        urls = []
        for _ in range(2):
            pod, port = workload(), services.free_port()
            # Names of loopback, as a port-forward has them: bare addresses are refused.
            urls.append(f"http://localhost:{port}")
            command = pod.command("Deployment", "mlflow", here | {"MLFLOW_PORT": str(port)}, {})
            ready = partial(services.answers_http, f"{urls[-1]}{probe(pod)}")
            stack.enter_context(command.running(tmp_path_factory.mktemp("log") / "mlflow.log", ready))
        # The last replica's second container.
        here |= {"MLFLOW_PORT": str(port), "METRICS_PORT": str(services.free_port())}
        beside = pod.command("Deployment", "mlflow", here, PROGRAMS, container=1)
        metrics = f"http://localhost:{here['METRICS_PORT']}/metrics"
        log = tmp_path_factory.mktemp("log") / "metrics.log"
        stack.enter_context(beside.running(log, partial(services.answers_http, metrics)))
        accounts = workload().command("Job", "accounts", {"MLFLOW_TRACKING_URI": urls[0]}, PROGRAMS)
        accounts.run()
        passwords = {
            name: keys["MLFLOW_TRACKING_PASSWORD"] for name, keys in values.items() if name.startswith("mlflow-")
        }
        passwords["admin"] = values["mlflow"]["MLFLOW_AUTH_ADMIN_PASSWORD"]
        yield Server((urls[0], urls[1]), metrics, accounts, passwords)


def probe(workload: Workload) -> str:
    """The path that all probes ask for."""
    container = workload.get("Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]
    (path,) = {container[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
    return str(path)


@pytest.fixture
def workflows(server: Server, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client signed in as Workflows are."""
    sign_in(server, "mlflow-workflows", monkeypatch)
    return MlflowClient(server.replicas[0])


def sign_in(server: Server, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", account)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.passwords[account])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.parametrize("path", [SEARCH, "/metrics", "/version", "/api/2.0/mlflow-artifacts/artifacts", "/"])
def test_nobody_in_particular_is_refused(server: Server, path: str) -> None:
    for replica in range(2):
        assert server.get(path, replica=replica).status_code == 401


def test_a_wrong_password_is_refused(server: Server) -> None:
    answer = httpx.get(server.replicas[0] + SEARCH, auth=("admin", "not-the-password"), timeout=30)
    assert answer.status_code == 401


def test_each_account_has_what_accounts_yaml_gives_it(
    server: Server, workflows: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = workflows.create_experiment("flights/training")
    run = workflows.create_run(experiment).info
    content = os.urandom(3_000_000)
    (tmp_path / "model.onnx").write_bytes(content)
    workflows.log_artifact(run.run_id, str(tmp_path / "model.onnx"))
    workflows.create_registered_model("flights")
    version = workflows.create_model_version("flights", f"{run.artifact_uri}/model.onnx", run.run_id).version
    workflows.set_registered_model_alias("flights", "staging", version)

    # The other replica knows it all, and model servers may fetch and nothing else.
    sign_in(server, "mlflow-models", monkeypatch)
    reader = MlflowClient(server.replicas[1])
    mlflow.set_tracking_uri(server.replicas[1])
    (tmp_path / "fetched").mkdir()
    fetched = Path(reader.download_artifacts(run.run_id, "model.onnx", str(tmp_path / "fetched")))
    assert fetched.read_bytes() == content
    for attempt in (
        lambda: reader.log_artifact(run.run_id, str(tmp_path / "model.onnx"), "more"),
        lambda: reader.set_tag(run.run_id, "quality", "best"),
        lambda: reader.set_registered_model_alias("flights", "production", version),
        lambda: reader.delete_experiment(experiment),
    ):
        with pytest.raises((MlflowException, HTTPError), match=r"403|Permission denied"):
            attempt()


def test_metrics_are_on_a_port_of_their_own(server: Server) -> None:
    server.get(SEARCH, "admin", replica=1)
    answer = httpx.get(server.metrics)
    assert answer.status_code == 200
    assert "mlflow_http_request_total" in answer.text


def test_a_foreign_host_or_page_is_refused(server: Server) -> None:
    assert server.get(SEARCH, "admin", headers={"Host": "mlflow.mlflow.svc:5000"}).status_code == 200
    for host in ("evil.example", "10.244.0.7:5000", "mlflow.mlflow.svc.evil.example:5000"):
        assert server.get(SEARCH, "admin", headers={"Host": host}).status_code == 403
    answer = httpx.post(
        f"{server.replicas[0]}/api/2.0/mlflow/experiments/create",
        json={"name": "stolen"},
        headers={"Origin": "http://evil.example"},
        auth=("admin", server.passwords["admin"]),
        timeout=30,
    )
    assert answer.status_code == 403


def test_the_accounts_hook_sets_a_new_password_and_takes_back_what_git_does_not_give(server: Server) -> None:
    server.accounts.run()
    folder, file = Path(server.accounts.arguments[-1]), Path(server.accounts.arguments[-2])
    before = file.read_text()
    (folder / "mlflow-models").write_text("another-password")
    file.write_text(before.replace("mlflow-models: {experiment: READ}", "mlflow-models: {}"))
    assert "mlflow-models: signs in, and no more" in server.accounts.run()
    name = f"{server.replicas[0]}/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert httpx.get(name, auth=("mlflow-models", server.passwords["mlflow-models"]), timeout=30).status_code == 401
    assert httpx.get(name, auth=("mlflow-models", "another-password"), timeout=30).status_code == 403
    file.write_text(before)
    (folder / "mlflow-models").write_text(server.passwords["mlflow-models"])
    server.accounts.run()
    assert server.get("/api/2.0/mlflow/experiments/get?experiment_id=0", "mlflow-models").status_code == 200
