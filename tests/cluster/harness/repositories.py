"""The git repositories that Argo CD syncs from: this one as it stands, and those that apps/ names, from Go modules."""

import shutil
import subprocess
import sys
from pathlib import Path

from harness import pki
from harness.binaries import module_dir
from harness.processes import start
from harness.settings import GIT_HOSTS, NODE_IP, STATE

ROOT = Path(__file__).parents[3]
GIT = STATE / "git"
OURS = GIT / "plumbline-dev" / "plumbline.git"
# What apps/ names, by the tag that it names: the tools/ module that has it, its path in Go, the folder that is served.
_UPSTREAM = {"argoproj/argo-rollouts": ("rollouts", "github.com/argoproj/argo-rollouts", "v1.10.1", "manifests")}
_AUTHOR = ("-c", "user.name=cluster test", "-c", "user.email=test@plumbline.dev")


def serve() -> None:
    """Fill the repositories and start the server at the bridge's address under the public names."""
    listing = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    _publish(OURS, [(ROOT / name, name) for name in listing if name and (ROOT / name).is_file()], "v0")
    for repository, (tool, module, tag, folder) in _UPSTREAM.items():
        source = module_dir(tool, module)
        files = [(path, str(path.relative_to(source))) for path in (source / folder).rglob("*") if path.is_file()]
        _publish(GIT / f"{repository}.git", files, tag)
    certificate, key = pki.issue("git", "git", hosts=GIT_HOSTS)
    command = [sys.executable, "-m", "harness.git_server", GIT, NODE_IP, "443", certificate, key]
    start("git-server", command, {"PYTHONPATH": str(Path(__file__).parents[1])})


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
