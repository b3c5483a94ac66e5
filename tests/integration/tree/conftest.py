"""One API server for all tests of this folder, and what they put into it."""

from collections.abc import Iterator
from pathlib import Path

import asis
import pytest

from plumbline.tree.render.build import build
from plumbline.tree.validate.api_server import api_server
from plumbline.tree.validate.cluster import Cluster
from plumbline.tree.validate.crds import crds_of
from plumbline.tree.validate.examples import read_examples, spaces, witnesses

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Nothing in it but what Kubernetes has by itself."""
    with api_server() as client:
        yield Cluster(client)


@pytest.fixture(scope="session")
def kinds(cluster: Cluster) -> None:
    """The kinds of third parties that the examples are of."""
    used = {(item.object["apiVersion"].split("/")[0], item.object["kind"]) for item in read_examples(ROOT)}
    sources = {source for item in asis.everywhere() for source in item.sources()}
    cluster.load(list({crd.name: crd for crd in crds_of(sources) if crd.kind in used}.values()))


@pytest.fixture(scope="session")
def policies(cluster: Cluster, kinds: None) -> set[str]:
    """The rules of production, in force."""
    objects = [*build(ROOT, "policies/admission"), *build(ROOT, "policies/admission/guarded")]
    bindings = [item for item in objects if item["kind"] == "ValidatingAdmissionPolicyBinding"]
    for item in [*spaces(bindings), *objects, *(second for binding in bindings for second in witnesses(binding))]:
        cluster.apply(item)
    return {item["metadata"]["name"] for item in objects}
