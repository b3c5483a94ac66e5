"""A fork says its adopter's names: each value of environment.yaml is replaced wherever the tree repeats it."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline.core.documents import DocumentError
from plumbline.tree.cli import app
from plumbline.tree.values import read_values

ENVIRONMENT = """\
# Comments stay.
apiVersion: v1
kind: ConfigMap
metadata:
  name: environment
  annotations: {config.kubernetes.io/local-config: "true"}
data:
  name: prod
  repository: https://github.com/origin-org/origin.git
  branch: trunk
  registry: ghcr.io/origin
  domain: origin.internal
  region: eu-north-1
  buckets: origin-prod
"""
REPEATS = """\
images: [ghcr.io/origin/model-server, docker.io/library/redis]
bucket: origin-prod-mlflow
host: postgresql.prod.origin.internal
region: eu-north-1
zone: eu-north-1a
other: my-origin.internal
link: https://github.com/origin-org/origin/blob/trunk/docs/x.md
path: git/origin-org/origin.git
"""
OWNERS = "/apps/ @origin/platform @origin/governance\n"
VALUES = {
    "repository": "https://git.acme.example/ml/platform.git",
    "registry": "registry.acme.example:5000/ml",
    "domain": "acme.example",
    "region": "us-west-2",
    "buckets": "acme",
    "teams": "acme",
}


def git(root: Path, *arguments: str) -> str:
    author = ("-c", "user.name=test", "-c", "user.email=test@plumbline.dev")
    return subprocess.run(["git", "-C", root, *author, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "adopter")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "adopter@example.com")
    files = {
        "clusters/prod/environment.yaml": ENVIRONMENT,
        "kustomize/settings.yaml": REPEATS,
        ".github/CODEOWNERS": OWNERS,
        "CHANGELOG.md": "moved to ghcr.io/origin\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff ghcr.io/origin")
    git(tmp_path, "init", "-q", "-b", "trunk")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "the origin")
    return tmp_path


def adopted(root: Path, **other: str) -> tuple[int, str]:
    options = [part for name, value in (VALUES | other).items() for part in (f"--{name}", value)]
    done = CliRunner().invoke(app, ["adopt", "--root", str(root), *options])
    return done.exit_code, done.output


def test_a_fork_is_adopted_in_one_commit(fork: Path) -> None:
    assert adopted(fork) == (0, "3 files in one commit\n")
    assert git(fork, "log", "--format=%s").splitlines() == [f"adopt: this is {VALUES['repository']}", "the origin"]
    assert git(fork, "status", "--porcelain") == ""
    values = read_values(fork, "prod")
    assert values.model_dump() == {
        "name": "prod",
        "class_": "open",
        "branch": "trunk",
        "given": "",
        "issuer": "",
        **{name: VALUES[name] for name in ("repository", "registry", "domain", "region")},
        "buckets": "acme-prod",
    }
    assert (fork / "clusters/prod/environment.yaml").read_text().startswith("# Comments stay.\n")
    assert (fork / "kustomize/settings.yaml").read_text() == (
        "images: [registry.acme.example:5000/ml/model-server, docker.io/library/redis]\n"
        "bucket: acme-prod-mlflow\n"
        "host: postgresql.prod.acme.example\n"
        "region: us-west-2\n"
        "zone: eu-north-1a\n"
        "other: my-origin.internal\n"
        "link: https://git.acme.example/ml/platform/blob/trunk/docs/x.md\n"
        "path: git/ml/platform.git\n"
    )
    assert (fork / ".github/CODEOWNERS").read_text() == "/apps/ @acme/platform @acme/governance\n"
    assert (fork / "CHANGELOG.md").read_text() == "moved to ghcr.io/origin\n"
    assert (fork / "picture.png").read_bytes() == b"\x89PNG\xff ghcr.io/origin"


def test_it_is_done_once_and_again_with_other_values(fork: Path) -> None:
    adopted(fork)
    assert adopted(fork) == (0, "nothing to do: the tree says so already\n")
    assert adopted(fork, region="eu-west-3", buckets="acme-eu") == (0, "2 files in one commit\n")
    text = (fork / "kustomize/settings.yaml").read_text()
    assert "bucket: acme-eu-prod-mlflow\n" in text
    assert "region: eu-west-3\n" in text


def test_a_work_tree_with_changes_of_its_own_is_left_alone(fork: Path) -> None:
    (fork / "note").write_text("mine\n")
    code, output = adopted(fork)
    assert (code, "the work tree has changes of its own: commit or stash them first (?? note)" in output) == (2, True)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("repository", "git.acme.example/ml/platform"),
        ("repository", "https://git.acme.example/ml/plat form.git"),
        ("registry", "https://images.acme.example"),
        ("domain", "acme.example/"),
        ("region", "Frankfurt"),
        ("buckets", "Acme_"),
        ("teams", "@acme"),
    ],
)
def test_a_value_that_could_not_stand_there_is_refused(fork: Path, option: str, value: str) -> None:
    code, output = adopted(fork, **{option: value})
    assert code == 2
    assert f"--{option}" in output
    assert git(fork, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: prod", "name: production", "data.name: expected 'prod', the folder's name, not 'production'"),
        ("  registry: ghcr.io/origin\n", "", "data.registry: Field required"),
        ("region:", "regions:", "data.regions: Extra inputs are not permitted"),
    ],
)
def test_an_environment_file_is_read_strictly(fork: Path, old: str, new: str, said: str) -> None:
    (fork / "clusters/prod/environment.yaml").write_text(ENVIRONMENT.replace(old, new))
    with pytest.raises(DocumentError) as error:
        read_values(fork, "prod")
    assert said in str(error.value)
    assert str(error.value).startswith("clusters/prod/environment.yaml: ")
