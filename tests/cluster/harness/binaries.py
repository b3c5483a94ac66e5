"""Every program of the cluster, built from pinned Go modules into a cache keyed by what they are made from.

Each folder of tests/cluster/tools is a Go module: its `tool` lines name the programs, its go.sum holds the hashes. They
are apart because Kubernetes, Istio and Argo CD ask for different versions of the same libraries.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.progress import Progress

TOOLS = Path(__file__).parent.parent / "tools"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "plumbline"
_GO = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "auto", "GOFLAGS": "-p=2 -trimpath -buildvcs=false"}


@dataclass(frozen=True, slots=True)
class Module:
    """A folder of tools/: what to call programs whose package has another name, and how long a cold build takes."""

    folder: str
    seconds: int
    names: tuple[tuple[str, str], ...] = ()
    ldflags: str = "-s -w"
    tags: str = ""


_K8S_VERSION = "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.4 -X k8s.io/component-base/version.gitMajor=1"
_ARGO_VERSION = "-s -w -X github.com/argoproj/argo-cd/v3/common.version=3.6.1"
# Seconds as measured from nothing on two cores.
MODULES = (
    Module("etcd", 45, (("server", "etcd"),)),
    Module("kubernetes", 320, ldflags=f"{_K8S_VERSION} -X k8s.io/component-base/version.gitMinor=34"),
    Module("coredns", 80),
    Module("rollouts", 150),
    Module("argocd", 140, (("cmd", "argocd"),), _ARGO_VERSION),
    Module("istio", 250),
    # Its service discovery for fifteen clouds is more code than all the rest.
    Module("prometheus", 215, tags="remove_all_sd,enable_kubernetes_sd"),
    # tests/tools: what the other tests use as well.
    Module("../../tools", 60),
)


class BuildError(RuntimeError):
    """A program could not be built; the message holds the end of what Go said."""


def binaries() -> dict[str, Path]:
    """Build what is not in the cache yet: {program: its path}. Raises BuildError."""
    missing = [module for module in MODULES if not _folder(module).exists()]
    progress = Progress(total=sum(module.seconds for module in missing))
    for module in missing:
        progress.say(f"building {module.folder}, about {module.seconds} s")
        _build(module)
        progress.done(module.seconds)
    return {path.name: path for module in MODULES for path in _folder(module).iterdir()}


def module_dir(folder: str, module: str) -> Path:
    """Where Go unpacked a module, whose install manifests and CRDs are then of the very version that runs."""
    return Path(_go(folder, "list", "-m", "-f", "{{.Dir}}", module).strip())


def _folder(module: Module) -> Path:
    source = TOOLS / module.folder
    parts = [(source / name).read_bytes() for name in ("go.mod", "go.sum")]
    parts += [repr(module.names).encode(), module.ldflags.encode(), module.tags.encode()]
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return CACHE / "bin" / f"{Path(module.folder).name}-{key[:16]}"


def _build(module: Module) -> None:
    target = _folder(module)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _go(module.folder, "build", f"-ldflags={module.ldflags}", f"-tags={module.tags}", "-o", f"{partial}/", "tool")
    for built, name in module.names:
        (partial / built).rename(partial / name)
    partial.rename(target)


def _go(folder: str, *arguments: str) -> str:
    run = subprocess.run(
        ["nice", "-n", "19", "go", "-C", str(TOOLS / folder), *arguments],
        env=os.environ | _GO,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise BuildError(f"go {arguments[0]} in tools/{folder} ended with {run.returncode}:\n{run.stderr[-3000:]}")
    return run.stdout


if __name__ == "__main__":
    for program, path in sorted(binaries().items()):
        sys.stdout.write(f"{program:28} {path}\n")
