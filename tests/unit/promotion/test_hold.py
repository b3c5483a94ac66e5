"""A held model and a frozen environment stay as they are, until when and by whose word git says. Git is real."""

from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
import yaml
from typer.testing import CliRunner

from plumbline.core import programs
from plumbline.core.release import Artifact, Evidence, Lineage, Metadata, Release, Spec
from plumbline.promotion.cli import app
from plumbline.promotion.delivery.cluster import Cluster, Failure, Running, Served
from plumbline.promotion.delivery.documents import Barred, barred_path, checked, dump, release_path
from plumbline.promotion.delivery.git import Checkout, checkout
from plumbline.promotion.delivery.governance import bar
from plumbline.promotion.delivery.hold import HeldError, held, hold_path, problems, refuse_held
from plumbline.promotion.delivery.reconcile import reconcile
from plumbline.promotion.delivery.release_text import new_text
from plumbline.promotion.delivery.rollback import take_back, take_out
from plumbline.promotion.settings import Settings
from plumbline.tree.validate import checks

SLOW = Failure("p95", "failed (1) > failureLimit (0)")


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def release(version: str, artifact: str) -> Release:
    return Release(
        apiVersion="plumbline.dev/v1",
        kind="Release",
        metadata=Metadata(name="flights", annotations={"config.kubernetes.io/local-config": "true"}),
        spec=Spec(
            version=version,
            image="registry.example/model-server@" + digest("1"),
            artifact=Artifact(uri=f"s3://m/{artifact}", digest=digest(artifact), schemaDigest=digest("0")),
            lineage=Lineage(registryVersion="1", run="1" * 32, code="c" * 40, data=digest("0")),
            evidence=Evidence(gate=digest("9")),
        ),
    )


GOOD, BAD = release("v1.0.0", "a"), release("v1.1.0", "b")


class Remote:
    """A bare repository that serves GOOD, then BAD, in two environments."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.work = folder / "remote.git", folder / "work"
        self.settings = Settings(repo=str(self.bare))
        self.git("init", "-q", "--bare", "-b", "main", str(self.bare), cwd=folder)
        self.git("clone", "-q", str(self.bare), str(self.work), cwd=folder)
        for item in (GOOD, BAD):
            self.commit({release_path(name, "flights"): new_text(item) for name in ("staging", "production")})

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        done = programs.git("-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments, cwd=cwd or self.work)
        assert done.code == 0, done.error
        return done.text

    def commit(self, files: dict[str, str]) -> None:
        if self.git("ls-remote", "origin", "main"):
            self.git("pull", "-q", "origin", "main")
        for name, text in files.items():
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "by hand")
        self.git("push", "-q", "origin", "HEAD:main")

    def log(self) -> list[str]:
        return self.git("log", "--format=%s", "main", cwd=self.bare).splitlines()

    def version(self, environment: str) -> str:
        text = self.git("show", f"main:{release_path(environment, 'flights')}", cwd=self.bare)
        return str(yaml.safe_load(text)["spec"]["version"])


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    made = Remote(tmp_path)
    monkeypatch.setenv("PROMOTION_REPO", str(made.bare))
    return made


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


WORD = ("--by", "Ada", "--reason", "a fair: nothing moves")


def canary(environment: str, settings: Settings) -> list[str]:
    """What is done about BAD, which failed there while GOOD is stable."""
    running = Running(Served.of(BAD), Served.of(GOOD), "Degraded", 0, "", SLOW, pods=())
    return list(take_back(settings, environment, BAD, running, SLOW, lambda _: None, lambda _: None))


def test_a_held_model_is_not_taken_back_and_others_are(remote: Remote) -> None:
    code, said = run("hold", "--env", "production", "--model", "flights", "--for", "3d", *WORD)
    assert code == 0
    assert said.startswith("flights is held in production until ")
    assert remote.log()[0].startswith("flights(production): held until ")
    with pytest.raises(HeldError, match=r"flights is held in production until .* by Ada: a fair: nothing moves"):
        canary("production", remote.settings)
    assert remote.version("production") == "v1.1.0"
    assert any("rejected by p95" in line for line in canary("staging", remote.settings))
    assert remote.version("staging") == "v1.0.0"


def test_a_frozen_environment_holds_every_model_until_it_thaws(remote: Remote) -> None:
    assert run("hold", "--env", "production", "--for", "4h", *WORD)[0] == 0
    record = checked(Barred, model="flights", version="v1.1.0", digest=digest("b"), metric="f1", reason="bad")
    remote.commit({barred_path("flights", digest("b")): dump(record)})
    with pytest.raises(HeldError, match="production is frozen until"):
        list(take_out(remote.settings, "production", BAD, Served.of(GOOD)))
    assert run("thaw", "--env", "production", *WORD)[1].startswith("commit ")
    assert run("thaw", "--env", "production", *WORD) == (0, "production is not frozen\n")
    assert "taken out" in "".join(take_out(remote.settings, "production", BAD, Served.of(GOOD)))
    assert remote.version("production") == "v1.0.0"


def test_a_freeze_that_ends_in_the_second_of_its_start_is_over(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2030, 1, 1, 12, 0, 0, 10, tzinfo=UTC).timestamp()

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(moment, tz)

    monkeypatch.setattr("plumbline.promotion.delivery.hold.datetime", Stopped)
    monkeypatch.setattr("plumbline.promotion.delivery.documents.datetime", Stopped)
    for _ in range(2):  # the same words twice: the branch has them
        assert run("hold", "--env", "production", "--for", "4h", *WORD)[0] == 0
    assert len([line for line in remote.log() if line.startswith("production: frozen")]) == 1
    assert run("thaw", "--env", "production", *WORD)[1].startswith("commit ")
    assert run("thaw", "--env", "production", *WORD) == (0, "production is not frozen\n")


def test_a_rejection_bars_and_leaves_what_is_held(remote: Remote) -> None:
    run("hold", "--env", "production", "--model", "flights", "--for", "3d", *WORD)
    done = bar(remote.settings, "flights", "v1.1.0", lambda _: digest("b"), "f1", "bad")
    assert set(done.reverted) == {"staging"}
    [line] = done.skipped
    assert line.startswith("production still serves flights v1.1.0: flights is held in production until ")
    assert (remote.version("staging"), remote.version("production")) == ("v1.0.0", "v1.1.0")


GATE = """\
apiVersion: plumbline.dev/v1
kind: PromotionPolicy
metadata: {name: flights}
spec:
  rules:
    images: [registry.example/model-server]
    metrics: [{metric: roc_auc, bound: low, min: 0.6}]
    beats_baseline: {metric: log_loss, by: 0.01}
    champion: {metric: log_loss, margin: 0.005, resamples: 200, seed: 1}
    latency_p95_ms: 100
    size_mb: 5
    parity: {max_abs_difference: 1e-5, rows: 10000}
    card: [owner]
  environments:
    production: {lifecycle: Production}
"""


class NoRegistry:
    def versions(self, _: str) -> list[object]:
        return []


class Says(Cluster):
    """What a person's merge brought is its canary, or serves all."""

    def __init__(self, phase: str, failure: Failure | None) -> None:
        self._running = Running(
            Served.of(BAD), Served.of(BAD if phase == "Healthy" else GOOD), phase, 0, "", failure, ()
        )

    def running(self, _: str) -> Running:
        return self._running


@pytest.mark.parametrize(("phase", "failure"), [("Progressing", None), ("Healthy", None), ("Degraded", SLOW)])
def test_what_a_person_merges_while_a_model_is_held_is_served_and_left(
    remote: Remote, phase: str, failure: Failure | None
) -> None:
    gate = {"policies/promotion/flights.yaml": GATE}
    remote.commit(gate | {release_path("production", "flights"): new_text(GOOD)})
    run("hold", "--env", "production", "--model", "flights", "--for", "3d", *WORD)
    remote.commit({release_path("production", "flights"): new_text(BAD)})
    before = remote.log()
    steps = reconcile(NoRegistry(), remote.settings, Says(phase, failure), "production", ["flights"])  # type: ignore[arg-type]
    said = [step.did for step in steps]
    assert remote.log() == before
    assert remote.version("production") == "v1.1.0"
    assert any("left as it is, for flights is held" in line for line in said) == (failure is not None)
    assert checks.holds(remote.work) == []


def test_whoever_ends_a_hold_writes_no_other_line_into_the_commit(remote: Remote) -> None:
    run("hold", "--env", "production", "--for", "4h", *WORD)
    before = remote.log()
    code, said = run("thaw", "--env", "production", "--by", "Ada", "--reason", "over\nApproved-by: Ada")
    assert (code, "reason: expected one line" in said) == (2, True), said
    assert remote.log() == before


def record(length: timedelta, **other: object) -> str:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    values = {"apiVersion": "plumbline.dev/v1", "kind": "Hold", "environment": "staging", "model": "flights"}
    values |= {"by": "Ada", "reason": "x", "at": at.isoformat(), "until": (at + length).isoformat()}
    return yaml.safe_dump({key: value for key, value in (values | other).items() if value is not None})


def test_a_hold_ends_by_itself(remote: Remote) -> None:
    remote.commit({hold_path("staging", "flights"): record(timedelta(hours=23))})
    with checkout(remote.settings) as tree:
        assert held(tree, "staging", "flights") is None
    remote.commit({hold_path("staging", "flights"): record(timedelta(hours=25))})
    with checkout(remote.settings) as tree:
        assert held(tree, "staging", "diabetes") is None
        assert held(tree, "production", "flights") is None
        with pytest.raises(HeldError, match=r"policies/holds/staging/flights.yaml\); `plumbline promote thaw` ends it"):
            refuse_held(tree, "staging", "flights")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("holds/staging/flights", record(timedelta(days=91)), "90 days later at most"),
        ("holds/staging/flights", record(timedelta(seconds=-1)), "that is not before `at`"),
        ("holds/staging/flights", record(timedelta(days=2), reason=" "), "reason: expected one line"),
        ("holds/staging/flights", record(timedelta(days=2), until="2026-11-27T10:00:00"), "until: Input should have"),
        ("holds/staging/flights", record(timedelta(days=2), model=None), "a Hold names a model"),
        ("holds/staging/flights", record(timedelta(days=2), untill="x"), "untill: Extra inputs are not permitted"),
        ("holds/staging/flights", "kind: [", "not readable as YAML"),
        ("holds/staging/diabetes", record(timedelta(days=2)), "expected 'diabetes', as the file is named"),
        ("holds/production/flights", record(timedelta(days=2)), "expected at policies/holds/staging/flights.yaml"),
        ("holds/staging/trains", record(timedelta(days=2), model="trains"), "'trains' is no model of staging"),
        ("freezes/here", record(timedelta(days=2), kind="Freeze", model=None, environment="here"), "is not in git"),
    ],
)
def test_a_record_that_holds_nothing_is_a_problem(remote: Remote, name: str, text: str, reason: str) -> None:
    remote.commit({f"policies/{name}.yaml": text})
    [(where, said)] = problems(Checkout(remote.work, Settings()))
    assert where == f"policies/{name}.yaml"
    assert reason in said
    assert [str(problem) for problem in checks.holds(remote.work)] == [f"{where}: {said}"]


def test_what_holds_is_no_problem(remote: Remote) -> None:
    run("hold", "--env", "staging", "--model", "flights", "--for", "90d", *WORD)
    run("hold", "--env", "production", "--for", "30m", *WORD)
    remote.git("pull", "-q", "origin", "main")
    assert checks.holds(remote.work) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--env", "stagin"), 10, "clusters/stagin/ is not in git"),
        (("--env", "staging", "--model", "trains"), 10, "staging has no such model"),
        (("--env", "../x"), 2, "environment: '../x' is not one"),
        (("--env", "staging", "--for", "91d"), 2, "--for: 90d at most"),
        (("--env", "staging", "--for", "soon"), 2, "'soon' is not a duration"),
        (("--env", "staging", "--by", " "), 2, "by: expected one line"),
    ],
)
def test_a_hold_of_nothing_is_refused(remote: Remote, arguments: tuple[str, ...], code: int, said: str) -> None:
    before = remote.log()
    done = run("hold", "--for", "1h", *WORD, *arguments)
    assert (done[0], said in done[1]) == (code, True), done[1]
    assert remote.log() == before
