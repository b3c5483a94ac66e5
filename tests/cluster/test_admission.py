"""The rules of policies/admission, on the cluster that runs them."""

import httpx
import pytest
from workstation import forwarded

from harness.kubectl import Kubectl
from harness.settings import ROOT
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.cluster import Cluster
from plumbline.tree.validate.examples import NAMESPACE, check_examples, of_environment, read_examples, witness

pytestmark = pytest.mark.timeout(300)


def test_each_example_is_accepted_or_refused_by_its_rule(kubectl: Kubectl) -> None:
    tree = Environment.load(ROOT, "local")
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "plumbline"}},
    }
    witnesses = [witness(binding) for binding in tree.of_kind("ValidatingAdmissionPolicyBinding")]
    with (
        forwarded(kubectl, "proxy", "--port=PORT") as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        cluster = Cluster(client)
        for item in (namespace, *witnesses):
            cluster.apply(item)
        try:
            policies = {item["metadata"]["name"] for item in tree.of_kind("ValidatingAdmissionPolicy")}
            assert not check_examples(cluster, of_environment(read_examples(ROOT), tree.name), policies)
        finally:
            for item in (*witnesses, namespace):
                cluster.delete(item)
