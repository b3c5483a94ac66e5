"""What Terraform made of an environment stands in its folder after one command, and wrong outputs change nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plumbline.tree.cli import app
from plumbline.tree.values import read_values

ENVIRONMENT = """\
# Comments stay.
apiVersion: v1
kind: ConfigMap
metadata:
  name: environment
data:
  name: {name}
  repository: https://github.com/origin/origin.git
  registry: ghcr.io/origin
  domain: origin.internal
  region: eu-north-1
  buckets: origin-{name}
"""
SERVICES = """\
# Where they are.
PGHOST=postgresql.prod.origin.internal
REDIS_ADDRESS=redis.prod.origin.internal:6379
AWS_DEFAULT_REGION=eu-north-1
"""
REPEATS = "bucket: origin-prod-mlflow\nimage: ghcr.io/origin/mlflow\nzone: eu-north-1a\n"
GIVEN = {
    "name": "prod",
    "registry": "123456789012.dkr.ecr.us-west-2.amazonaws.com/plumbline",
    "domain": "acme.example",
    "region": "us-west-2",
    "buckets": "acme-prod",
}
PLACES = {"PGHOST": "postgresql.prod.acme.example", "REDIS_ADDRESS": "master.prod.abc.usw2.cache.amazonaws.com:6379"}


def outputs(environment: dict[str, str] = GIVEN, services: dict[str, str] = PLACES) -> str:
    value: dict[str, Any] = {"environment": environment, "services": services, "name_servers": ["ns-1.example"]}
    return json.dumps({"platform": {"sensitive": False, "type": [], "value": value}})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "clusters/prod/environment.yaml": ENVIRONMENT.format(name="prod"),
        "clusters/prod/services/services.env": SERVICES,
        "clusters/prod/workloads/mlflow/kustomization.yaml": REPEATS,
        "clusters/prod/models/churn/release.yaml": "image: ghcr.io/origin/model-server\n",
        "clusters/trial/environment.yaml": ENVIRONMENT.format(name="trial"),
        "notes/where.md": "images are in ghcr.io/origin\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def texts(tree: Path) -> dict[str, str]:
    return {str(file.relative_to(tree)): file.read_text() for file in tree.rglob("*") if file.is_file()}


def written(tree: Path, text: str, environment: str = "prod") -> tuple[int, str]:
    done = CliRunner().invoke(app, ["outputs", environment, "-", "--root", str(tree)], input=text)
    return done.exit_code, done.output


def test_a_folder_says_what_terraform_made(tree: Path) -> None:
    before = texts(tree)
    own = ["environment.yaml", "services/services.env", "workloads/mlflow/kustomization.yaml"]
    assert written(tree, outputs()) == (0, "".join(f"clusters/prod/{name}\n" for name in own))
    values = read_values(tree, "prod").model_dump()
    assert {field: values[field] for field in GIVEN} == GIVEN
    after = texts(tree)
    assert after["clusters/prod/environment.yaml"].startswith("# Comments stay.\n")
    assert after["clusters/prod/services/services.env"] == (
        "# Where they are.\n"
        "PGHOST=postgresql.prod.acme.example\n"
        "REDIS_ADDRESS=master.prod.abc.usw2.cache.amazonaws.com:6379\n"
        "AWS_DEFAULT_REGION=us-west-2\n"
    )
    assert after["clusters/prod/workloads/mlflow/kustomization.yaml"] == (
        f"bucket: acme-prod-mlflow\nimage: {GIVEN['registry']}/mlflow\nzone: eu-north-1a\n"
    )
    # Neither what was promoted, nor another environment, nor the rest of the tree.
    assert {name for name in before if before[name] != after[name]} == {f"clusters/prod/{name}" for name in own}


def test_a_second_time_changes_nothing(tree: Path) -> None:
    written(tree, outputs())
    assert written(tree, outputs()) == (0, "nothing to do: the folder says so already\n")


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ("", "prod", "no outputs yet; run `terraform apply` in terraform/environments/prod first"),
        ("{}", "prod", "no outputs yet"),
        ("{", "prod", "no outputs yet"),
        ("Error: no state", "prod", "platform"),
        ('{"platform": {}}', "prod", "platform.value: Field required"),
        (outputs(GIVEN | {"name": "trial"}), "prod", "outputs of 'trial'; expected those of 'prod'"),
        (outputs(GIVEN | {"region": "Oregon"}), "prod", "platform.value.environment.region"),
        (outputs(GIVEN | {"zone": "x"}), "prod", "platform.value.environment.zone: Extra inputs are not permitted"),
        (outputs(services={"PGHOST": "a", "PGPORT": "1"}), "prod", "PGPORT: stands there 0 times"),
        (outputs(), "live", "there is no environment 'live'; expected one of prod, trial"),
    ],
)
def test_wrong_outputs_are_refused_and_change_nothing(tree: Path, text: str, environment: str, said: str) -> None:
    before = texts(tree)
    code, output = written(tree, text, environment)
    assert (code, said in output) == (2, True), output
    assert texts(tree) == before


def test_a_folder_that_lacks_a_value_is_told_so(tree: Path) -> None:
    file = tree / "clusters/prod/environment.yaml"
    file.write_text(file.read_text().replace("  domain: origin.internal\n", ""))
    code, output = written(tree, outputs())
    assert (code, "clusters/prod/environment.yaml: data.domain: missing" in output) == (2, True), output


def test_a_setting_that_stands_twice_is_refused(tree: Path) -> None:
    file = tree / "clusters/prod/services/services.env"
    file.write_text(SERVICES + "PGHOST=other\n")
    code, output = written(tree, outputs())
    assert (code, "services.env: PGHOST: stands there 2 times" in output) == (2, True), output
