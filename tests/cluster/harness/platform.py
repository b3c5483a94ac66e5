"""What the cluster runs: Istio as far as it can be had, then what scripts/bootstrap makes of this repository."""

import os
import subprocess
from importlib.resources import files
from pathlib import Path

import yaml

from harness import applications, charts, pki
from harness.binaries import module_dir, module_version
from harness.images import Image, named, program, push
from harness.kubectl import Kubectl
from harness.processes import StartError
from harness.repositories import GIT, OURS, TOKEN, git, hosts
from harness.settings import KUBECONFIG, ROOT, STATE
from plumbline.tree.render.build import build, render
from plumbline.tree.tools import kustomize
from plumbline.tree.values import Values

_OPERATOR = "quay.io/prometheus-operator"
_VERSITYGW = kustomize().with_name("versitygw").resolve()
_ENVOY = Path(str(files("envoy") / "_bin/envoy"))
_ARGO_CD = ("argocd", "github.com/argoproj/argo-cd/v3")


def push_images(binaries: dict[str, Path], values: Values) -> None:
    """Every image that the manifests name and the machine can supply, under the tag that they ask for."""
    own = _in_cloud(binaries) if values.region else _local(binaries)
    for image in (*_argo_cd(binaries), *_controllers(binaries), *_services(binaries), *own):
        push(image)


def _argo_cd(binaries: dict[str, Path]) -> list[Image]:
    source = module_dir(*_ARGO_CD)
    scripts = (source / "hack/gpg-wrapper.sh", source / "hack/git-verify-wrapper.sh", source / "entrypoint.sh")
    programs = (binaries["argocd"], kustomize().resolve(), *scripts)
    redis = named(source / "manifests/core-install.yaml", "redis")
    return [Image(f"quay.io/argoproj/argocd:{module_version(*_ARGO_CD)}", "argocd", programs), Image(redis, "redis")]


def _controllers(binaries: dict[str, Path]) -> list[Image]:
    rollouts = module_version("rollouts", "github.com/argoproj/argo-rollouts")
    workflows = module_version("argo-workflows", "github.com/argoproj/argo-workflows/v4")
    keda = module_version("keda", "github.com/kedacore/keda/v2").removeprefix("v")
    metrics = module_version("metrics-server", "sigs.k8s.io/metrics-server")
    operator = module_version("prometheus-operator", "github.com/prometheus-operator/prometheus-operator")
    wanted = (
        (f"quay.io/argoproj/argo-rollouts:{rollouts}", "rollouts-controller", "/bin/rollouts-controller", 999),
        (f"quay.io/argoproj/workflow-controller:{workflows}", "workflow-controller", "/bin/workflow-controller", 8737),
        (f"ghcr.io/kedacore/keda:{keda}", "keda", "/keda", 1000),
        (f"ghcr.io/kedacore/keda-metrics-apiserver:{keda}", "keda-adapter", "/keda-adapter", 1000),
        (f"registry.k8s.io/metrics-server/metrics-server:{metrics}", "metrics-server", "/metrics-server", 65534),
        (f"{_OPERATOR}/prometheus-operator:{operator}", "prometheus-operator", "/bin/operator", 65534),
        (
            f"{_OPERATOR}/prometheus-config-reloader:{operator}",
            "prometheus-config-reloader",
            "/bin/prometheus-config-reloader",
            65534,
        ),
    )
    executor = Image(f"quay.io/argoproj/argoexec:{workflows}", "argoexec", (binaries["argoexec"],))
    return [executor, *(program(name, binaries[built], at, user) for name, built, at, user in wanted)]


def _services(binaries: dict[str, Path]) -> list[Image]:
    bases = ROOT / "kustomize"
    return [
        Image("registry.k8s.io/pause:3.10", "pause"),
        Image(named(bases / "postgresql/stateful-set.yaml"), "postgres"),
        Image(named(bases / "redis/stateful-set.yaml"), "redis"),
        program(named(bases / "monitoring/prometheus.yaml"), binaries["prometheus"], "/bin/prometheus"),
    ]


def _local(binaries: dict[str, Path]) -> list[Image]:
    monitoring = ROOT / "clusters/local/workloads/monitoring/kustomization.yaml"
    store = named(ROOT / "kustomize/object-store/stateful-set.yaml")
    return [
        program("docker.io/istio/pilot:test", binaries["pilot-discovery"], "/usr/local/bin/pilot-discovery", 1337),
        program("docker.io/istio/proxyv2:test", _ENVOY, "/usr/local/bin/envoy", 1337),
        program(store, _VERSITYGW, "/usr/local/bin/versitygw", 10001),
        Image(named(monitoring, "alertmanager"), "alertmanager"),
    ]


def _in_cloud(binaries: dict[str, Path]) -> list[Image]:
    """Of charts and of what stands outside (docs/testing.md)."""
    components, monitoring = ROOT / "apps/components", ROOT / "kustomize/monitoring"
    argo_cd = f"quay.io/argoproj/argocd:{module_version(*_ARGO_CD)}"
    istio = yaml.safe_load((components / "istio/istiod.yaml").read_text())["spec"]["source"]
    hub = "{hub}/{{}}:{tag}".format_map(istio["helm"]["valuesObject"]["global"])
    bootstrap = module_dir("istio", "istio.io/istio") / "tools/packaging/common/envoy_bootstrap.json"
    versions = {
        name: module_version("charts", f"github.com/{name}/{name}") for name in ("cert-manager", "external-secrets")
    }
    signing = (
        Image(
            f"quay.io/jetstack/cert-manager-{part}:{versions['cert-manager']}",
            "stand-in",
            (),
            ("PROGRAM=cert_manager.py",),
        )
        for part in ("controller", "webhook", "cainjector")
    )
    server = module_version("argo-workflows", "github.com/argoproj/argo-workflows/v4")
    return [
        Image(argo_cd, "argocd-helm", (binaries["helm"],), (f"IMAGE={argo_cd}",)),
        Image(hub.format("pilot"), "pilot", (binaries["pilot-discovery"],)),
        Image(hub.format("proxyv2"), "proxy", (binaries["pilot-agent"], _ENVOY, bootstrap)),
        *signing,
        Image(
            f"ghcr.io/external-secrets/external-secrets:{versions['external-secrets']}",
            "stand-in",
            (),
            ("PROGRAM=external_secrets.py",),
        ),
        Image(f"quay.io/argoproj/argocli:{server}", "stand-in", (), ("PROGRAM=argo_server.py",)),
        Image(named(monitoring / "components/grafana/deployment.yaml"), "stand-in", (), ("PROGRAM=grafana.py",)),
        Image(named(ROOT / "kustomize/people/deployment.yaml"), "oauth2-proxy", (binaries["oauth2-proxy"], pki.CA)),
        Image("localhost/stand-in/web:test", "stand-in", (), ("PROGRAM=web.py",)),
        Image(named(monitoring / "alertmanager.yaml"), "alertmanager-newer"),
    ]


def install_istio(kubectl: Kubectl) -> None:
    """Istio's CRDs from its module, istiod, and an Envoy gateway at a node port."""
    charts = module_dir("istio", "istio.io/istio") / "manifests/charts"
    kubectl.apply(yaml.safe_load_all((charts / "base/files/crd-all.gen.yaml").read_text()))
    kubectl.apply(build(ROOT, "tests/cluster/manifests/istio"))


def install_crds(helm: Path, kubectl: Kubectl, environment: str) -> None:
    """Those of charts, which `scripts/bootstrap` has no Helm to read; for why it installs the others, see there."""
    for item in render(ROOT, environment)[f"clusters/{environment}"]:
        source = item.get("spec", {}).get("source", {})
        if item["kind"] == "Application" and ("chart" in source or "helm" in source):
            folder = None if "chart" in source else module_dir("istio", "istio.io/istio") / source["path"]
            if found := charts.crds(helm, item, folder):
                kubectl.apply(found)


def bootstrap(binaries: dict[str, Path], kubectl: Kubectl, name: str) -> None:
    """As a person would: scripts/bootstrap, until every Application is Synced and Healthy."""
    # What the git host gives: whom to believe that it is the public name, and a token that may push.
    for namespace in ("argocd", "workflows"):
        kubectl.run("create", "namespace", namespace)
    certificates = [f"--from-file={host}={pki.CA}" for host in hosts(name)]
    kubectl.run("create", "configmap", "argocd-tls-certs-cm", "--namespace=argocd", *certificates)
    if (ROOT / "clusters" / name / "secrets.yaml").exists():
        kubectl.run("create", "secret", "generic", "git", "--namespace=workflows", f"--from-file=GIT_TOKEN={TOKEN}")
    # The public names of git are this machine's for pods alone; Kustomize is told where they are.
    served = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{GIT}/.insteadOf"}
    served |= {"GIT_CONFIG_VALUE_0": "https://github.com/"}
    environment = os.environ | served | {"KUBECONFIG": str(KUBECONFIG), "KUBECTL": str(binaries["kubectl"])}
    minutes = 10 if (ROOT / "clusters" / name / "secrets.yaml").exists() else 30
    # The tree that the cluster follows, in which the images' digests stand.
    followed = STATE / "followed"
    git(STATE, "clone", "--quiet", str(OURS), str(followed))
    command: list[str | Path] = [ROOT / "scripts/bootstrap", name, f"--minutes={minutes}", f"--root={followed}"]
    if subprocess.run(command, env=environment, check=False).returncode:
        raise StartError(f"scripts/bootstrap {name} failed\n{applications.complaints(kubectl)}")
