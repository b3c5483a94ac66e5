"""The rules of policies/admission, on the cluster that runs them."""

import httpx
import pytest
from workstation import forwarded

from harness.kubectl import Kubectl
from harness.settings import ROOT
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.cluster import Cluster
from plumbline.tree.validate.examples import check_examples, of_environment, read_examples, spaces, witnesses

pytestmark = pytest.mark.timeout(300)


def test_each_example_is_accepted_or_refused_by_its_rule(kubectl: Kubectl) -> None:
    tree = Environment.load(ROOT, "local")
    bindings = tree.of_kind("ValidatingAdmissionPolicyBinding")
    places = spaces(bindings)
    # Unlike the API server of the tests, a cluster asks a pod's account to be there.
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "server", "namespace": space}}
        for space in (item["metadata"]["name"] for item in places)
    ]
    standing = [*places, *accounts, *(second for binding in bindings for second in witnesses(binding))]
    with (
        forwarded(kubectl, "proxy", "--port=PORT") as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        cluster = Cluster(client)
        for item in standing:
            cluster.apply(item)
        try:
            policies = {item["metadata"]["name"] for item in tree.of_kind("ValidatingAdmissionPolicy")}
            assert not check_examples(cluster, of_environment(read_examples(ROOT), tree.name), policies)
        finally:
            for item in reversed(standing):
                cluster.delete(item)
