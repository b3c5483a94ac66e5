"""The CustomResourceDefinitions of the third parties that apps/ names, out of their Go modules at the same versions."""

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from plumbline.core import programs
from plumbline.core.errors import Accident
from plumbline.tree import tools

_CRD = re.compile(
    r"^kind: CustomResourceDefinition$.*?^  name: (?P<name>\S+)$"
    r".*?^  group: (?P<group>\S+)$.*?^    kind: (?P<kind>\S+)$",
    re.MULTILINE | re.DOTALL,
)

Kind = tuple[str, str]
"""(group, kind)"""


class CrdError(Accident):
    """CRDs could not be found; the message names the repository and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a project keeps its CRDs: its Go module, and the files in it; a project of plain kinds has none."""

    module: str
    files: str
    # {revision: version of the Go module} for a project whose tags are no Go versions.
    versions: Mapping[str, str] = field(default_factory=dict)


# By the repository that an Application names: of GitHub, or of charts.
SOURCES: dict[str, Source | None] = {
    "argoproj/argo-cd": Source("github.com/argoproj/argo-cd/v3", "manifests/crds/*-crd.yaml"),
    "argoproj/argo-rollouts": Source("github.com/argoproj/argo-rollouts", "manifests/crds/*-crd.yaml"),
    "argoproj/argo-workflows": Source(
        "github.com/argoproj/argo-workflows/v4", "manifests/base/crds/full/argoproj.io_*.yaml"
    ),
    "cert-manager/aws-privateca-issuer": Source(
        "github.com/cert-manager/aws-privateca-issuer", "config/crd/bases/*_*.yaml"
    ),
    "https://charts.jetstack.io": Source("github.com/cert-manager/cert-manager", "deploy/crds/*_*.yaml"),
    "https://charts.external-secrets.io": Source(
        "github.com/external-secrets/external-secrets", "config/crds/bases/*_*.yaml"
    ),
    # Loki and Alloy.
    "https://grafana-community.github.io/helm-charts": None,
    "https://grafana.github.io/helm-charts": None,
    "istio/istio": Source(
        "istio.io/istio",
        "manifests/charts/base/files/crd-all.gen.yaml",
        {"1.31.4": "v0.0.0-20260827124520-eed52ebb66ad"},
    ),
    "kedacore/keda": Source("github.com/kedacore/keda/v2", "config/crd/bases/*.yaml"),
    "https://kubernetes.github.io/autoscaler": None,
    "kubernetes-sigs/metrics-server": None,
    "prometheus-operator/prometheus-operator": Source(
        "github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/*.yaml"
    ),
}


@dataclass(frozen=True, slots=True)
class Crd:
    """A definition as text: reading megabytes of schemas into Python takes longer than all the rest."""

    name: str
    kind: Kind
    text: str


def crds_of(sources: set[tuple[str, str]]) -> list[Crd]:
    """The CRDs of these (repository URL, revision). Raises CrdError for a repository that SOURCES does not know."""
    wanted = []
    for url, revision in sorted(sources):
        name = name_of_source(url)
        if name not in SOURCES:
            raise CrdError(f"apps/ names {url}, and nobody says where its CRDs are: add it to SOURCES in crds.py")
        if (source := SOURCES[name]) is not None:
            wanted.append((source, revision))
    with ThreadPoolExecutor() as pool:
        return [crd for crds in pool.map(lambda item: _read(*item), wanted) for crd in crds]


def name_of_source(url: str) -> str:
    """How SOURCES calls a repository."""
    return re.sub(r"^https://github\.com/|\.git$", "", url)


def _read(source: Source, revision: str) -> list[Crd]:
    texts = [path.read_text(encoding="utf-8") for path in sorted(module(source, revision).glob(source.files))]
    documents = [document for text in texts for document in re.split(r"^---.*\n", text, flags=re.MULTILINE)]
    matches = [(match, document) for document in documents if (match := _CRD.search(document))]
    if not matches:
        raise CrdError(f"{source.module}@{revision} has no CRD in {source.files}: correct SOURCES in crds.py")
    return [Crd(match["name"], (match["group"], match["kind"]), document) for match, document in matches]


def module(source: Source, revision: str) -> Path:
    """Where Go unpacks the module; raises CrdError where it can't be had.

    Go's checksum database vouches for the content.
    """
    version = source.versions.get(revision) if source.versions else f"v{revision.removeprefix('v')}"
    if version is None:
        raise CrdError(f"{source.module}: its Go version for {revision} is not known: add it to SOURCES in crds.py")
    wanted = f"{source.module}@{version}"
    # Outside of any go.mod, so that the version stands in apps/ alone.
    with TemporaryDirectory(prefix="crds-") as folder:
        done = programs.run(tools.go(), "mod", "download", "-json", wanted, cwd=Path(folder))
    answer = json.loads(done.stdout) if done.stdout.startswith(b"{") else {}
    if "Dir" not in answer:
        raise CrdError(f"{wanted} can't be had from the Go module proxy: {answer.get('Error') or done.error}")
    return Path(answer["Dir"])
