"""A fork of this tree that `plumbline tree adopt` made somebody's: it renders, and nothing in it is the origin's."""

import re
import subprocess
from pathlib import Path

import pytest
import trees
from typer.testing import CliRunner

from plumbline.tree.cli import app
from plumbline.tree.render.build import environments
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate import checks
from plumbline.tree.validate.foreign import foreign, known_values
from plumbline.tree.values import read_values

ROOT = Path(__file__).parents[3]
ADOPTER = ["--repository", "https://git.acme.example/ml/platform.git", "--registry", "registry.acme.example/ml"]
ADOPTER += ["--domain", "acme.example", "--region", "ap-southeast-2", "--buckets", "acme", "--teams", "acme"]


def git(root: Path, *arguments: str) -> str:
    author = ("-c", "user.name=test", "-c", "user.email=test@plumbline.dev")
    return subprocess.run(["git", "-C", root, *author, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fork")
    trees.copy(folder, links=())
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "adopter")
    git(folder, "config", "user.email", "adopter@example.com")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "a fork")
    done = CliRunner().invoke(app, ["adopt", "--root", str(folder), *ADOPTER])
    assert done.exit_code == 0, done.output
    return folder


def test_no_word_of_the_origin_is_left(fork: Path) -> None:
    origin = [read_values(ROOT, name) for name in environments(ROOT)]
    organisation = origin[0].repository.split("/")[-2]
    words = {organisation, *(word for item in origin for word in (item.registry, item.domain, item.buckets) if word)}
    words |= {item.region for item in origin if item.region}
    for word in words:
        found = subprocess.run(
            ["git", "-C", fork, "grep", "-n", "--fixed-strings", word, "--", ":!CHANGELOG.md"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        assert found == "", word
    owners = (fork / ".github/CODEOWNERS").read_text()
    assert set(re.findall(r"@([\w-]+)/", owners)) == {"acme"}


def test_every_environment_of_it_renders_and_is_in_order(fork: Path) -> None:
    # What is served already goes on under the image that its release names.
    served = "".join(path.read_text() for path in sorted(ROOT.glob("clusters/*/models/*/release.yaml")))
    values, unread = known_values(fork, environments(fork))
    assert (set(values), unread) == (set(environments(ROOT)), [])
    for name in values:
        tree = Environment.load(fork, name)
        assert tree.url == "https://git.acme.example/ml/platform.git"
        found = foreign(tree, values) + checks.links(tree) + checks.permitted(tree) + checks.deletions(tree)
        assert [str(problem) for problem in found] == []
        servers = [item["spec"]["template"]["spec"]["containers"][0]["image"] for item in tree.of_kind("Rollout")]
        assert servers
        own = "registry.acme.example/ml/model-server@"
        assert all(image.startswith(own) or image in served for image in servers), servers
    assert checks.models(fork) == []


def test_a_copy_that_still_speaks_of_what_it_was_copied_from_is_refused(fork: Path) -> None:
    """What a copied environment forgot: its buckets and hosts are production's, its label too."""
    values, _ = known_values(fork, environments(fork))
    production = Environment.load(fork, "production")
    copied = Environment("eu", production.folders, [])
    own = values["production"].model_copy(update={"name": "eu", "buckets": "acme-eu"})
    reasons = {problem.reason for problem in foreign(copied, values | {"eu": own})}
    assert any("names acme-production-" in reason for reason in reasons)
    assert any(".models.production.acme.example of the environment production" in reason for reason in reasons)
    assert any("is the name of another environment; expected eu" in reason for reason in reasons)
