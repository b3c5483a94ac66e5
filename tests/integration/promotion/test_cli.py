"""The commands as a person types them, in one process: what they print and how they end."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from plumbline.promotion.cli import app
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings

from .conftest import ADA, IMAGE, Recipe, Remote, add_model

Log = Callable[[Recipe], str]


@pytest.fixture
def type_in(
    monkeypatch: pytest.MonkeyPatch, address: str, settings: Settings, remote: Remote, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Type a command; returns its exit code and what it said."""
    monkeypatch.setenv("HOME", str(remote.work))  # no cluster of the machine's
    for variable in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("PROMOTION_REPO", remote.url)
    monkeypatch.setenv("PROMOTION_SIGNING_KEY", str(settings.signing_key))
    monkeypatch.setenv("PROMOTION_PUBLIC_KEY", str(settings.public_key))
    monkeypatch.setenv("PROMOTION_STORE", settings.store)
    monkeypatch.setenv("PROMOTION_APPROVER_KEY", str(ADA.key(tmp_path)))

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout if "--json" in arguments else done.output

    return run


def test_a_models_whole_life(
    type_in: Callable[..., tuple[int, str]], log_run: Log, remote: Remote, model: str, tmp_path: Path
) -> None:
    one = ("--model", model, "--version", "v1.0.0")
    two = ("--model", model, "--version", "v1.0.1")
    run = log_run(Recipe(model))
    code, said = type_in("register", "--run", run)
    assert (code, said.splitlines()[-1]) == (0, "version v1.0.0")
    assert "was registered before; its statement is beside its bytes" in type_in("register", "--run", run)[1]
    registered = json.loads(type_in("register", "--run", run, "--json")[1])
    assert (registered["model"], registered["tags"]["semver"], registered["parity"]) == (model, "v1.0.0", None)
    report = tmp_path / "gate.json"
    code, said = type_in("check", *one, "--env", "staging", "--report", str(report))
    assert code == 0
    assert said.startswith("| rule ")
    assert '"outcome": "pass"' in report.read_text()
    printed, written = (
        json.loads(type_in("check", *one, "--env", "staging", "--json")[1]),
        json.loads(report.read_text()),
    )
    assert printed.keys() == written.keys()
    assert (printed["kind"], printed["outcome"]) == ("GateReport", "pass")
    code, said = type_in("check", *one, "--env", "production")
    assert code == 10
    assert "- approval: `plumbline promote approve`" in said
    assert "refused: the gate of production says refused" in said
    code, said = type_in("run", *one, "--env", "staging", "--image", IMAGE, "--dry-run")
    assert (code, remote.log()) == (0, [f"add {model}"])
    code, said = type_in("run", *one, "--env", "staging", "--image", IMAGE)
    assert code == 0
    assert "alias staging → v1.0.0\nv1.0.0 is Staging\n" in said
    assert "already; nothing to do" in type_in("run", *one, "--env", "staging", "--image", IMAGE)[1]
    again = json.loads(type_in("run", *one, "--env", "staging", "--image", IMAGE, "--json")[1])
    assert (again["judgement"], again["commit"]) == (None, "")
    description = tmp_path / "pull-request.md"
    asked = ("run", *one, "--env", "production", "--image", IMAGE)
    code, said = type_in(*asked, "--pull-request", str(description))
    assert (code, description.read_text().splitlines()[0]) == (0, f"# {model}(production): serve v1.0.0")
    approving = ("approve", *one, "--env", "production", "--image", IMAGE)
    code, line = type_in(*approving, "--reason", "read the card", "--detached")
    assert (code, type_in(*approving, "--signed", line.splitlines()[-1])[0]) == (0, 0)
    assert "is approved already: Ada for production on 2" in type_in(*approving, "--reason", "read the card")[1]
    assert type_in(*asked)[0] == 0
    assert f"{model} v1.0.0 Production aliases production,staging" in type_in("list", "--model", model)[1]
    (listed,) = json.loads(type_in("list", "--model", model, "--json")[1])
    assert (listed["model"], listed["tags"]["semver"], listed["aliases"]) == (
        model,
        "v1.0.0",
        ["production", "staging"],
    )
    assert type_in("list", "--model", model, "--filter", "tags.lifecycle = 'Archived'")[1] == (
        "no such version is registered\n"
    )
    page = tmp_path / "card.html"
    code, said = type_in("card", *one, "--html", str(page))
    assert "| approval | Ada for production on " in said
    assert page.read_text().startswith("<!doctype html>")
    remote.pull()
    assert "5 files judged, 0 refused" in type_in("audit", "--path", str(remote.work))[1]
    assert json.loads(type_in("audit", "--path", str(remote.work), "--json")[1]) == {"judged": 5, "refused": []}
    # The next version goes wrong in staging.
    type_in("register", "--run", log_run(Recipe(model, tags={"data.digest": "sha256:" + "e" * 64}, seed=1)))
    code, said = type_in("run", *two, "--env", "staging", "--image", IMAGE, "--json")
    outcome = json.loads(said)
    assert (code, outcome["commit"]) == (0, remote.git("ls-remote", "origin", "main").split()[0])
    assert {item["outcome"] for item in outcome["judgement"]["verdicts"]} == {"pass"}
    code, said = type_in("reject", *two, "--metric", "latency", "--reason", "p95 of 900 ms")
    assert code == 0
    assert "staging: v1.0.1 → v1.0.0" in said
    assert "v1.0.1 rejected: latency" in said
    assert "is barred already" in type_in("reject", *two, "--metric", "latency", "--reason", "p95 of 900 ms")[1]
    assert type_in("sync", "--model", model) == (0, "")
    (remote.work / f"clusters/staging/models/{model}/release.yaml").write_text("weight: 1\n")
    code, said = type_in("audit", "--path", str(remote.work))
    assert code == 10
    assert "release.yaml: " in said


def test_mlflows_own_pages_say_version_and_life_cycle_first(
    type_in: Callable[..., tuple[int, str]], log_run: Log, client: MlflowClient, model: str
) -> None:
    one, two = (("--model", model, "--version", version) for version in ("v1.0.0", "v1.0.1"))
    runs = [log_run(Recipe(model)), log_run(Recipe(model, tags={"data.digest": "sha256:" + "e" * 64}, seed=1))]
    for run in runs:
        type_in("register", "--run", run)

    def shown(number: str) -> str:
        return str(client.get_model_version(model, number).description)

    assert [shown("1"), shown("2")] == ["v1.0.0 · None", "v1.0.1 · None"]
    assert str(client.get_model_version_by_alias(model, "v1-0-1").version) == "2"
    assert [client.get_run(run).data.tags["semver"] for run in runs] == ["v1.0.0", "v1.0.1"]
    client.update_model_version(model, "1", description="v1.0.0 · None\n\nAda trained it.")
    type_in("run", *one, "--env", "staging", "--image", IMAGE)
    assert shown("1") == "v1.0.0 · Staging · served by staging\n\nAda trained it."
    assert client.get_registered_model(model).tags["staging"] == "v1.0.0"
    type_in("run", *two, "--env", "staging", "--image", IMAGE)
    assert shown("1") == "v1.0.0 · Archived\n\nAda trained it."
    assert shown("2") == "v1.0.1 · Staging · served by staging"
    assert client.get_registered_model(model).tags["staging"] == "v1.0.1"
    type_in("reject", *two, "--metric", "latency", "--reason", "p95 of 900 ms")
    assert shown("2") == "v1.0.1 · Archived · rejected for latency: p95 of 900 ms"
    # What a person wrote before the platform did stays below.
    client.update_model_version(model, "1", description="Ada trained it.")
    type_in("sync", "--model", model)
    assert shown("1") == "v1.0.0 · Staging · served by staging\n\nAda trained it."


def test_life_cycle_by_hand(type_in: Callable[..., tuple[int, str]], log_run: Log, remote: Remote, model: str) -> None:
    one = ("--model", model, "--version", "v1.0.0")
    type_in("register", "--run", log_run(Recipe(model)))
    code, said = type_in("transition", *one, "--to", "Production")
    assert (code, "None → Production is not a legal move" in said) == (10, True)
    assert type_in("transition", *one, "--to", "Live")[0] == 2
    assert type_in("archive", *one) == (0, f"{model} v1.0.0 is Archived\n")
    assert type_in("transition", *one, "--to", "Staging")[0] == 0


def test_a_rejection_that_nothing_precedes_is_said(
    type_in: Callable[..., tuple[int, str]], log_run: Log, remote: Remote, model: str
) -> None:
    one = ("--model", model, "--version", "v1.0.0")
    type_in("register", "--run", log_run(Recipe(model)))
    type_in("run", *one, "--env", "staging", "--image", IMAGE)
    for begins in ("commit ", f"{model} v1.0.0 is barred already"):
        code, said = type_in("reject", *one, "--metric", "latency", "--reason", "p95 of 900 ms")
        assert code == 10
        assert said.startswith(begins)
        assert f"barred, and staging still serves {model} v1.0.0: it has no earlier release" in said
        assert f"delete clusters/staging/models/{model}/release.yaml by hand" in said
    assert remote.release("staging", model).spec.version == "v1.0.0"
    assert "staging: still v1.0.0, no earlier release" in remote.git("log", "-1", "--format=%b")
    # All that could be asked agree on it, and it may not be served.
    code, said = type_in("status", "--env", "staging", "--model", model)
    assert code == 10
    _, table, reason = said.splitlines()
    assert table.split()[-1] == "barred"
    assert reason == f"{model}: v1.0.0 is barred for latency: p95 of 900 ms"


def test_releases_are_told_since_when_and_by_whom(
    type_in: Callable[..., tuple[int, str]], log_run: Log, remote: Remote, model: str
) -> None:
    one, two = (("--model", model, "--version", version) for version in ("v1.0.0", "v1.0.1"))
    type_in("register", "--run", log_run(Recipe(model)))
    type_in("register", "--run", log_run(Recipe(model, tags={"data.digest": "sha256:" + "e" * 64}, seed=1)))
    type_in("run", *one, "--env", "staging", "--image", IMAGE)
    type_in("approve", *one, "--env", "production", "--image", IMAGE, "--reason", "read the card")
    type_in("run", *one, "--env", "production", "--image", IMAGE)
    type_in("run", *two, "--env", "staging", "--image", IMAGE)
    bump = remote.log() and remote.git("log", "-1", "--format=%H %cI").split()
    path = f"clusters/staging/models/{model}/release.yaml"
    remote.commit({path: "# A remark.\n" + (remote.work / path).read_text()})

    def told(*more: str) -> list[dict[str, str]]:
        code, said = type_in("releases", *more, "--json")
        assert code == 0, said
        return list(json.loads(said))

    production, staging = told("--model", model)
    assert (production["environment"], production["version"], production["by"]) == ("production", "v1.0.0", "Ada")
    assert staging == {
        "model": model, "environment": "staging", "version": "v1.0.1", "since": bump[1],
        "by": "plumbline promotion", "commit": bump[0][:12],
    }  # fmt: skip
    assert [row["version"] for row in told("--env", "staging", "--history")] == ["v1.0.1", "v1.0.0"]
    assert told("--model", "nothing") == []
    assert type_in("releases", "--model", "nothing") == (0, "no environment serves such a model\n")
    assert "is not in git, only production, staging" in type_in("releases", "--env", "stagign")[1]
    assert re.search(rf"^{model} +staging +v1.0.1 ", type_in("releases")[1], re.M)


def test_a_status_without_a_cluster_is_of_git_and_registry(
    type_in: Callable[..., tuple[int, str]], log_run: Log, client: MlflowClient, model: str
) -> None:
    asked = ("status", "--env", "staging", "--model", model)
    type_in("register", "--run", log_run(Recipe(model)))
    assert re.search(rf"^{model} +- +not asked +- +agree$", type_in(*asked)[1], re.M)
    type_in("run", "--model", model, "--version", "v1.0.0", "--env", "staging", "--image", IMAGE)
    code, said = type_in(*asked)
    assert re.search(rf"^{model} +v1.0.0 [0-9a-f]{{12}} +not asked +v1.0.0 +agree$", said, re.M)
    assert code == 0
    client.delete_registered_model_alias(model, "staging")
    code, said = type_in(*asked)
    assert (code, said.split()[-4:]) == (10, ["not", "asked", "-", "differ"])


@pytest.mark.parametrize(
    ("variable", "value", "code", "said"),
    [
        ("PROMOTION_REPO", "", 2, "PROMOTION_REPO is not set"),
        ("PROMOTION_REPO", "https://user:secret@127.0.0.1:9/x.git", 1, "127.0.0.1:9/x.git"),
        ("PROMOTION_BRANCH", "nowhere", 1, "nowhere not found"),
        ("PROMOTION_PUBLIC_KEY", "/nowhere.pub", 2, "PROMOTION_PUBLIC_KEY=/nowhere.pub: cannot be read"),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:9", 1, "failed: MLflow"),
    ],
)
def test_what_is_set_up_wrongly(
    type_in: Callable[..., tuple[int, str]],
    remote: Remote,
    monkeypatch: pytest.MonkeyPatch,
    standing: Version,
    variable: str,
    value: str,
    code: int,
    said: str,
) -> None:
    add_model(remote, standing.model)
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    answer = type_in("check", "--model", standing.model, "--version", "v1.0.0", "--env", "staging")
    assert (answer[0], said in answer[1]) == (code, True), answer
    assert "secret" not in answer[1]


def test_keys(type_in: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, said = type_in("keygen", str(tmp_path / "keys"))
    assert (code, f"PROMOTION_SIGNING_KEY={tmp_path}/keys/signing-key.pem" in said) == (0, True)
    assert type_in("keygen", str(tmp_path / "keys"))[0] == 10
