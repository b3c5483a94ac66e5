"""What Argo CD syncs from: this repository as it stands, and repositories and charts that apps/ names, from modules."""

import json
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from harness import charts, pki
from harness.binaries import CACHE, TOOLS, module_dir
from harness.processes import start
from harness.settings import GIT_HOSTS, NODE_IP, OUR_URL, ROOT, STATE
from plumbline.tree.outputs import Environment, write_outputs
from plumbline.tree.render.build import render
from plumbline.tree.values import Values

GIT = STATE / "git"
OURS = GIT / urlsplit(OUR_URL).path.strip("/")
TOKEN = STATE / "git-token"
# Go's name of a repository, where that is not its address.
_GO_NAMES = {"kubernetes-sigs/metrics-server": "sigs.k8s.io/metrics-server", "istio/istio": "istio.io/istio"}
# What gives its releases no version of Go: any commit's, as go.mod pins it.
_UNTAGGED = {"istio/istio"}
_AUTHOR = ("-c", "user.name=cluster test", "-c", "user.email=test@plumbline.dev")


def serve(environment: str, helm: Path | None) -> None:
    """Fill the repositories and start the server at the bridge's address under the public names."""
    if not OURS.exists():  # another environment's cluster may have left it
        listing = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
        _publish(OURS, [(ROOT / name, name) for name in listing if name and (ROOT / name).is_file()], "v0")
    sources = _upstream(environment)
    if helm:
        charts.publish(helm, sources)
    for source in {source["repoURL"]: source for source in sources if "path" in source}.values():
        repository, tag = source["repoURL"].removeprefix("https://github.com/"), source["targetRevision"]
        cached = CACHE / "git" / tag / repository
        if not cached.exists():
            module = _module(repository.removesuffix(".git"), tag)
            folder = module / source["path"].split("/")[0]
            files = [(path, str(path.relative_to(module))) for path in folder.rglob("*") if path.is_file()]
            _publish(cached, files, tag)
        (GIT / repository).parent.mkdir(parents=True, exist_ok=True)
        (GIT / repository).symlink_to(cached)
    certificate, key = pki.issue("git", "git", hosts=tuple(hosts(environment)))
    command = [sys.executable, "-m", "harness.git_server", GIT, charts.FOLDER, NODE_IP, "443", certificate, key]
    TOKEN.touch(0o600)
    TOKEN.write_text(secrets.token_urlsafe())
    start("git-server", command, {"PYTHONPATH": str(Path(__file__).parents[1]), "GIT_TOKEN": TOKEN.read_text()})


def hosts(environment: str) -> list[str]:
    """The public names at which all of it is found."""
    return sorted({*GIT_HOSTS, *charts.hosts(_upstream(environment))})


@cache
def _upstream(environment: str) -> list[dict[str, Any]]:
    """The sources outside this repository that the environment's Applications name."""
    objects = render(ROOT, environment)[f"clusters/{environment}"]
    applications = (item["spec"] for item in objects if item["kind"] == "Application")
    return [spec["source"] for spec in applications if spec["source"]["repoURL"] != OUR_URL]


def _module(repository: str, tag: str) -> Path:
    """The Go module of the very tag that apps/ names, so that what is synced is of the version that was built."""
    name = re.escape(_GO_NAMES.get(repository, f"github.com/{repository}"))
    for go_mod in sorted(TOOLS.glob("*/go.mod")):
        version = "v0" if repository in _UNTAGGED else rf"{re.escape(tag)}(?:\s|$)"
        found = re.search(rf"^\s*({name}(?:/v\d+)?) {version}", go_mod.read_text(), re.MULTILINE)
        if found:
            return module_dir(go_mod.parent.name, found[1])
    raise RuntimeError(f"apps/ names {repository} at {tag}, but no go.mod of tests/cluster/tools has that version")


def call_webhook() -> None:
    """From here on Argo CD hears of every push: asking every few seconds would keep its controller busy."""
    hook = OURS / "hooks/post-receive"
    hook.write_text(f"#!/bin/sh\ncd {Path(__file__).parents[1]} && exec {sys.executable} -m harness.webhook\n")
    hook.chmod(0o755)


def fill_in(values: Values, digests: dict[str, str], outputs: Mapping[str, str]) -> None:
    """Commit what an adopter fills in: which images run, {name: digest}, and what Terraform made.

    outputs: what it says of the services outside; with them their authority, which an adopter knows as RDS's.
    """
    clone = STATE / "clone"
    git(STATE, "clone", "--quiet", str(OURS), str(clone))
    if outputs:
        terraform = {"environment": values.model_dump(include=set(Environment.model_fields)), "services": dict(outputs)}
        write_outputs(clone, values.name, json.dumps({"platform": {"value": terraform}}), "the harness")
        authorities = clone / "kustomize/components/managed-services/postgresql/rds-ca-rsa2048-g1.pem"
        authorities.write_text(authorities.read_text() + pki.CA.read_text())
    path = clone / f"clusters/{values.name}/images/kustomization.yaml"
    document = yaml.safe_load(path.read_text())
    for image in document["images"]:
        image["digest"] = digests[image["name"]]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    git(clone, *_AUTHOR, "commit", "--quiet", "--all", f"--message=images({values.name}): as built here")
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
