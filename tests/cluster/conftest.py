"""Fixtures of the cluster tests: a running cluster, a model that it serves, and load."""

import json
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

# The harness, and the helpers beside this file.
sys.path.insert(0, str(Path(__file__).parent))

import rollouts
import servers
from person import Person
from rollouts import MODEL
from traffic import Traffic, api_key, requests_of
from workstation import Workstation, workstation

from harness.binaries import binaries
from harness.kubectl import Kubectl
from harness.settings import GATEWAY_NODE_PORT, GIVEN, KUBECONFIG, ROOT, RUNNING, STATE
from plumbline.tree.values import Values, read_values


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests are of the environment that runs: those of a cloud, or all others."""
    in_cloud = RUNNING.exists() and bool(read_values(ROOT, RUNNING.read_text()).region)
    others = [item for item in items if (item.get_closest_marker("cloud") is not None) != in_cloud]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    """The cluster that `python -m harness up` left running, or the one that KUBECONFIG names."""
    if not KUBECONFIG.exists():
        pytest.fail(f"no cluster: {KUBECONFIG} is missing; run `make cluster-up` first")
    STATE.mkdir(parents=True, exist_ok=True)
    return Kubectl(os.environ.get("KUBECTL", "kubectl") if GIVEN else binaries("kubernetes")["kubectl"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure comes with what the controllers and the promotion did: minutes later the cluster is gone."""
    report = yield
    given = getattr(item, "funcargs", {})
    if report.failed and "desk" in given:
        with suppress(Exception):  # whatever is broken, the failure itself is shown
            report.sections.append(("the Rollout", rollouts.story(given["kubectl"])))
            report.sections.append(("git", "\n".join(given["desk"].log()[:10])))
    return report


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Someone with a fresh clone."""
    return Person.clone(tmp_path / "clone")


@pytest.fixture(scope="session")
def values() -> Values:
    """What the environment is; a cluster of somebody's own runs `local`."""
    return read_values(ROOT, RUNNING.read_text() if RUNNING.exists() else "local")


@pytest.fixture(scope="session")
def desk(kubectl: Kubectl, values: Values, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workstation]:
    """MLflow and `promotion`."""
    with workstation(kubectl, values, tmp_path_factory.mktemp("keys")) as running:
        yield running


@pytest.fixture(scope="session")
def served(desk: Workstation) -> None:
    """Some version of the model is served; on an empty cluster the first is trained on this machine."""
    if desk.release(MODEL) is None:
        desk.promote(MODEL, desk.train(MODEL), servers.server())


@pytest.fixture
def stable(kubectl: Kubectl, desk: Workstation, person: Person, served: None) -> Iterator[str]:
    """The image that serves everything.

    Whatever the test does, the person's commits are taken back when it has ended, and git, cluster and registry agree.
    """
    yield rollouts.settled(kubectl, desk)
    person.revert()
    rollouts.settled(kubectl, desk)
    print(desk.said)


@pytest.fixture(scope="session")
def bodies(desk: Workstation, served: None, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Requests from the holdout rows of the model: by equal rows two versions could not be compared."""
    release = desk.release(MODEL)
    assert release is not None
    folder = tmp_path_factory.mktemp("holdout")
    return requests_of(desk.mlflow, release.spec.lineage.run, folder)


@pytest.fixture
def open_gateway(kubectl: Kubectl, bodies: list[str]) -> Callable[..., Traffic]:
    """Load for the model, through the gateway's port on loopback: about 100 requests a second if nothing is said."""
    key = api_key(kubectl)
    return lambda **how: Traffic(f"{MODEL}.models.internal", GATEWAY_NODE_PORT, bodies, key, **how)


@pytest.fixture
def traffic(open_gateway: Callable[..., Traffic], stable: str) -> Iterator[Traffic]:
    """Load while the test runs: without it no canary would be judged."""
    with open_gateway() as running:
        yield running


@pytest.fixture
def ask(open_gateway: Callable[..., Traffic], bodies: list[str]) -> Callable[[dict[str, str]], str]:
    """One request with more headers: the version that answered."""
    return lambda headers: json.loads(open_gateway().ask(bodies[0], headers)[1])["version"]
