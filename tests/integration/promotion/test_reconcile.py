"""git, registry and a Rollout's state: the one next step, whatever came before. Git and MLflow are real; what the
cluster says is set by hand here, and by a real controller in tests/cluster."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest

from plumbline.core import programs
from plumbline.core.errors import Refused
from plumbline.promotion.delivery import reconcile as reconciliation
from plumbline.promotion.delivery.cluster import Cluster, Failure, Running, Served
from plumbline.promotion.delivery.documents import barred_path
from plumbline.promotion.delivery.follow import sync
from plumbline.promotion.delivery.git import checkout
from plumbline.promotion.delivery.promote import Outcome
from plumbline.promotion.delivery.reconcile import models_of, reconcile, status
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.lifecycle import Lifecycle
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings

from .conftest import IMAGE, Remote
from .releases import made, serve

_OTHER_IMAGE = IMAGE.rpartition(":")[0] + ":" + "b" * 64
_FAILED = Failure("error-share", "failed (1) > failureLimit (0); last value [0.2]")


class Said(Cluster):
    """A cluster that says what the test told it."""

    def __init__(self, running: Running | None) -> None:
        self._running = running

    def running(self, model: str) -> Running | None:  # noqa: ARG002 - it knows one model
        return self._running

    def models(self) -> dict[str, Callable[[], Running]]:
        running = self._running
        return {} if running is None else {"by-hand": lambda: running}


@pytest.fixture
def served(remote: Remote, model: str) -> Callable[[], Served]:
    """What git says that staging serves."""
    return lambda: Served.of(remote.release("staging", model))


@pytest.fixture
def step(registry: Registry, settings: Settings, model: str) -> Callable[[Running | None], list[str]]:
    """One reconcile of the test's model."""
    return lambda running: [
        f"{step.model}({step.environment}): {step.did}"
        for step in reconcile(registry, settings, Said(running), "staging", [model])
    ]


@pytest.fixture
def two_versions(
    registered: Callable[..., Version], bump: Callable[..., Outcome], remote: Remote, settings: Settings
) -> Served:
    """v1.0.0, then v1.0.1 was promoted to staging; returns what is stable: v1.0.0."""
    registered()
    bump("v1.0.0")
    stable = Served.of(remote.release("staging", registered(tags={"data.digest": "sha256:" + "e" * 64}, seed=1).model))
    bump("v1.0.1")
    return stable


def canary(wanted: Served, stable: Served | None, phase: str = "Progressing", **more: object) -> Running:
    values = {"weight": 10, "message": "", "failure": None} | more
    return Running(wanted=wanted, stable=stable, phase=phase, **values)  # type: ignore[arg-type]


def test_a_healthy_release_moves_the_registry(
    registered: Callable[..., Version],
    bump: Callable[..., Outcome],
    served: Callable[[], Served],
    step: Callable[[Running | None], list[str]],
    registry: Registry,
    settings: Settings,
    model: str,
) -> None:
    registered()
    bump("v1.0.0")
    assert "waiting for Argo CD" in step(None)[0]
    assert registry.find(model, "v1.0.0").aliases == ()
    assert step(canary(served(), None, weight=0)) == [f"{model}(staging): v1.0.0: Progressing at 0 %"]
    healthy = canary(served(), served(), "Healthy", weight=0)
    assert f"{model}(staging): alias staging → v1.0.0" in step(healthy)
    assert step(healthy) == []
    assert [row.verdict for row in status(registry, settings, Said(healthy), "staging", [model])] == ["agree"]
    with checkout(settings) as tree:
        assert model in models_of(tree, "staging")


def test_a_failed_analysis_reverts_the_bump_and_bars_the_digest(
    two_versions: Served,
    served: Callable[[], Served],
    step: Callable[[Running | None], list[str]],
    bump: Callable[..., Outcome],
    registry: Registry,
    settings: Settings,
    remote: Remote,
    model: str,
) -> None:
    aborted = canary(served(), two_versions, "Degraded", weight=0, failure=_FAILED)
    (row,) = status(registry, settings, Said(aborted), "staging", [model])
    assert (row.verdict, row.git[:6], row.cluster[:6]) == ("differ", "v1.0.1", "v1.0.0")
    assert "v1.0.1: rejected by error-share" in step(aborted)[0]
    assert served() == two_versions
    assert remote.log()[0] == f"{model}(staging): v1.0.1 → v1.0.0, rejected by error-share"
    assert "last value [0.2]" in remote.git("log", "-1", "--format=%b")
    assert registry.find(model, "v1.0.1").rejected.startswith("error-share")
    count = len(remote.log())
    assert "waiting for Argo CD" in step(aborted)[0]  # late and twice: git has moved on
    assert len(remote.log()) == count
    assert step(canary(two_versions, two_versions, "Healthy")) == []
    with pytest.raises(Refused, match="not barred"):
        bump("v1.0.1", again="it will be better this time")


def test_an_abort_without_a_verdict_bars_nothing(
    two_versions: Served,
    served: Callable[[], Served],
    step: Callable[[Running | None], list[str]],
    bump: Callable[..., Outcome],
    remote: Remote,
    model: str,
) -> None:
    never_ready = Failure("", "ReplicaSet has timed out progressing")
    assert "given up (ReplicaSet" in step(canary(served(), two_versions, "Degraded", failure=never_ready))[0]
    assert served() == two_versions
    assert remote.log()[0] == f"{model}(staging): v1.0.1 → v1.0.0, given up"
    assert bump("v1.0.1", again="the image is there now").commit


def test_a_bad_image_is_barred_and_not_the_model_in_it(
    registered: Callable[..., Version],
    bump: Callable[..., Outcome],
    served: Callable[[], Served],
    step: Callable[[Running | None], list[str]],
    remote: Remote,
    model: str,
) -> None:
    registered()
    bump("v1.0.0")
    stable = served()
    bump("v1.0.0", image=_OTHER_IMAGE)
    step(canary(served(), stable, "Degraded", failure=_FAILED))
    assert served() == stable
    assert remote.git("show", "--format=", "--name-only", "HEAD").split() == [
        f"clusters/staging/models/{model}/release.yaml",
        barred_path(model, _OTHER_IMAGE.rpartition("@")[2]),
    ]
    there, back = (image.rpartition(":")[2][:12] for image in (_OTHER_IMAGE, stable.image))
    title = f"{model}(staging): v1.0.0 image"
    assert remote.log()[:2] == [f"{title} {there} → {back}, rejected by error-share", f"{title} {back} → {there}"]
    with pytest.raises(Refused, match="not barred"):
        bump("v1.0.0", image=_OTHER_IMAGE)


def test_an_inconclusive_analysis_promotes_and_reverts_nothing(
    two_versions: Served,
    served: Callable[[], Served],
    step: Callable[[Running | None], list[str]],
    registry: Registry,
    remote: Remote,
    model: str,
) -> None:
    before = remote.log()
    paused = canary(served(), two_versions, "Paused", message="InconclusiveAnalysisRun")
    assert step(paused) == [f"{model}(staging): v1.0.1: Paused at 10 % InconclusiveAnalysisRun"]
    assert (remote.log(), registry.find(model, "v1.0.1").aliases) == (before, ())


def test_a_persons_revert_is_left_alone(
    two_versions: Served, served: Callable[[], Served], step: Callable[[Running | None], list[str]], remote: Remote
) -> None:
    aborted = canary(served(), two_versions, "Degraded", failure=_FAILED)
    remote.git("revert", "--no-edit", "HEAD")
    remote.git("push", "--quiet", "origin", "main")
    before = remote.log()
    assert "waiting for Argo CD" in step(aborted)[0]
    assert remote.log() == before
    assert served() == two_versions


def test_another_environments_alias_stays_where_its_cluster_put_it(
    two_versions: Served,
    served: Callable[[], Served],
    step: Callable[[Running | None], list[str]],
    registry: Registry,
    settings: Settings,
    model: str,
) -> None:
    step(canary(served(), served(), "Healthy"))
    registry.alias(registry.find(model, "v1.0.0"), "production")
    with checkout(settings) as tree:
        sync(registry, tree, model, {"staging": served()})
    assert registry.find(model, "v1.0.0").aliases == ("production",)


@pytest.mark.parametrize("left", ["the folder", "nothing"])
def test_a_model_that_git_names_no_more_is_taken_out_of_the_registry_too(
    two_versions: Served,
    served: Callable[[], Served],
    step: Callable[[Running | None], list[str]],
    registry: Registry,
    settings: Settings,
    remote: Remote,
    model: str,
    left: str,
) -> None:
    """Once the cluster has let it go; whoever deletes a model may delete its gate with it."""
    running = canary(served(), served(), "Healthy")
    step(running)
    gone = ["clusters/staging/models/{}/release.yaml"]
    if left == "nothing":
        environments = ("staging", "production")
        gone += [f"clusters/{name}/models/{{}}/kustomization.yaml" for name in environments]
        gone += ["policies/promotion/{}.yaml"]
    remote.commit({path.format(model): None for path in gone})

    assert step(running) == [f"{model}(staging): git names none: waiting for Argo CD to take it out of the cluster"]
    (row,) = status(registry, settings, Said(running), "staging", [model])
    assert (row.model, row.git, row.cluster[:6], row.verdict) == (model, "-", "v1.0.1", "differ")
    assert (model, "staging", "alias staging taken from v1.0.1: staging serves none") in list(
        reconcile(registry, settings, Said(None), "staging", [])
    )
    found = registry.find(model, "v1.0.1")
    assert (found.aliases, found.lifecycle) == ((), Lifecycle.ARCHIVED)
    assert step(None) == []
    assert status(registry, settings, Said(None), "staging", [model]) == [(model, "-", "-", "-", "agree", "")]


def test_what_runs_though_git_never_named_it_is_told(
    served: Callable[[], Served], two_versions: Served, registry: Registry, settings: Settings
) -> None:
    rows = status(registry, settings, Said(canary(served(), served(), "Healthy")), "staging", [])
    assert [row.verdict for row in rows if row.model == "by-hand"] == ["differ"]


def test_one_broken_file_hides_no_other_models_row(
    two_versions: Served, served: Callable[[], Served], registry: Registry, settings: Settings, remote: Remote
) -> None:
    broken = "clusters/staging/models/broken/release.yaml"
    remote.commit({broken: "kind: Release\n"})
    rows = status(registry, settings, Said(canary(served(), served(), "Healthy")), "staging", [])
    assert [(row.git, row.verdict) for row in rows if broken in row.reason] == [("unreadable", "unknown")]
    assert "v1.0.1" in {row.git[:6] for row in rows}


def test_a_misspelt_environment_serves_not_nothing(registry: Registry, settings: Settings) -> None:
    with pytest.raises(Refused, match=r"clusters/stagign/ is not in git, only .*staging"):
        status(registry, settings, Said(None), "stagign", [])


def test_the_release_is_told_from_its_pod_template() -> None:
    served = Served("v1.2.0", "sha256:" + "1" * 64, IMAGE)
    template = {
        "metadata": {
            "labels": {"app.kubernetes.io/version": served.version},
            "annotations": {"plumbline.dev/digest": served.digest},
        },
        "spec": {"containers": [{"name": "side", "image": "x"}, {"name": "server", "image": IMAGE}]},
    }
    assert Served.in_template(template) == served


def test_a_round_each_minute_sees_what_was_committed_meanwhile_and_clones_once(
    remote: Remote, registry: Registry, settings: Settings, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(remote, "staging", made(model, "v1.0.0", "a"))
    slept: list[float] = []
    asked: list[str] = []
    real = programs.git
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds
        if len(slept) == 1:
            serve(remote, "staging", made(model, "v1.0.1", "b"))
        else:  # as if somebody had never committed it
            remote.git("reset", "--quiet", "--hard", "HEAD~1")
            remote.git("push", "--quiet", "--force", "origin", "main")

    def git(*arguments: str, **more: object) -> programs.Done:
        asked.extend(arguments[:1])
        return real(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(programs, "git", git)
    monkeypatch.setattr(reconciliation, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now))
    lasts = timedelta(minutes=3)
    said = [step.did for step in reconcile(registry, settings, Said(None), "staging", [model], lasts=lasts)]
    assert [line.split(":")[0] for line in said if "waiting for Argo CD" in line] == ["v1.0.0", "v1.0.1", "v1.0.0"]
    assert slept == [60, 60]
    assert asked.count("clone") == 1


def test_an_error_ends_the_rounds(
    registry: Registry, settings: Settings, remote: Remote, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.commit({f"clusters/staging/models/{model}/release.yaml": "kind: Release\n"})
    stopped = SimpleNamespace(sleep=lambda _: pytest.fail("another round"), monotonic=lambda: 0.0)
    monkeypatch.setattr(reconciliation, "time", stopped)
    with pytest.raises(Refused, match="correct the file first"):
        list(reconcile(registry, settings, Said(None), "staging", [model], lasts=timedelta(hours=1)))
