"""Fixtures of the cluster tests: a running cluster, a clone to commit to as a person would, and load."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.binaries import binaries
from harness.images import Image, push
from harness.kubectl import Kubectl
from harness.settings import GATEWAY_NODE_PORT, KUBECONFIG
from person import Person
from traffic import Traffic


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    """The cluster that `python -m harness up` left running."""
    if not KUBECONFIG.exists():
        pytest.fail(f"no cluster: {KUBECONFIG} is missing; run `make cluster-up` first")
    return Kubectl(binaries()["kubectl"])


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Someone with a fresh clone."""
    return Person.clone(tmp_path / "clone")


@pytest.fixture(scope="session")
def good_image() -> str:
    """A server that answers."""
    return _reference("ghcr.io/plumbline-dev/serving", ())


@pytest.fixture(scope="session")
def faulty_image() -> str:
    """The same with one answer in five an error."""
    return _reference("ghcr.io/plumbline-dev/serving-faulty", ("FAULTY=0.2",))


def _reference(name: str, build_arguments: tuple[str, ...]) -> str:
    return f"{name}@{push(Image(f'{name}:test', 'stand-in', build_arguments=build_arguments))}"


@pytest.fixture
def traffic(kubectl: Kubectl) -> Iterator[Traffic]:
    """About 100 requests a second to the flights model, through the gateway's port on loopback."""
    with Traffic("flights.models.internal", GATEWAY_NODE_PORT) as running:
        yield running
