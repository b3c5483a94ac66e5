"""The tracking server as its manifests start it: PostgreSQL, the object store, hooks, sign-in, two replicas."""

import io
import json
import os
import runpy
import time
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import identities
import jwt
import mlflow
import pytest
import services
import yaml
from mlflow import MlflowClient

from .rendered import ROOT, Command, Workload, secrets

# Two servers that import MLflow, and four commands: a minute, and several on a machine that is busy elsewhere.
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
    provider: identities.Provider
    """Who signs people in."""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    def get(self, path: str, account: str = "", replica: int = 0, **arguments: object) -> httpx.Response:
        auth = (account, self.passwords[account]) if account else None
        return self.http.get(self.replicas[replica] + path, auth=auth, **arguments)  # type: ignore[arg-type]

    def accounts_again(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """What the hook prints that is run once more: its own file, in this process, which has imported MLflow."""
        with monkeypatch.context() as patch, redirect_stdout(io.StringIO()) as said:
            for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
                patch.setenv(name, self.accounts.environment[name])
            mlflow.set_tracking_uri(self.replicas[0])
            patch.syspath_prepend(Path(self.accounts.arguments[1]).parent)
            patch.setattr("sys.argv", self.accounts.arguments[1:])
            runpy.run_path(self.accounts.arguments[1], run_name="__main__")
        return said.getvalue()


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
        groups = {"vera": ["plumbline:viewer"], "ivy": ["plumbline:admin"], "carl": ["other"], "dora": []}
        provider = stack.enter_context(identities.running(groups))
        here |= {"ISSUER": provider.url, "AUDIENCE": identities.CLIENT}
        urls = []
        for _ in range(2):
            pod, port = workload(), services.free_port()
            # Names of loopback, as a port-forward has them: bare addresses are refused.
            urls.append(f"http://localhost:{port}")
            command = pod.command("Deployment", "mlflow", here | {"MLFLOW_PORT": str(port)}, PROGRAMS)
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
        yield Server((urls[0], urls[1]), metrics, accounts, passwords, provider)


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
    answer = server.http.get(server.replicas[0] + SEARCH, auth=("admin", "not-the-password"))
    assert answer.status_code == 401


def test_workflows_do_what_they_have_to_and_the_other_replica_knows_it(
    server: Server, workflows: MlflowClient, tmp_path: Path
) -> None:
    experiment = workflows.create_experiment("flights/training")
    run = workflows.create_run(experiment).info
    content = os.urandom(3_000_000)
    (tmp_path / "model.onnx").write_bytes(content)
    workflows.log_artifact(run.run_id, str(tmp_path / "model.onnx"))
    workflows.create_registered_model("flights")
    version = workflows.create_model_version("flights", f"{run.artifact_uri}/model.onnx", run.run_id).version
    workflows.set_registered_model_alias("flights", "staging", version)

    other = MlflowClient(server.replicas[1])
    mlflow.set_tracking_uri(server.replicas[1])
    (tmp_path / "fetched").mkdir()
    fetched = Path(other.download_artifacts(run.run_id, "model.onnx", str(tmp_path / "fetched")))
    assert fetched.read_bytes() == content
    assert other.get_model_version_by_alias("flights", "staging").version == version


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in, and asks as the documents of the API say."""

    server: Server
    name: str

    def ask(self, method: str, path: str, /, **arguments: object) -> httpx.Response:
        auth = (self.name, self.server.passwords[self.name])
        url = f"{self.server.replicas[0]}/api/2.0/{path}"
        return self.server.http.request(method, url, auth=auth, **arguments)  # type: ignore[arg-type]

    def post(self, path: str, **body: object) -> httpx.Response:
        return self.ask("POST", f"mlflow/{path}", json=body)


@dataclass(frozen=True, slots=True)
class Work:
    """What the Workflows made: a run with a file, and its model version."""

    experiment: str
    run: str
    uri: str


@pytest.fixture(scope="module")
def people(server: Server) -> dict[str, Person]:
    """Three of them without any grant."""
    client = Person(server, "admin")
    for name in ("ada", "ben", "eve"):
        server.passwords[name] = f"password-of-{name}"
        assert client.post("users/create", username=name, password=server.passwords[name]).is_success
    return {name: Person(server, name) for name in ("ada", "ben", "eve")}


@pytest.fixture(scope="module")
def work(server: Server, people: dict[str, Person]) -> Work:
    client = Person(server, "mlflow-workflows")
    experiment = client.post("experiments/create", name="herons/training").json()["experiment_id"]
    run = client.post("runs/create", experiment_id=experiment).json()["run"]["info"]
    path = f"mlflow-artifacts/artifacts/{experiment}/{run['run_id']}/artifacts/model.onnx"
    assert client.ask("PUT", path, content=b"the model").is_success
    assert client.post("registered-models/create", name="herons").is_success
    version = client.post("model-versions/create", name="herons", source=f"{run['artifact_uri']}/model.onnx",
                          run_id=run["run_id"])  # fmt: skip
    assert version.is_success, version.text
    return Work(experiment, run["run_id"], run["artifact_uri"])


def sources(work: Work, bucket: str) -> dict[str, str]:
    """What a thief would write as the source of a version of his own."""
    return {
        "bucket": f"s3://{bucket}/deployed/{work.experiment}/{work.run}/artifacts",
        "other bucket": "s3://backups/backup",
        "upper case": f"S3://{bucket}/deployed",
        "file": "file:///etc",
        "local path": "/etc",
        "http": "http://169.254.169.254/latest/meta-data",
        "artifacts by host": "mlflow-artifacts://localhost/..",
        "artifacts above": "mlflow-artifacts:/../",
        "artifacts of another experiment": f"mlflow-artifacts:/0/../{work.experiment}/{work.run}/artifacts",
        "percent": f"mlflow-artifacts:/%2e%2e/{work.experiment}/{work.run}/artifacts",
        "twice percent": f"mlflow-artifacts:/%252e%252e/{work.experiment}",
        "of another's run": f"{work.uri}/model.onnx",
        "of another's run by runs": f"runs:/{work.run}/model.onnx",
        "of another's version": "models:/herons/1",
        "databases": "dbfs:/etc",
        "new line": f"{work.uri}\ns3://{bucket}/deployed",
        "in front": f"s3://{bucket}/mlflow-artifacts:/{work.experiment}/{work.run}/artifacts",
        "options": f"{work.uri}/model.onnx?x=s3://{bucket}",
    }


def test_a_source_is_a_file_of_a_run_that_one_may_read_and_nothing_else(
    server: Server, people: dict[str, Person], work: Work, s3: services.S3
) -> None:
    eve = people["eve"]
    assert eve.post("registered-models/create", name="eves").is_success
    for name, source in sources(work, s3.bucket).items():
        for more in ({}, {"run_id": work.run}, {"run_id": "0" * 32}):
            answer = eve.post("model-versions/create", name="eves", source=source, **more)
            assert answer.status_code in (400, 403, 404), f"{name}: {answer.status_code} {answer.text}"
    # A run of her own gives her no more than what it keeps.
    experiment = eve.post("experiments/create", name="eves/own").json()["experiment_id"]
    run = eve.post("runs/create", experiment_id=experiment).json()["run"]["info"]
    for name, source in sources(work, s3.bucket).items():
        answer = eve.post("model-versions/create", name="eves", source=source, run_id=run["run_id"])
        assert answer.status_code in (400, 403, 404), f"{name}: {answer.status_code} {answer.text}"
    made = eve.post("model-versions/create", name="eves", source=f"{run['artifact_uri']}/x", run_id=run["run_id"])
    assert made.is_success, made.text
    # What a version is made of stays so.
    changed = eve.ask("PATCH", "mlflow/model-versions/update", json={
        "name": "eves", "version": "1", "description": "mine", "source": f"s3://{s3.bucket}/deployed"})  # fmt: skip
    assert changed.json()["model_version"]["source"] == f"{run['artifact_uri']}/x"


def test_nobody_chooses_where_an_experiment_keeps_its_artifacts(
    server: Server, people: dict[str, Person], work: Work, s3: services.S3
) -> None:
    place = f"s3://{s3.bucket}/deployed/{work.experiment}/{work.run}/artifacts"
    for name in ("eve", "mlflow-workflows", "admin"):
        person = Person(server, name)
        for number, body in enumerate((
            {"artifact_location": place},
            {"artifactLocation": place},
            {"artifact_location": place.replace("s3", "S3")},
            {"artifact_location": "file:///tmp/planted"},
            {"artifact_location": "mlflow-artifacts:/../"},
            {"artifact_location": f"mlflow-artifacts:/{work.experiment}/{work.run}/artifacts"},
        )):  # fmt: skip
            for path in ("api/2.0", "ajax-api/2.0"):
                url = f"../../{path}/mlflow/experiments/create"
                answer = person.ask("POST", url, json={"name": f"{name}/{number}/{path}"} | body)
                assert answer.status_code == 403, f"{name}: {body}: {answer.status_code}"
                assert "artifact_location: expected none" in answer.text
    # The same said as text in text, which the server takes for the same.
    said = json.dumps(json.dumps({"name": "eve/text", "artifact_location": place}))
    assert people["eve"].ask("POST", "mlflow/experiments/create", content=said).status_code in (400, 403)
    names = [item["name"] for item in Person(server, "admin").ask("GET", SEARCH[9:]).json()["experiments"]]
    assert not [name for name in names if name.startswith(("eve/", "admin/", "mlflow-workflows/"))]


def test_who_was_given_nothing_reads_and_writes_no_artifact_of_others(people: dict[str, Person], work: Work) -> None:
    eve, file = people["eve"], f"{work.experiment}/{work.run}/artifacts/model.onnx"
    escaped = file.replace("/", "%2f")
    paths = [file, f"0/../{file}", f"0/%2e%2e/{file}", f"0/%252e%252e/{file}", escaped, f"./{file}", f"/{file}"]
    for path in paths:
        for method in ("GET", "PUT", "DELETE"):
            answer = eve.ask(
                method, f"mlflow-artifacts/artifacts/{path}", **({"content": b"x"} if method == "PUT" else {})
            )
            assert answer.status_code in (400, 403, 404, 405), f"{method} {path}: {answer.status_code} {answer.text}"
    for path in ("", work.experiment, f"0/../{work.experiment}", "..", "%2e%2e"):
        answer = eve.ask("GET", "mlflow-artifacts/artifacts", params={"path": path})
        assert answer.status_code in (400, 403, 404), f"list {path}: {answer.status_code} {answer.text}"
    for path, arguments in (
        ("get-artifact", {"run_id": work.run, "path": "model.onnx"}),
        ("model-versions/get-artifact", {"name": "herons", "version": "1", "path": "model.onnx"}),
    ):
        assert eve.server.get(f"/{path}", "eve", params=arguments).status_code == 403


def test_a_team_sees_its_experiments_and_models_and_another_does_not(
    server: Server, people: dict[str, Person], work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(server.accounts.arguments[-1])
    before = file.read_text()
    herons = {"members": ["ada", "ben"], "experiment": {"herons/*": "EDIT"}, "registered_model": {"herons": "READ"}}
    try:
        file.write_text(
            yaml.safe_dump({"herons": herons, "others": {"members": ["eve"], "experiment": {"none": "READ"}}})
        )
        assert "team-herons: 2 members, 2 permissions" in server.accounts_again(monkeypatch)
        assert "team-" not in server.accounts_again(monkeypatch), "run again it changes nothing"

        def seen(name: str) -> tuple[int, int, int, int]:
            """Look at the run, tag it, look at the model, tag it."""
            person = people[name]
            return (
                person.ask("GET", "mlflow/runs/get", params={"run_id": work.run}).status_code,
                person.post("runs/set-tag", run_id=work.run, key="note", value=name).status_code,
                person.ask("GET", "mlflow/registered-models/get", params={"name": "herons"}).status_code,
                person.post("registered-models/set-tag", name="herons", key="note", value=name).status_code,
            )

        assert {name: seen(name) for name in people} == {
            "ada": (200, 200, 200, 403),
            "ben": (200, 200, 200, 403),
            "eve": (403, 403, 403, 403),
        }
        file.write_text(yaml.safe_dump({"herons": herons | {"members": ["ada"]}}))
        server.accounts_again(monkeypatch)
        assert seen("ada") == (200, 200, 200, 403)
        assert seen("ben") == (403, 403, 403, 403)
        file.write_text(yaml.safe_dump({"herons": {"owner": "ada"}}))
        with pytest.raises(SystemExit, match="herons: owner: expected members, experiment or registered_model"):
            server.accounts_again(monkeypatch)
    finally:
        file.write_text(before)
        server.accounts_again(monkeypatch)
    assert seen("ada") == (403, 403, 403, 403), "a team that git does not name has nothing"


def test_a_token_of_the_door_says_who_asks(server: Server, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(token: str, replica: int = 0) -> int:
        address = f"{server.replicas[replica]}/api/2.0/mlflow/runs/get?run_id={work.run}"
        return httpx.get(address, headers={"authorization": f"Bearer {token}"}, timeout=30).status_code

    provider = server.provider
    assert runs(provider.token("ivy")) == runs(provider.token("ivy"), replica=1) == 200, "an administrator sees all"
    assert runs(provider.token("vera")) == 403, "somebody whom no team names sees nothing"
    file = Path(server.accounts.arguments[-1])
    before = file.read_text()
    try:
        # Zoe never signed in.
        members = ["vera@example.org", "zoe@example.org"]
        file.write_text(yaml.safe_dump({"herons": {"members": members, "experiment": {"herons/*": "READ"}}}))
        assert "team-herons: 2 members" in server.accounts_again(monkeypatch)
        assert runs(provider.token("vera")) == 200
    finally:
        file.write_text(before)
        server.accounts_again(monkeypatch)
    provider.people["ivy"] = ["plumbline:viewer"]
    assert runs(provider.token("ivy")) == 403, "who is no administrator any more is none here"


def test_a_token_that_is_none_of_the_doors_opens_nothing(server: Server) -> None:
    provider = server.provider
    provider.people["ivy"] = ["plumbline:admin"]
    now = int(time.time())
    nobody = jwt.encode({"iss": provider.url, "aud": identities.CLIENT, "sub": "admin", "iat": now}, "x" * 32)
    other = identities.Provider({"ivy": ["plumbline:admin"]})
    other.url = provider.url
    tokens = {
        "no role": provider.token("carl"),
        "no group": provider.token("dora"),
        "for another client": provider.token("ivy", aud="grafana"),
        "of another issuer": provider.token("ivy", iss="https://elsewhere.example"),
        "of yesterday": provider.token("ivy", iat=now - 9 * 3600),
        "of tomorrow": provider.token("ivy", iat=now + 9 * 3600),
        "groups that are a text": provider.token("ivy", groups="plumbline:admin"),
        "groups that are numbers": provider.token("ivy", groups=[1, None]),
        "a moment that is none": provider.token("ivy", iat="soon"),
        "the name of a program": provider.token("ivy", email="mlflow-workflows"),
        "the name of the administrator": provider.token("ivy", email="admin", sub="admin"),
        "an address that is not checked": provider.token("ivy", email_verified=False),
        "no address": provider.token("ivy", email=None),
        "signed by another": other.token("ivy"),
        "signed with a word": nobody,
        "not signed": jwt.encode({"sub": "admin"}, "", algorithm="none"),
        "nonsense": "nonsense",
    }
    for name, token in tokens.items():
        answer = httpx.get(server.replicas[0] + SEARCH, headers={"authorization": f"Bearer {token}"}, timeout=30)
        assert answer.status_code == 401, f"{name}: {answer.status_code} {answer.text}"


def test_metrics_are_on_a_port_of_their_own(server: Server) -> None:
    server.get(SEARCH, "admin", replica=1)
    answer = server.http.get(server.metrics)
    assert answer.status_code == 200
    assert "mlflow_http_request_total" in answer.text


def test_a_foreign_host_or_page_is_refused(server: Server) -> None:
    assert server.get(SEARCH, "admin", headers={"Host": "mlflow.mlflow.svc:5000"}).status_code == 200
    for host in ("evil.example", "10.244.0.7:5000", "mlflow.mlflow.svc.evil.example:5000"):
        assert server.get(SEARCH, "admin", headers={"Host": host}).status_code == 403
    create, page = "mlflow/experiments/create", {"Origin": "http://evil.example"}
    answer = Person(server, "admin").ask("POST", create, json={"name": "stolen"}, headers=page)
    assert answer.status_code == 403


def test_the_accounts_hook_sets_a_new_password_and_takes_back_what_git_does_not_give(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder, _ = map(Path, server.accounts.arguments[-3:])
    before, account = file.read_text(), "mlflow-workflows"
    old = server.passwords[account]
    admin, client = Person(server, "admin"), Person(server, account)
    experiment = admin.post("experiments/create", name="the administrator's").json()["experiment_id"]
    run = admin.post("runs/create", experiment_id=experiment).json()["run"]["info"]["run_id"]

    def given(permissions: str) -> tuple[int, int, int]:
        """Run the hook; read another's run, tag it, put a file into it."""
        file.write_text(yaml.safe_dump({account: yaml.safe_load(permissions)}))
        said = server.accounts_again(monkeypatch)
        assert f"{account}: " in said
        return (
            client.ask("GET", "mlflow/runs/get", params={"run_id": run}).status_code,
            client.post("runs/set-tag", run_id=run, key="note", value="x").status_code,
            client.ask("PUT", f"mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/x", content=b"x").status_code,
        )

    try:
        (folder / account).write_text("another-password")
        server.passwords[account] = "another-password"
        assert given("{experiment: EDIT, registered_model: EDIT}") == (200, 200, 200)
        assert server.http.get(server.replicas[0] + SEARCH, auth=(account, old)).status_code == 401
        assert given("{experiment: READ}") == (200, 403, 403)
        assert given("{}") == (403, 403, 403)
    finally:
        server.passwords[account] = old
        (folder / account).write_text(old)
        file.write_text(before)
        server.accounts_again(monkeypatch)
    assert client.ask("GET", "mlflow/runs/get", params={"run_id": run}).status_code == 200
