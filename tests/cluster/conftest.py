"""Fixtures of the cluster tests: a running cluster, a clone to commit to as a person would, and load."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The harness, the helpers beside this file, and tests/bundles.py.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from harness.binaries import binaries
from harness.kubectl import Kubectl
from harness.settings import GATEWAY_NODE_PORT, KUBECONFIG
from person import Person
from servers import Server, example, failing_server, real_servers
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
def servers(kubectl: Kubectl) -> dict[str, Server]:
    """The real server with a model for each version."""
    return real_servers()


@pytest.fixture(scope="session")
def faulty_server(servers: dict[str, Server]) -> Server:
    """One answer in five is an error."""
    return failing_server(0.2, like=servers["v1.1.0"])


@pytest.fixture
def traffic(kubectl: Kubectl) -> Iterator[Traffic]:
    """About 100 requests a second to the flights model, through the gateway's port on loopback."""
    with Traffic("flights.models.internal", GATEWAY_NODE_PORT, json.dumps({"features": example()})) as running:
        yield running
