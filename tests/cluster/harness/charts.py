"""Chart repositories under the public names that apps/ uses: charts from Go modules, else a stand-in of that name."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from harness.binaries import module_dir, module_version
from harness.settings import STATE

FOLDER = STATE / "charts"
"""<host>/<path> holds index.yaml and archives."""
_OWN = Path(__file__).parent.parent / "charts"
_CERT_MANAGER = "github.com/cert-manager/cert-manager"
_EXTERNAL_SECRETS = "github.com/external-secrets/external-secrets"


def hosts(sources: Sequence[dict[str, Any]]) -> set[str]:
    """The names of the hosts of those sources that are charts."""
    return {str(urlsplit(source["repoURL"]).hostname) for source in sources if "chart" in source}


def publish(helm: Path, sources: Sequence[dict[str, Any]]) -> None:
    """Package every chart in the version that apps/ names."""
    for source in sources:
        if "chart" in source:
            url = urlsplit(source["repoURL"])
            repository = FOLDER / str(url.hostname) / url.path.strip("/")
            repository.mkdir(parents=True, exist_ok=True)
            _package(helm, source["chart"], source["targetRevision"], repository)
            _run(helm, "repo", "index", repository, "--url", source["repoURL"])


def crds(helm: Path, application: dict[str, Any], folder: Path | None) -> list[dict[str, Any]]:
    """Those of a chart with an Application's values; `folder` is the chart's, where it stands in git."""
    spec, name = application["spec"], application["metadata"]["name"]
    source = spec["source"]
    values = STATE / "values.yaml"
    values.write_text(yaml.safe_dump(source.get("helm", {}).get("valuesObject", {})))
    url = urlsplit(source["repoURL"])
    archive = f"{source.get('chart')}-{source['targetRevision']}.tgz"
    chart = folder or FOLDER / str(url.hostname) / url.path.strip("/") / archive
    options = ["--include-crds", f"--namespace={spec['destination']['namespace']}", f"--values={values}"]
    # Without a cluster it takes the one that it was made with, which is old.
    options.append(f"--kube-version={module_version('kubernetes', 'k8s.io/kubernetes')}")
    objects = yaml.safe_load_all(_run(helm, "template", name, chart, *options))
    return [item for item in objects if item and item["kind"] == "CustomResourceDefinition"]


def _package(helm: Path, name: str, version: str, repository: Path) -> None:
    work = STATE / "contexts" / name
    shutil.copytree(_folder(name), work)
    work.chmod(0o755)
    for path in work.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # Go's cache is read-only
    chart = yaml.safe_load((work / "Chart.yaml").read_text())
    # One that nobody switches on, whose repository can't be reached.
    chart.pop("dependencies", None)
    (work / "Chart.yaml").write_text(yaml.safe_dump(chart | {"name": name}))
    if name == "external-secrets":
        # Its release puts them there.
        shutil.copyfile(module_dir("charts", _EXTERNAL_SECRETS) / "deploy/crds/bundle.yaml", _crds(work))
    application = version if version.startswith("v") else f"v{version}"
    _run(helm, "package", work, "--version", version, "--app-version", application, "--destination", repository)
    shutil.rmtree(work)


def _folder(name: str) -> Path:
    modules = {"cert-manager": _CERT_MANAGER, "external-secrets": _EXTERNAL_SECRETS}
    if name in modules:
        return module_dir("charts", modules[name]) / "deploy/charts" / name
    return _OWN / "stand-in"


def _crds(work: Path) -> Path:
    (work / "crds").mkdir(exist_ok=True)
    return work / "crds/bundle.yaml"


def _run(helm: Path, *arguments: object) -> str:
    done = subprocess.run([helm, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"helm {arguments[0]}: {done.stderr.strip()}")
    return done.stdout
