"""Every Secret and key that a rendered object names is filled in its namespace, and no Secret is filled for nobody."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asis
import pytest
import yaml

from plumbline.tree.bootstrap import contents
from plumbline.tree.render.build import environments
from plumbline.tree.values import read_values

ROOT = Path(__file__).parents[3]
Key = tuple[str, str, str]
"""Namespace, Secret, key; the key is * where a pod takes them all, ? where it takes them if they are there."""


def _named(node: Any, optional: tuple[bool, ...]) -> Iterator[tuple[str, str]]:
    """(Secret, key) that an object names, as Kubernetes, the Prometheus operator and Argo CD write it.

    An optional volume is somebody's choice: receivers of alerts, say.
    """
    if isinstance(node, str):
        yield from re.findall(r"\$([a-z-]+):([a-z-]+)", node)
        # A filter reads what the gateway's pods mount, which are a chart's.
        yield from re.findall(r'"/etc/secrets/([a-z-]+)/([A-Z_]+)"', node)
    elif isinstance(node, list):
        for item in node:
            yield from _named(item, optional)
    elif isinstance(node, dict):
        if (reference := node.get("secretKeyRef")) is not None:
            yield reference["name"], reference["key"]
        if (reference := node.get("secretRef")) is not None:
            yield reference["name"], "?" if reference.get("optional") else "*"
        if isinstance(mounted := node.get("secret"), dict) and mounted.get("optional", False) in optional:
            name = mounted.get("secretName") or mounted["name"]
            yield from ((name, item["key"]) for item in mounted.get("items") or [{"key": "*"}])
        for part in (node.get("basicAuth") or {}).values():
            yield part["name"], part["key"]
        for value in node.values():
            yield from _named(value, optional)


def _wanted(objects: list[dict[str, Any]], *optional: bool) -> set[Key]:
    return {
        (item["metadata"]["namespace"], *found)
        for item in objects
        if item["kind"] != "ExternalSecret"
        for found in _named(item.get("spec"), optional)
    }


def _filled_from_store(objects: list[dict[str, Any]]) -> set[Key]:
    found = set()
    for item in objects:
        if item["kind"] == "ExternalSecret":
            spec, name = item["spec"], item["metadata"]["name"]
            template = spec.get("target", {}).get("template", {}).get("data")
            keys = template or [entry["secretKey"] for entry in spec["data"]]
            found |= {(item["metadata"]["namespace"], name, key) for key in keys}
    return found


def _filled_locally() -> set[Key]:
    known: dict[str, dict[str, str]] = {}
    found = set()
    for item in yaml.safe_load((ROOT / "clusters/local/secrets.yaml").read_text(encoding="utf-8")):
        known[item["name"]] = contents(item, known)
        found |= {(namespace, item["name"], key) for namespace in item["namespaces"] for key in known[item["name"]]}
    return found


@pytest.mark.parametrize("environment", environments(ROOT))
def test_what_is_named_is_filled_and_no_more(environment: str) -> None:
    # The environment's own folder is Argo CD's, which names its Secrets in texts of its own.
    own = f"clusters/{environment}"
    objects = [item for folder, items in asis.rendered(environment).items() if folder != own for item in items]
    ours = {item["metadata"]["namespace"] for item in objects if "namespace" in item["metadata"]}
    # So does the server of Argo Workflows, in its ConfigMap.
    ours -= {"argo"}
    in_cloud = bool(read_values(ROOT, environment).buckets)
    filled = _filled_from_store(objects) if in_cloud else _filled_locally()
    filled = {key for key in filled if key[0] in ours}
    wanted = _wanted(objects, False)
    assert wanted, "no object names a Secret: this test looks in the wrong place"
    whole = {(namespace, name, "*") for namespace, name, _ in filled}
    missing = {key for key in wanted - filled - whole if key[2] != "?"}
    assert not missing, f"{environment}: named and not filled (docs/secrets.md says where to add them): {missing}"
    unused = {key[:2] for key in filled} - {key[:2] for key in _wanted(objects, True, False)}
    assert not unused, f"{environment}: filled and named by nobody: {unused}"


def test_an_external_secret_asks_for_the_name_and_keys_that_the_documents_say() -> None:
    table = (ROOT / "docs/secrets.md").read_text(encoding="utf-8")
    files = sorted((ROOT / "kustomize/components/secrets").glob("*/external-secret.yaml"))
    assert files
    for file in files:
        secret = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert secret["metadata"]["name"] == file.parent.name
        for entry in secret["spec"]["data"]:
            assert entry["remoteRef"] == {"key": file.parent.name, "property": entry["secretKey"]}
            assert f"`{file.parent.name}`" in table
            assert f"`{entry['secretKey']}`" in table
