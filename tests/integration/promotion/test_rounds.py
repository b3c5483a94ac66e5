"""What a round of reconcile asks, by number of models: git, MLflow and the client of the API server are real."""

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loopback import Quiet, as_cluster

from plumbline.core import programs
from plumbline.core.release import Release
from plumbline.promotion.delivery import reconcile as reconciliation
from plumbline.promotion.delivery.cluster import Cluster
from plumbline.promotion.delivery.documents import release_path
from plumbline.promotion.delivery.reconcile import reconcile
from plumbline.promotion.delivery.release_text import new_text
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings

from .conftest import Remote, add_model, settings_of
from .releases import known, made


def healthy(release: Release) -> dict[str, Any]:
    """The Rollout of a release that is stable."""
    labels, annotations = {"app.kubernetes.io/version": release.spec.version}, {}
    annotations["plumbline.dev/digest"] = release.spec.artifact.digest
    pods = {"containers": [{"name": "server", "image": release.spec.image}]}
    return {
        "metadata": {"name": f"{release.model}-server", "generation": 1},
        "spec": {"template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pods}},
        "status": {"observedGeneration": "1", "phase": "Healthy", "stableRS": "s", "currentPodHash": "s"},
    }


class Counted:
    """MLflow's client, each call counted."""

    def __init__(self, client: Any, rounds: "Rounds") -> None:
        self._client, self._rounds = client, rounds

    def __getattr__(self, name: str) -> Any:
        self._rounds.count(f"mlflow {name}")
        return getattr(self._client, name)


class Rounds:
    """Models that are served, and a reconcile whose minutes a test fills."""

    def __init__(self, remote: Remote, registry: Registry, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.remote, self.registry, self.settings, self._patch = remote, registry, settings, monkeypatch
        self.rollouts: list[dict[str, Any]] = []
        self.models: list[str] = []
        self.count: Callable[[str], None] = lambda _: None

    def serve(self, models: list[str]) -> None:
        """Each is a version of the registry, served in staging and stable there."""
        known(self.registry, made(f"{models[0]}-nowhere", "v1.0.0", "a"))
        releases = [known(self.registry, made(model, "v1.0.0", "a")) for model in models]
        policy = (self.remote.work / f"policies/promotion/{models[0]}.yaml").read_text()
        files: dict[str, str | None] = {release_path("staging", item.model): new_text(item) for item in releases}
        files |= {
            f"policies/promotion/{model}.yaml": policy.replace(f"name: {models[0]}\n", f"name: {model}\n")
            for model in models
        }
        self.remote.commit(files, "many models")
        self.models, self.rollouts = models, [healthy(release) for release in releases]

    def run(self, *between: Callable[[], None]) -> list[tuple[list[str], Counter[str]]]:
        """(what was said, what was asked) of a round, and of one after each thing that happens."""
        waits, now = iter(between), 0.0
        rounds: list[tuple[list[str], Counter[str]]] = [([], Counter())]

        def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds
            next(waits)()
            rounds.append(([], Counter()))

        self.count = lambda what: rounds[-1][1].update([what])
        self._patch.setattr(reconciliation, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now))
        lasts = timedelta(minutes=len(between) + 1)
        for step in reconcile(self.registry, self.settings, Cluster(), "staging", [], lasts=lasts):
            rounds[-1][0].append(f"{step.model}: {step.did}")
        self.count = lambda _: None
        return rounds


@pytest.fixture
def rounds(
    tmp_path: Path, address: str, keys: tuple[Path, Path], model: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rounds]:
    remote, real = Remote(tmp_path / "git"), programs.git
    add_model(remote, model)
    registry = Registry(address)
    settings = settings_of(remote, keys, follows="cluster")
    found = Rounds(remote, registry, settings, monkeypatch)
    registry.__dict__["client"] = Counted(registry.client, found)

    def git(*arguments: str, **more: Any) -> programs.Done:
        found.count("git")
        return real(*arguments, **more)

    class Api(Quiet):
        def do_GET(self) -> None:
            found.count(f"cluster {self.path.partition('?')[0].rpartition('/')[2]}")
            body = json.dumps({"items": found.rollouts}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body)

    monkeypatch.setattr(programs, "git", git)
    with as_cluster(Api, tmp_path, monkeypatch):
        yield found


def nothing() -> None:
    """Nobody does anything for a minute."""


@pytest.mark.parametrize("count", [1, 10, 100])
def test_what_is_asked_grows_with_what_happens_and_not_with_the_models(rounds: Rounds, model: str, count: int) -> None:
    rounds.serve([model, *(f"{model}-{number}" for number in range(1, count))])
    listings = {"cluster rollouts": 1, "mlflow search_model_versions": 1, "mlflow search_registered_models": 1}
    ((said, _),) = rounds.run()
    assert len([line for line in said if "alias staging → v1.0.0" in line]) == count

    def one_model() -> None:
        path = release_path("staging", model)
        rounds.remote.commit({path: (rounds.remote.work / path).read_text() + "# noted\n"})

    def elsewhere() -> None:
        rounds.remote.commit({"notes/a.md": "a\n", "clusters/notes.md": "a\n", "clusters/staging/models/a.md": "a\n"})

    full, still, noted, apart = rounds.run(nothing, one_model, elsewhere)
    assert full[0] == still[0] == noted[0] == apart[0] == []
    # A process that begins looks at each once: at its report, and at the past of its file in git.
    assert full[1] == listings | {"mlflow list_artifacts": count, "git": full[1]["git"]}
    assert full[1]["git"] <= 9 + 10 * count
    assert still[1] == listings | {"git": 3}
    assert apart[1] == listings | {"git": 5}
    assert noted[1] == listings | {"mlflow list_artifacts": 1, "git": noted[1]["git"]}
    assert noted[1]["git"] <= 20


def test_what_any_of_the_three_says_anew_is_looked_at(rounds: Rounds, model: str) -> None:
    rounds.serve([model, f"{model}-1"])
    rounds.run()
    other = f"{model}-1"

    def waits() -> None:
        rollout = copy.deepcopy(rounds.rollouts[1])
        rollout["status"] |= {"phase": "Paused", "message": "waits"}
        rounds.rollouts[1] = rollout

    def healthy_again() -> None:
        rounds.rollouts[1]["status"] |= {"phase": "Healthy", "message": ""}

    def by_hand() -> None:
        rounds.registry.remove_alias(rounds.registry.find(model, "v1.0.0"), "staging")

    def policy() -> None:
        rounds.remote.commit({"policies/a.md": "a\n"})

    def set_back() -> None:
        rounds.remote.git("reset", "--quiet", "--hard", "HEAD~1")
        rounds.remote.git("push", "--quiet", "--force", "origin", "main")

    said = [lines for lines, _ in rounds.run(nothing, waits, nothing, healthy_again, by_hand, nothing)]
    paused = [f"{other}: v1.0.0: Paused at 0 % waits"]
    assert said == [[], [], paused, paused, [], [f"{model}: alias staging → v1.0.0"], []]
    looked_at = [asked["mlflow list_artifacts"] for _, asked in rounds.run(nothing, policy, nothing, set_back)]
    assert looked_at == [2, 0, 2, 0, 2]
