"""One API server for all tests of this folder."""

from collections.abc import Iterator

import pytest

from plumbline.tree.validate.api_server import api_server
from plumbline.tree.validate.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Nothing in it but what Kubernetes has by itself."""
    with api_server() as client:
        yield Cluster(client)
