"""Images without a registry on the network: a local one that serves every name, filled by buildah."""

import hashlib
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness import pki
from harness.binaries import CACHE
from harness.processes import start, wait_until
from harness.repositories import git
from harness.settings import REGISTRY, ROOT, STATE
from plumbline.tree.values import Values

IMAGES = Path(__file__).parent.parent / "images"
_BASE = "docker.io/library/python:3.11-slim-bookworm"
_PACKAGES = ["ca-certificates", "git", "gpg", "gpg-agent", "libgomp1", "openssh-client", "python-is-python3", "python3"]
_PACKAGES += ["python3-pip", "python3-venv", "tini", "tzdata"]
# Servers that stand for the images of their projects.
_PACKAGES += ["postgresql-15", "prometheus-alertmanager", "redis-server"]
# Every image has this base and every start unpacks it: what nobody reads there is left out, PostgreSQL's compiler too.
_LEFT_OUT = ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"]
_LEFT_OUT += ["/usr/lib/*/libLLVM*", "/usr/lib/*/libz3*", "/usr/lib/postgresql/*/bitcode/*"]
_BASE_KEY = hashlib.sha256(" ".join([*_PACKAGES, *_LEFT_OUT]).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Image:
    """`name` is what manifests ask for; `folder` of images/ has its Containerfile; `files` go into its context."""

    name: str
    folder: str
    files: tuple[Path, ...] = ()
    build_arguments: tuple[str, ...] = ()


def program(name: str, path: Path, at: str, user: int = 65534) -> Image:
    """An image of one program, placed where the manifests of its project expect it."""
    return Image(name, "program", (path,), (f"PROGRAM={path.name}", f"AT={at}", f"USER={user}"))


def named(manifest: Path, part: str = "") -> str:
    """The first image that a manifest names, of those that have `part` in their name."""
    found = re.search(rf"(?:image|value): (?:&\w+ )?([^\s}}]*{part}[^\s}}]*)", manifest.read_text())
    if found is None:
        raise RuntimeError(f"{manifest} names no image {part}".rstrip())
    return found[1]


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
    # Another environment may have pushed something else under this name.
    if not done.exists() or _pushed(image.name) != done.read_text():
        _base()
        context = STATE / "contexts" / image.folder
        shutil.copytree(IMAGES / image.folder, context, dirs_exist_ok=True)
        for path in image.files:
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, context / path.name)
        _build(context, image.name, image.build_arguments)
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(_push(image.name))
        shutil.rmtree(context)
    return done.read_text()


def push_project_images(values: Values) -> dict[str, str]:
    """Build and push those that clusters/<env>/images lists: {its short name: digest}."""
    return {
        f"plumbline/{name}": _push_trusting(f"{values.registry}/{name}", folder, values)
        for name, folder in (("mlflow", "mlflow-server"), ("platform", "platform"))
    }


def server(values: Values) -> str:
    """The name of the model server's image."""
    return f"{values.registry}/model-server"


def push_server(values: Values) -> str:
    """Build and push the model server, which releases name by digest: sha256:…"""
    if values.region:
        return _push_trusting(server(values), "model-server", values)
    _build_project_image("model-server", server(values))
    return _push(f"{server(values)}:built")


def _push_trusting(name: str, folder: str, values: Values) -> str:
    content = _build_project_image(folder, name)
    how = "in-cloud" if values.region else "trusting"
    return push(Image(f"{name}:{how}-{content}", how, (pki.CA,), (f"IMAGE={name}:built",)))


def _build_project_image(folder: str, name: str) -> str:
    """Build one of the project's own Dockerfiles, unchanged, as `name:built`: a hash of all that it is made from.

    What was built before is found by that hash: to find each layer in its cache takes buildah half a minute.
    """
    dockerfile = ROOT / "app-src" / folder / "Dockerfile"
    allowed = dockerfile.with_name("Dockerfile.dockerignore").read_text().splitlines()
    # To git alone a `*` is any number of folders.
    inputs = [f":(glob){line.removeprefix('!')}" for line in allowed if line.startswith("!")]
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "--", *inputs).splitlines()
    hashed = hashlib.sha256(f"{_BASE_KEY} {dockerfile.read_text()}".encode())
    for path in sorted({path for path in listed if (ROOT / path).is_file()}):
        hashed.update(f"{path}\0".encode() + (ROOT / path).read_bytes())
    kept = f"{name}:{hashed.hexdigest()[:16]}"
    if not _is_built(kept):
        _build_from_repository(dockerfile, kept, _commit(inputs))
    _buildah("tag", kept, f"{name}:built")
    return kept.rpartition(":")[2]


def _build_from_repository(dockerfile: Path, name: str, commit: str) -> None:
    _base()
    # pip inside trusts the certificates of the machine, which may stand behind a proxy.
    certificates = "--volume=/etc/ssl/certs:/etc/ssl/certs:ro"
    given = (f"--build-arg=BASE={_BASE}", f"--build-arg=COMMIT={commit}")
    arguments = ("--pull-never", "--layers", certificates, *given, f"--file={dockerfile}")
    _buildah("build", *arguments, "--tag", name, str(ROOT))


def _commit(inputs: list[str]) -> str:
    """The commit that last changed these files, empty where the work tree differs from every commit."""
    changed = git(ROOT, "status", "--porcelain", "--", *inputs)
    return "" if changed else git(ROOT, "log", "-1", "--format=%H", "--", *inputs).strip()


def _push(name: str) -> str:
    digest = STATE / "digest"
    options = ("--tls-verify=false", "--disable-compression", "--digestfile", str(digest))
    _buildah("push", *options, name, f"docker://{REGISTRY}/{name.split('/', 1)[1]}")
    return digest.read_text().strip()


def _pushed(name: str) -> str:
    """The digest of a name in the registry, empty where it is not there."""
    repository, _, tag = name.split("/", 1)[1].rpartition(":")
    kinds = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    request = urllib.request.Request(f"http://{REGISTRY}/v2/{repository}/manifests/{tag}", headers=kinds, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own
            return str(answer.headers["Docker-Content-Digest"])
    except urllib.error.HTTPError:
        return ""


def _key(image: Image) -> str:
    hashed = hashlib.sha256(" ".join([image.name, *image.build_arguments, _BASE_KEY]).encode())
    for path in sorted((IMAGES / image.folder).rglob("*")):
        if path.is_file():
            hashed.update(path.read_bytes())
    for path in image.files:
        # Programs come from a cache whose folders are named for their content.
        hashed.update(str(path).encode() if path.is_relative_to(CACHE) else path.read_bytes())
    return f"{image.folder}-{hashed.hexdigest()[:16]}"


def _base() -> None:
    """A Debian with Python under the name that Dockerfiles ask for; 30 s the first time."""
    archive, name = CACHE / f"base-{_BASE_KEY}.tar", f"localhost/base:{_BASE_KEY}"
    if not archive.exists():
        partial = archive.with_suffix(".partial.tar")
        options = [f"--include={','.join(_PACKAGES)}", *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT)]
        # Nothing is lost where it does not wait for the disk; and Debian makes a database when it installs the server.
        options += ["--dpkgopt=force-unsafe-io", '--customize-hook=rm -rf "$1"/var/lib/postgresql/*']
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", *options, "bookworm", partial], check=True)
        partial.rename(archive)
    if not _is_built(name):
        context = STATE / "contexts" / "base"
        context.mkdir(parents=True)
        shutil.copyfile(archive, context / "base.tar")
        (context / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
        _build(context, name)
        shutil.rmtree(context)
    _buildah("tag", name, _BASE)


def _is_built(name: str) -> bool:
    inspect = [*_BUILDAH, "inspect", "--type=image", name]
    return subprocess.run(inspect, env=_environment(), capture_output=True).returncode == 0


def _build(context: Path, name: str, arguments: tuple[str, ...] = ()) -> None:
    given = [f"--build-arg={argument}" for argument in arguments]
    _buildah("build", "--pull-never", "--layers", *given, "--tag", name, str(context))


_BUILDAH = ["buildah", "--root", str(CACHE / "containers"), "--runroot", str(STATE / "containers-run")]


def _environment() -> dict[str, str]:
    return os.environ | {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(STATE)}


def _buildah(*arguments: str) -> str:
    done = subprocess.run([*_BUILDAH, *arguments], env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"buildah {' '.join(arguments)}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
