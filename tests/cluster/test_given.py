"""A cluster that KUBECONFIG names is used as it is; `up` says what it lacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.kubectl import Kubectl
from harness.settings import OUR_GIT, ROOT

pytestmark = pytest.mark.timeout(120)


def up(kubectl: Kubectl, config: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`make cluster-up` with a kubeconfig."""
    environment = os.environ | {"KUBECONFIG": str(config), "KUBECTL": kubectl.command[0], **more}
    command = [sys.executable, "-m", "harness", "up"]
    folder = ROOT / "tests/cluster"
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_this_cluster_as_a_given_one_lacks_nothing(kubectl: Kubectl, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_bytes(kubectl.kubeconfig.read_bytes())
    done = up(kubectl, config, PLUMBLINE_CLUSTER_GIT=OUR_GIT)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("ok ") == 8


def test_each_lack_is_named(kubectl: Kubectl, tmp_path: Path) -> None:
    """Somebody without rights on a machine without a repository and a registry."""
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    token = kubectl.run("create", "token", "default", "--namespace=default").strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    nowhere = {"PLUMBLINE_CLUSTER_GIT": str(tmp_path / "none"), "PLUMBLINE_CLUSTER_REGISTRY": "127.0.0.1:1"}
    done = up(kubectl, path, **nowhere)
    assert done.returncode == 1
    lacks = [line for line in done.stderr.splitlines() if line.startswith("lacks")]
    assert [line.split(": ")[0] for line in lacks] == [
        "lacks a user who may do everything",
        "lacks processors and memory",
        "lacks Istio's gateway",
        "lacks the platform, Synced and Healthy",
        "lacks the git repository that apps/ names, to push to",
        "lacks a registry to push model servers to",
    ]
    assert "is forbidden" in lacks[1]
    assert "set PLUMBLINE_CLUSTER_GIT" in lacks[4]
    assert "lacks 6 of 8 things" in done.stderr
