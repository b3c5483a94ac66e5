"""The git repositories that Argo CD syncs from: this one as it stands, and those that apps/ names, from Go modules."""

import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from harness import pki
from harness.binaries import CACHE, TOOLS, module_dir
from harness.processes import start
from harness.settings import GIT_HOSTS, NODE_IP, OUR_URL, ROOT, STATE
from plumbline.tree.render.build import render

GIT = STATE / "git"
OURS = GIT / urlsplit(OUR_URL).path.strip("/")
TOKEN = STATE / "git-token"
# Go's name of a repository, where that is not its address.
_GO_NAMES = {"kubernetes-sigs/metrics-server": "sigs.k8s.io/metrics-server"}
_AUTHOR = ("-c", "user.name=cluster test", "-c", "user.email=test@plumbline.dev")


def serve() -> None:
    """Fill the repositories and start the server at the bridge's address under the public names."""
    listing = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    _publish(OURS, [(ROOT / name, name) for name in listing if name and (ROOT / name).is_file()], "v0")
    for source in _upstream():
        repository, tag = source["repoURL"].removeprefix("https://github.com/"), source["targetRevision"]
        cached = CACHE / "git" / tag / repository
        if not cached.exists():
            module = _module(repository.removesuffix(".git"), tag)
            folder = module / source["path"].split("/")[0]
            files = [(path, str(path.relative_to(module))) for path in folder.rglob("*") if path.is_file()]
            _publish(cached, files, tag)
        (GIT / repository).parent.mkdir(parents=True, exist_ok=True)
        (GIT / repository).symlink_to(cached)
    certificate, key = pki.issue("git", "git", hosts=GIT_HOSTS)
    command = [sys.executable, "-m", "harness.git_server", GIT, NODE_IP, "443", certificate, key]
    TOKEN.touch(0o600)
    TOKEN.write_text(secrets.token_urlsafe())
    start("git-server", command, {"PYTHONPATH": str(Path(__file__).parents[1]), "GIT_TOKEN": TOKEN.read_text()})


def _upstream() -> list[dict[str, Any]]:
    """The sources outside this repository that the environment's Applications name."""
    objects = render(ROOT, "local")["clusters/local"]
    applications = (item["spec"] for item in objects if item["kind"] == "Application")
    return [spec["source"] for spec in applications if spec["source"]["repoURL"] != OUR_URL]


def _module(repository: str, tag: str) -> Path:
    """The Go module of the very tag that apps/ names, so that what is synced is of the version that was built."""
    name = re.escape(_GO_NAMES.get(repository, f"github.com/{repository}"))
    for go_mod in sorted(TOOLS.glob("*/go.mod")):
        found = re.search(rf"^\s*({name}(?:/v\d+)?) {re.escape(tag)}(?:\s|$)", go_mod.read_text(), re.MULTILINE)
        if found:
            return module_dir(go_mod.parent.name, found[1])
    raise RuntimeError(f"apps/ names {repository} at {tag}, but no go.mod of tests/cluster/tools has that version")


def call_webhook() -> None:
    """From here on Argo CD hears of every push: asking every few seconds would keep its controller busy."""
    hook = OURS / "hooks/post-receive"
    hook.write_text(f"#!/bin/sh\ncd {Path(__file__).parents[1]} && exec {sys.executable} -m harness.webhook\n")
    hook.chmod(0o755)


def commit_images(digests: dict[str, str]) -> None:
    """Commit which of our images the environment runs, {name: digest}, as the images pipeline does."""
    clone = STATE / "clone"
    git(STATE, "clone", "--quiet", str(OURS), str(clone))
    path = clone / "clusters/local/images/kustomization.yaml"
    document = yaml.safe_load(path.read_text())
    for image in document["images"]:
        image["digest"] = digests[image["name"]]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    git(clone, *_AUTHOR, "commit", "--quiet", "--all", "--message=images(local): as built here")
    git(clone, "push", "--quiet")
    shutil.rmtree(clone)


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder`: what it printed."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _publish(bare: Path, files: list[tuple[Path, str]], tag: str) -> None:
    """A bare repository whose main holds `files` in one commit with a tag."""
    tree = bare.with_suffix(".tree")
    tree.mkdir(parents=True)
    for source, name in files:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, tree / name)
    git(tree, "init", "--quiet", "--initial-branch=main")
    git(tree, "add", "--all", "--force")
    git(tree, *_AUTHOR, "commit", "--quiet", "--message=As it stands")
    git(tree, "tag", tag)
    git(tree, "clone", "--quiet", "--bare", ".", str(bare))
    shutil.rmtree(tree)
