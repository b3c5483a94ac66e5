"""Images without a registry on the network: a local one that serves every name, filled by buildah."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness.binaries import CACHE
from harness.processes import start, wait_until
from harness.settings import REGISTRY, STATE

IMAGES = Path(__file__).parent.parent / "images"
ROOT = Path(__file__).parents[3]
_BASE = "docker.io/library/python:3.11-slim-bookworm"
_PACKAGES = ["ca-certificates", "git", "gpg", "gpg-agent", "openssh-client", "python-is-python3", "python3"]
_PACKAGES += ["python3-pip", "python3-venv", "redis-server", "tini", "tzdata"]


@dataclass(frozen=True, slots=True)
class Image:
    """`name` is what manifests ask for; `folder` of images/ has its Containerfile; `files` go into its context."""

    name: str
    folder: str
    files: tuple[Path, ...] = ()
    build_arguments: tuple[str, ...] = ()


def start_registry() -> None:
    """Debian's docker-registry on loopback; its store outlives the cluster."""
    config = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}, "level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(CACHE / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": REGISTRY},
    }
    path = STATE / "registry.yaml"
    path.write_text(yaml.safe_dump(config))
    start("registry", ["docker-registry", "serve", path])
    check = ["curl", "-fs", f"http://{REGISTRY}/v2/"]
    wait_until("the registry", lambda: subprocess.run(check, capture_output=True).returncode == 0, log="registry")


def push(image: Image) -> str:
    """Build an image and push it, unless the same content was pushed before: its digest, sha256:…"""
    done = CACHE / "images" / _key(image)
    if not done.exists():
        _base()
        context = STATE / "contexts" / image.folder
        shutil.copytree(IMAGES / image.folder, context, dirs_exist_ok=True)
        for path in image.files:
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, context / path.name)
        _build(context, image.name, image.build_arguments)
        done.parent.mkdir(parents=True, exist_ok=True)
        digest = STATE / "digest"
        target = f"docker://{REGISTRY}/{image.name.split('/', 1)[1]}"
        _buildah("push", "--tls-verify=false", "--digestfile", str(digest), image.name, target)
        digest.replace(done)
        shutil.rmtree(context)
    return done.read_text().strip()


def build_project_image(dockerfile: Path, name: str) -> None:
    """Build one of the project's own Dockerfiles, unchanged, with the repository as its context; layers are cached."""
    _base()
    # pip inside trusts the certificates of the machine, which may stand behind a proxy.
    certificates = "--volume=/etc/ssl/certs:/etc/ssl/certs:ro"
    arguments = ("--pull-never", "--layers", certificates, f"--build-arg=BASE={_BASE}", f"--file={dockerfile}")
    _buildah("build", *arguments, "--tag", name, str(ROOT))


def _key(image: Image) -> str:
    hashed = hashlib.sha256(" ".join([image.name, *image.build_arguments, *_PACKAGES]).encode())
    for path in sorted((IMAGES / image.folder).rglob("*")):
        if path.is_file():
            hashed.update(path.read_bytes())
    for path in image.files:
        # Programs come from a cache whose folders are named for their content.
        hashed.update(str(path).encode() if path.is_relative_to(CACHE) else path.read_bytes())
    return f"{image.folder}-{hashed.hexdigest()[:16]}"


def _base() -> None:
    """A Debian with Python under the name that Dockerfiles ask for; 30 s the first time."""
    archive = CACHE / f"base-{hashlib.sha256(' '.join(_PACKAGES).encode()).hexdigest()[:16]}.tar"
    if not archive.exists():
        partial = archive.with_suffix(".partial.tar")
        include = f"--include={','.join(_PACKAGES)}"
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", include, "bookworm", partial], check=True)
        partial.rename(archive)
    if subprocess.run([*_BUILDAH, "inspect", _BASE], env=_environment(), capture_output=True).returncode:
        context = STATE / "contexts" / "base"
        context.mkdir(parents=True)
        shutil.copyfile(archive, context / "base.tar")
        (context / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
        _build(context, _BASE)
        shutil.rmtree(context)


def _build(context: Path, name: str, arguments: tuple[str, ...] = ()) -> None:
    given = [f"--build-arg={argument}" for argument in arguments]
    _buildah("build", "--pull-never", "--layers", *given, "--tag", name, str(context))


_BUILDAH = ["buildah", "--root", str(CACHE / "containers"), "--runroot", str(STATE / "containers-run")]


def _environment() -> dict[str, str]:
    return os.environ | {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(STATE)}


def _buildah(*arguments: str) -> None:
    done = subprocess.run([*_BUILDAH, *arguments], env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"buildah {' '.join(arguments)}:\n{(done.stdout + done.stderr)[-3000:]}")
