"""Every program of the cluster, built from pinned Go modules into a cache keyed by what they are made from.

Each folder of tests/cluster/tools is a Go module: its `tool` lines name the programs, its go.sum holds the hashes. They
are apart because Kubernetes, Istio and Argo CD ask for different versions of the same libraries.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.progress import Progress
from harness.settings import ROOT

TOOLS = ROOT / "tests/cluster/tools"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "plumbline"
# Debugging information, which the linker would leave out again, is a tenth of the compiler's work.
_FLAGS = "-p=2 -trimpath -buildvcs=false -gcflags=all=-dwarf=false"


@dataclass(frozen=True, slots=True)
class Module:
    """A folder of tools/: what to call programs whose package has another name, and how long a cold build takes."""

    folder: str
    seconds: int
    names: tuple[tuple[str, str], ...] = ()
    ldflags: str = "-s -w"
    tags: str = ""
    # Only environments with charts, which are all but `local`, need it.
    for_charts: bool = False
    # Files that are symbolic links in git, which a module's zip leaves out: (link, what it points to).
    links: tuple[tuple[str, str], ...] = ()


_K8S_VERSION = "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.4 -X k8s.io/component-base/version.gitMajor=1"
_ARGO_VERSION = "-s -w -X github.com/argoproj/argo-cd/v3/common.version=3.6.1"
_SIGNALS = "github.com/argoproj/argo-workflows/v4/workflow/executor/osspecific"
# Seconds as measured from nothing on two cores.
MODULES = (
    Module("etcd", 50, (("server", "etcd"),)),
    Module("kubernetes", 285, ldflags=f"{_K8S_VERSION} -X k8s.io/component-base/version.gitMinor=34"),
    Module("coredns", 85),
    Module("rollouts", 130),
    Module("argocd", 220, (("cmd", "argocd"),), _ARGO_VERSION),
    Module("istio", 180),
    # Its service discovery for fifteen clouds is more code than all the rest.
    Module("prometheus", 90, tags="remove_all_sd,enable_kubernetes_sd"),
    Module(
        "argo-workflows",
        165,
        links=((f"{_SIGNALS}/signal_linux.go", f"{_SIGNALS}/signal_darwin.go"),),
        ldflags="-s -w -X github.com/argoproj/argo-workflows/v4.version=v4.0.7",
    ),
    Module("metrics-server", 85),
    Module("prometheus-operator", 75, (("operator", "prometheus-operator"),)),
    Module("oauth2-proxy", 60),
    Module("keda", 295, (("operator", "keda"), ("adapter", "keda-adapter"), ("webhooks", "keda-admission-webhooks"))),
    Module("helm", 60, for_charts=True),
    Module("istio-agent", 90, for_charts=True),
)


class BuildError(RuntimeError):
    """A program could not be built; the message holds the end of what Go said."""


def binaries(*folders: str, charts: bool = False) -> dict[str, Path]:
    """Build what is not in the cache yet, of these modules or of all: {program: its path}. Raises BuildError."""
    modules = [
        module for module in MODULES if module.folder in folders or (not folders and module.for_charts <= charts)
    ]
    missing = [module for module in modules if not _folder(module).exists()]
    progress = Progress(total=sum(module.seconds for module in missing))
    for module in missing:
        progress.say(f"building {module.folder}, about {module.seconds} s")
        _build(module)
        progress.done(module.seconds)
    return {path.name: path for module in modules for path in _folder(module).iterdir()}


def module_dir(folder: str, module: str) -> Path:
    """Where Go unpacks a module, whose install manifests and CRDs are then of the very version that runs."""
    return Path(json.loads(_go(folder, "mod", "download", "-json", module))["Dir"])


def module_version(folder: str, module: str) -> str:
    """The version that a go.mod of tools/ pins: v1.2.3."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (TOOLS / folder / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise BuildError(f"tools/{folder}/go.mod requires no {module}")
    return found[1]


def _folder(module: Module) -> Path:
    source = TOOLS / module.folder
    parts = [(source / name).read_bytes() for name in ("go.mod", "go.sum")]
    parts += [repr(link).encode() for link in module.links]
    parts += [repr(module.names).encode(), module.ldflags.encode(), module.tags.encode()]
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return CACHE / "bin" / f"{Path(module.folder).name}-{key[:16]}"


def _build(module: Module) -> None:
    target = _folder(module)
    partial = target.with_name(f"{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    # A second process that wants the same waits here, and then finds it done.
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return
        partial.mkdir(exist_ok=True)
        flags = [f"-ldflags={module.ldflags}", f"-tags={module.tags}", "-o", f"{partial}/", "tool"]
        if module.links:
            with tempfile.TemporaryDirectory() as folder:
                _vendor(module, Path(folder))
                _go(folder, "build", "-mod=vendor", *flags)
        else:
            _go(module.folder, "build", *flags)
        for built, name in module.names:
            (partial / built).rename(partial / name)
        partial.rename(target)


def _vendor(module: Module, folder: Path) -> None:
    """The module with its dependencies' sources in `folder`, where what is missing can be added."""
    for name in ("go.mod", "go.sum"):
        shutil.copyfile(TOOLS / module.folder / name, folder / name)
    _go(str(folder), "mod", "vendor")
    for link, source in module.links:
        shutil.copyfile(folder / "vendor" / source, folder / "vendor" / link)


def _go(folder: str, *arguments: str) -> str:
    run = subprocess.run(
        ["nice", "-n", "19", ROOT / "scripts/go", "-C", TOOLS / folder, *arguments],
        env=os.environ | {"GOFLAGS": _FLAGS},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise BuildError(f"go {arguments[0]} in tools/{folder} ended with {run.returncode}:\n{run.stderr[-3000:]}")
    return run.stdout


if __name__ == "__main__":
    try:
        for program, path in sorted(binaries(*sys.argv[1:]).items()):
            sys.stdout.write(f"{program:28} {path}\n")
    except BuildError as error:
        raise SystemExit(str(error)) from None
