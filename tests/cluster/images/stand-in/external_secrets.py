"""Stands for External Secrets: AWS Secrets Manager's entries into Secrets; the chart runs it as three programs."""

import base64
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import kube
import serve

_GROUP = "/apis/external-secrets.io/v1"
_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
_seen: dict[str, Any] = {}


def _fill() -> None:
    """Each store is told that it is well, and each ExternalSecret is filled that its store's conditions let."""
    stores = {item["metadata"]["name"]: item for item in kube.items(f"{_GROUP}/clustersecretstores")}
    for name, store in stores.items():
        before = store.get("status", {}).get("conditions", [])
        if not before:
            ready = kube.condition(True, "Valid", "store validated", before)
            kube.set_status(f"{_GROUP}/clustersecretstores/{name}", {"conditions": [ready], "capabilities": "ReadOnly"})
    for item in kube.items(f"{_GROUP}/externalsecrets"):
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        try:
            values = _values(item, stores)
            said = (True, "SecretSynced", "secret synced")
        except (RuntimeError, KeyError, OSError) as error:
            values, said = None, (False, "SecretSyncedError", str(error) or repr(error))
        path = f"/api/v1/namespaces/{namespace}/secrets/{_target(item).get('name', name)}"
        if _seen.get(item["metadata"]["uid"]) == (values, said) and kube.request("GET", path):
            continue
        if values is not None:
            kube.apply(path, _secret(item, values), "external-secrets")
        status = item.get("status", {})
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ready = kube.condition(*said, status.get("conditions", []))
        kube.set_status(
            f"{_GROUP}/namespaces/{namespace}/externalsecrets/{name}", {"conditions": [ready], "refreshTime": now}
        )
        _seen[item["metadata"]["uid"]] = (values, said)


def _target(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = item["spec"].get("target", {})
    return found


def _values(item: dict[str, Any], stores: dict[str, Any]) -> dict[str, str]:
    spec = item["spec"]
    if unknown := spec.keys() - {"data", "refreshInterval", "refreshPolicy", "secretStoreRef", "target"}:
        raise RuntimeError(f"the stand-in knows no {', '.join(sorted(unknown))}")
    if _target(item).get("template", {}).keys() & {"data", "templateFrom"}:
        raise RuntimeError("the stand-in fills in no template")
    store = stores.get(spec["secretStoreRef"]["name"])
    if store is None:
        raise RuntimeError(f"no ClusterSecretStore {spec['secretStoreRef']['name']}")
    allowed = [one for condition in store["spec"].get("conditions", []) for one in condition["namespaces"]]
    if allowed and item["metadata"]["namespace"] not in allowed:
        raise RuntimeError("using cluster store is not allowed from namespace: denied by spec.condition")
    aws = store["spec"]["provider"]["aws"]
    entries = {one["remoteRef"]["key"] for one in spec["data"]}
    found = {key: _entry(aws["region"], aws.get("prefix", "") + key) for key in entries}
    return {one["secretKey"]: found[one["remoteRef"]["key"]][one["remoteRef"]["property"]] for one in spec["data"]}


def _entry(region: str, name: str) -> dict[str, str]:
    """GetSecretValue of Secrets Manager. Its stand-in asks for no signature."""
    headers = {
        "X-Amz-Target": "secretsmanager.GetSecretValue",
        "Content-Type": "application/x-amz-json-1.1",
    }
    url = f"https://secretsmanager.{region}.amazonaws.com/"
    request = urllib.request.Request(url, json.dumps({"SecretId": name}).encode(), headers)
    with urllib.request.urlopen(request, timeout=10, context=kube.TRUST) as answer:  # noqa: S310 - https
        entry: dict[str, str] = json.loads(json.load(answer)["SecretString"])
        return entry


def _secret(item: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    metadata, target = item["metadata"], _target(item)
    template = target.get("template", {})
    owner = {
        "apiVersion": item["apiVersion"],
        "kind": "ExternalSecret",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": template.get("type", "Opaque"),
        "metadata": {
            "name": target.get("name", metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": template.get("metadata", {}).get("labels", {}),
            "annotations": template.get("metadata", {}).get("annotations", {}),
            "ownerReferences": [owner],
        },
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def _certify(options: dict[str, str]) -> None:
    """The webhook's certificate into its Secret, and its authority into whoever calls it."""
    path = f"/api/v1/namespaces/{options['secret-namespace']}/secrets/{options['secret-name']}"
    secret = kube.request("GET", path)
    if "tls.crt" not in (secret.get("data") or {}):
        host = f"{options['service-name']}.{options['service-namespace']}.svc"
        with tempfile.TemporaryDirectory() as folder:
            paths = serve.self_signed(host, Path(folder))
            secret["data"] = {path.name: base64.b64encode(path.read_bytes()).decode() for path in paths}
        secret["data"]["ca.crt"] = secret["data"]["tls.crt"]
        kube.request("PUT", path, secret)
    for item in kube.items(_WEBHOOKS):
        if item["metadata"]["name"] in ("externalsecret-validate", "secretstore-validate"):
            kube_inject(f"{_WEBHOOKS}/{item['metadata']['name']}", item, secret["data"]["ca.crt"])


def kube_inject(path: str, item: dict[str, Any], bundle: str) -> None:
    """Say by whom a webhook's certificate is signed."""
    if any(hook["clientConfig"].get("caBundle") != bundle for hook in item["webhooks"]):
        for hook in item["webhooks"]:
            hook["clientConfig"]["caBundle"] = bundle
        kube.request("PUT", path, item)


def main() -> None:
    """What the first argument says, until killed."""
    given = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    options = dict(argument.removeprefix("--").partition("=")[::2] for argument in given)
    part = sys.argv[1] if len(sys.argv) > 1 and not sys.argv[1].startswith("--") else "controller"
    if part == "controller":
        kube.forever(_fill)
    serve.start(int(options["healthz-addr"].rpartition(":")[2]))
    if part == "certcontroller":
        kube.forever(lambda: _certify(options))
    folder = Path(options["cert-dir"])
    while not (folder / "tls.crt").exists():
        time.sleep(1)
    serve.start(int(options["port"]), folder / "tls.crt", folder / "tls.key")


if __name__ == "__main__":
    main()
