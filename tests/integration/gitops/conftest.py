"""One API server for all tests of this folder."""

from collections.abc import Iterator

import pytest
from gitops.api_server import api_server
from gitops.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Nothing in it but what Kubernetes has by itself."""
    with api_server() as client:
        yield Cluster(client)
