"""A second production by the documented command: it names nothing of the first, and is accepted."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from plumbline.tree.cli import app
from plumbline.tree.fill_in import to_fill_in
from plumbline.tree.render.build import as_yaml, environments
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate import checks
from plumbline.tree.validate.foreign import foreign, known_values
from plumbline.tree.values import read_values

# The name of the copy may have the other's in it; that of the guide, eu-production, may be taken.
NAME, REGION = "copied-production", "sa-east-1"
WORD = re.compile(rf"(?<!{NAME.removesuffix('production')})\bproduction\b")


def copied(tree: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["copy-environment", "production", NAME, "--root", str(tree), *options])
    return done.exit_code, done.output


def texts(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def copy(tree: Path) -> Environment:
    code, output = copied(tree, "--region", REGION, "--after", "production")
    assert code == 0, output
    return Environment.load(tree, NAME)


def test_no_word_of_production_is_in_its_files_or_in_its_objects(copy: Environment, tree: Path) -> None:
    found = {name: text for name, text in texts(tree / "clusters" / NAME).items() if WORD.search(text)}
    assert found == {}
    objects = as_yaml(item for _, _, item in copy.objects())
    assert WORD.findall(objects) == []
    settings = next(
        item["data"]
        for folder, _, item in copy.objects()
        if folder.endswith("/workflows") and (item["kind"], item["metadata"]["name"]) == ("ConfigMap", "settings")
    )
    # Who reconciles and where backups go.
    assert settings["environment"] == NAME
    own, origin = read_values(tree, NAME), read_values(tree, "production")
    assert settings["BACKUP_STORE"].startswith(f"s3://{own.buckets}-backups/")
    assert (own.class_, own.region, own.registry) == (origin.class_, REGION, origin.registry)
    # Certificates are of all regions.
    elsewhere = [item for _, _, item in copy.objects() if item["metadata"]["name"] != "postgresql-ca"]
    assert origin.region not in as_yaml(elsewhere).replace(own.registry, "")


def test_the_copy_and_its_origin_are_accepted_and_what_is_to_fill_in_is_named(copy: Environment, tree: Path) -> None:
    values, unread = known_values(tree, environments(tree))
    assert unread == []
    for name in (NAME, "production"):
        loaded = Environment.load(tree, name)
        assert [*foreign(loaded, values), *checks.links(loaded), *checks.permitted(loaded)] == []
        assert [*checks.budgets(loaded), *checks.deletions(loaded)] == []
    named = [str(problem) for problem in to_fill_in(tree, NAME)]
    # Its database and its Redis are not those of its origin, whatever these are.
    assert sum(f"{host}.invalid" in line for line in named for host in ("postgresql", "redis")) == 2


def test_a_copy_serves_nothing_yet_and_has_its_place_in_policies_and_owners(copy: Environment, tree: Path) -> None:
    assert [*(tree / "clusters" / NAME).rglob("release.yaml"), *(tree / "clusters" / NAME).rglob("evidence.yaml")] == []
    for path in tree.glob("policies/promotion/*.yaml"):
        known = yaml.safe_load(path.read_text())["spec"]["environments"]
        assert known[NAME] == known["production"] | {"after": "production"}
    owners = Path(tree / ".github/CODEOWNERS")
    if owners.exists():
        assert f"/clusters/{NAME}/" in owners.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("production", "staging"), "clusters/staging is there already"),
        (("productoin", "eu"), "there is no environment 'productoin'; expected one of"),
        (("production", "EU"), "NAME"),
        (("production", "eu", "--region", "Frankfurt"), "--region"),
        (("production", "eu", "--buckets", "Acme_"), "--buckets"),
        (("local", "eu", "--region", "eu-west-3"), "--region: clusters/local/environment.yaml says none"),
    ],
)
def test_what_could_not_stand_there_is_refused_and_nothing_written(
    tree: Path, arguments: tuple[str, ...], said: str
) -> None:
    before = texts(tree)
    done = CliRunner().invoke(app, ["copy-environment", *arguments, "--root", str(tree)])
    assert (done.exit_code, said in done.output) == (2, True), done.output
    assert texts(tree) == before


def test_two_environments_never_share_their_buckets(tree: Path) -> None:
    code, output = copied(
        tree, "--buckets", yaml.safe_load((tree / "clusters/staging/environment.yaml").read_text())["data"]["buckets"]
    )
    assert (code, "is another environment's" in output) == (2, True), output
