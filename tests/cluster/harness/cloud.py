"""What EKS does for a cluster: a load balancer for each Service that asks for one, a volume for each claim.

Run as `python -m harness.cloud`. Load balancers are names alone: who tests asks the Service's node port on loopback.
"""

import json
import sys
import time
from typing import Any

from harness.binaries import binaries
from harness.kubectl import Kubectl
from harness.settings import STATE

STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "ebs", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "ebs.csi.aws.com",
}


def main() -> None:
    """Look every two seconds, until killed."""
    kubectl = Kubectl(binaries("kubernetes")["kubectl"])
    while True:
        try:
            _balance(kubectl)
            _provide(kubectl)
        except RuntimeError as error:
            sys.stderr.write(f"{error}\n")
        time.sleep(2)


def _balance(kubectl: Kubectl) -> None:
    for item in kubectl.items("services", "--all-namespaces"):
        if item["spec"]["type"] == "LoadBalancer" and not item["status"]["loadBalancer"]:
            name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
            status = {"loadBalancer": {"ingress": [{"hostname": f"{name}.elb.amazonaws.com"}]}}
            patch = ("--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}")
            kubectl.run("patch", "service", name, f"--namespace={namespace}", *patch)


def _provide(kubectl: Kubectl) -> None:
    for item in kubectl.items("persistentvolumeclaims", "--all-namespaces"):
        if item["status"].get("phase") == "Pending" and item["spec"].get("storageClassName") == "ebs":
            kubectl.apply([_volume(item)])


def _volume(claim: dict[str, Any]) -> dict[str, Any]:
    metadata, spec = claim["metadata"], claim["spec"]
    path = STATE / "volumes" / metadata["uid"]
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)  # a folder of the node has no group of the pod's, as a disk has
    reference = {key: metadata[key] for key in ("name", "namespace", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pvc-{metadata['uid']}"},
        "spec": {
            "capacity": spec["resources"]["requests"],
            "accessModes": spec["accessModes"],
            "storageClassName": "ebs",
            "hostPath": {"path": str(path)},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **reference},
        },
    }


if __name__ == "__main__":
    main()
