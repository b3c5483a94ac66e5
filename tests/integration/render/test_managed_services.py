"""PostgreSQL and Redis outside the cluster are believed by the names in their certificates, in every pod that asks."""

import re
from typing import Any

import asis
import pytest
import trees
import yaml
from cryptography import x509

from plumbline.tree.render.build import environments
from plumbline.tree.values import read_values

Objects = list[dict[str, Any]]
MANAGED = [name for name in environments(trees.ROOT) if read_values(trees.ROOT, name).buckets]
BUNDLE = next((trees.ROOT / "kustomize/components/managed-services/postgresql").glob("*.pem"))


@pytest.fixture(scope="module", params=MANAGED)
def folders(request: pytest.FixtureRequest) -> dict[str, Objects]:
    return asis.rendered(request.param)


def services(objects: Objects) -> dict[str, str]:
    found = [item["data"] for item in objects if re.fullmatch(r"(\w+-)?services-\w+", item["metadata"]["name"])]
    return found[0] if found else {}


def test_the_servers_are_asked_for_their_names(folders: dict[str, Objects]) -> None:
    said = [found for objects in folders.values() if (found := services(objects))]
    assert said
    for found in said:
        assert (found["PGSSLMODE"], found["REDIS_SCHEME"]) == ("verify-full", "rediss")
        # An alias of ours is in no certificate of a managed service.
        assert re.search(r"\.(rds\.amazonaws\.com|invalid)$", found["PGHOST"])
        assert re.search(r"\.(cache\.amazonaws\.com|invalid):6379$", found["REDIS_ADDRESS"])


def test_whoever_asks_postgresql_has_what_its_certificate_is_signed_with(folders: dict[str, Objects]) -> None:
    asking = 0
    for objects in folders.values():
        root = services(objects).get("PGSSLROOTCERT", "")
        for item in objects:
            for spec in _pods(item):
                names = {entry.get("configMapRef", {}).get("name", "") for entry in spec["containers"][0]["envFrom"]}
                if not any(re.match(r"services-", name) for name in names):
                    continue
                asking += 1
                (volume,) = (
                    one["name"] for one in spec["volumes"] if one.get("configMap", {}).get("name") == "postgresql-ca"
                )
                mounts = {one["name"]: one["mountPath"] for one in spec["containers"][0]["volumeMounts"]}
                (held,) = (one for one in objects if one["metadata"]["name"] == "postgresql-ca")
                assert {f"{mounts[volume]}/{key}" for key in held["data"]} == {root}
    assert asking > 10


def _pods(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Pods with settings from a ConfigMap; of a Workflow's, what the controller makes of step and patch."""
    if item["kind"] in ("Deployment", "Job"):
        specs = [item["spec"]["template"]["spec"]]
    elif item["kind"] == "WorkflowTemplate":
        spec = item["spec"]
        patch = yaml.safe_load(spec["podSpecPatch"])
        (more,) = patch["containers"]
        assert more["name"] == "main"
        containers = [one["container"] for one in spec["templates"] if "container" in one]
        specs = [{**patch, "containers": [one | {"volumeMounts": more["volumeMounts"]}]} for one in containers]
    else:
        specs = []
    return [spec for spec in specs if "envFrom" in spec["containers"][0]]


def test_the_roots_are_roots_of_regions() -> None:
    roots = x509.load_pem_x509_certificates(BUNDLE.read_bytes())
    names = {root.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value for root in roots}
    for root in roots:
        root.verify_directly_issued_by(root)
        assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert all(re.fullmatch(r"Amazon RDS [a-z]+(-[a-z]+)+-\d Root CA RSA2048 G1", str(name)) for name in names)
