"""The programs that the checks of a tree run, as `make` builds them into .cache of the repository."""

from pathlib import Path


def repository() -> Path:
    """The nearest folder from here upwards that holds an environment tree (clusters/); else this one."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "clusters").is_dir()), here)


def kustomize() -> Path:
    """The pinned Kustomize."""
    return repository() / ".cache/bin/kustomize"


def api_server() -> Path:
    """The folder of etcd and kube-apiserver."""
    return repository() / ".cache/api-server"


def checkov() -> Path:
    """Checkov, in an environment of its own."""
    return repository() / ".venv-checkov/bin/checkov"


def go() -> Path:
    """The script that runs Go."""
    return repository() / "scripts/go"
