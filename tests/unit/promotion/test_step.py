"""What is written into the status of a canary that waits, over HTTP as the API server is asked; git is real."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from loopback import Quiet, as_cluster
from typer.testing import CliRunner

from plumbline.core import programs
from plumbline.core.release import Artifact, Evidence, Lineage, Metadata, Release, Spec
from plumbline.promotion.cli import app
from plumbline.promotion.delivery.documents import release_path
from plumbline.promotion.delivery.release_text import new_text
from plumbline.promotion.delivery.step import skip_path

DIGEST, IMAGE = "sha256:" + "a" * 64, "registry.example/model-server@sha256:" + "1" * 64
INCONCLUSIVE = [{"reason": "InconclusiveAnalysisRun", "startTime": "2026-11-27T10:00:00Z"}]


class Api:
    """One Rollout of an API server that takes merge patches of its status."""

    def __init__(self, conditions: list[dict[str, str]], version: str = "v1.1.0") -> None:
        template = {
            "metadata": {
                "labels": {"app.kubernetes.io/version": version},
                "annotations": {"plumbline.dev/digest": DIGEST},
            },
            "spec": {"containers": [{"name": "server", "image": IMAGE}]},
        }
        self.status: dict[str, Any] = {
            "phase": "Paused" if conditions else "Progressing",
            "pauseConditions": conditions,
            "controllerPause": bool(conditions),
            "currentStepIndex": 1,
        }
        self.spec, self.paths = {"template": template}, list[str]()

    def judged_again(self) -> bool:
        """needsNewAnalysisRun of Argo Rollouts v1.10.1, of a run that was inconclusive."""
        return bool(self.status["controllerPause"]) and not self.status.get("pauseConditions")


@pytest.fixture
def api(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    made: Api = getattr(request, "param", None) or Api(INCONCLUSIVE)

    class Handler(Quiet):
        def do_GET(self) -> None:
            self._answer()

        def do_PATCH(self) -> None:
            assert self.headers["content-type"] == "application/merge-patch+json"
            patch = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert set(patch) == {"status"}
            made.paths.append(self.path)
            made.status = {key: value for key, value in (made.status | patch["status"]).items() if value is not None}
            self._answer()

        def _answer(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"spec": made.spec, "status": made.status}).encode())

    with as_cluster(Handler, tmp_path, monkeypatch):
        yield made


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose staging serves what the Rollout's canary is."""
    bare, work = tmp_path / "remote.git", tmp_path / "work"
    release = Release(
        apiVersion="plumbline.dev/v1",
        kind="Release",
        metadata=Metadata(name="flights", annotations={"config.kubernetes.io/local-config": "true"}),
        spec=Spec(
            version="v1.1.0",
            image=IMAGE,
            artifact=Artifact(uri="s3://m/a", digest=DIGEST, schemaDigest=DIGEST),
            lineage=Lineage(registryVersion="1", run="1" * 32, code="c" * 40, data=DIGEST),
            evidence=Evidence(gate=DIGEST),
        ),
    )
    path = work / release_path("staging", "flights")
    path.parent.mkdir(parents=True)
    path.write_text(new_text(release))
    person = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for command in (
        ("init", "-q", "--bare", "-b", "main", str(bare)),
        ("-C", str(work), "init", "-q", "-b", "main"),
        ("-C", str(work), "add", "-A"),
        ("-C", str(work), *person, "commit", "-q", "-m", "first"),
        ("-C", str(work), "push", "-q", str(bare), "HEAD:main"),
    ):
        assert programs.git(*command).code == 0
    monkeypatch.setenv("PROMOTION_REPO", str(bare))
    return bare


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


SKIP = ("skip", "--model", "flights", "--env", "staging", "--by", "Ada", "--reason", "no traffic at night")
STATUS = "/apis/argoproj.io/v1alpha1/namespaces/models/rollouts/flights-server/status"


def test_what_an_inconclusive_analysis_paused_is_judged_again(api: Api) -> None:
    assert run("resume", "--model", "flights") == (0, "flights: step 1 is judged again\n")
    assert api.paths == [STATUS]
    assert api.judged_again()
    assert api.status["currentStepIndex"] == 1


def test_a_step_is_skipped_once_git_says_who_and_why(api: Api, remote: Path) -> None:
    code, said = run(*SKIP)
    assert code == 0, said
    assert said.startswith("flights: goes on after step 1 without its verdict; commit ")
    assert (api.status["currentStepIndex"], api.status["controllerPause"], api.judged_again()) == (2, False, False)
    log = programs.git("-C", str(remote), "log", "-1", "--format=%B", "main").text
    assert log.startswith("flights(staging): step 1 of v1.1.0 passes without a verdict\n\nBy: Ada\nReason: no traffic")
    text = programs.git("-C", str(remote), "show", f"main:{skip_path('staging', 'flights')}").text
    record = yaml.safe_load(text)
    assert {key: record[key] for key in ("version", "digest", "image", "step", "by", "reason")} == {
        "version": "v1.1.0",
        "digest": DIGEST,
        "image": IMAGE,
        "step": 1,
        "by": "Ada",
        "reason": "no traffic at night",
    }


@pytest.mark.parametrize("api", [Api([]), Api([{"reason": "CanaryPauseStep"}])], indirect=True)
@pytest.mark.parametrize("command", [("resume", "--model", "flights"), SKIP])
def test_what_does_not_wait_for_a_verdict_is_left_alone(api: Api, remote: Path, command: tuple[str, ...]) -> None:
    before = dict(api.status)
    code, said = run(*command)
    assert code == 10
    assert "flights waits for nobody after an inconclusive analysis: it is " in said
    assert (api.status, api.paths) == (before, [])
    assert programs.git("-C", str(remote), "log", "--format=%s", "main").text == "first\n"


@pytest.mark.parametrize("api", [Api(INCONCLUSIVE, version="v1.2.0")], indirect=True)
def test_a_canary_that_git_does_not_name_is_not_skipped(api: Api, remote: Path) -> None:
    code, said = run(*SKIP)
    assert (code, "the canary of v1.2.0 is not what git names in staging" in said) == (10, True), said
    assert api.paths == []
    assert programs.git("-C", str(remote), "log", "--format=%s", "main").text == "first\n"
