"""terraform/ is what it says, and agrees with the tree that it makes a place for. AWS itself is never asked."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import asis
import pytest
import yaml

from plumbline.core import programs
from plumbline.core.errors import PlumblineError
from plumbline.tree import tools
from plumbline.tree.outputs import write_outputs
from plumbline.tree.values import read_values

from .mocked import ENVIRONMENTS, ROOT, SOURCE, SUITES, Suite, Terraform

Suites = dict[str, Suite]
REDIS = "master.plumbline.abc123.use1.cache.amazonaws.com:6379"


def test_it_is_formatted(terraform: Terraform) -> None:
    done = terraform.run(".", "fmt", "-check", "-recursive", "-diff")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", SUITES)
def test_its_own_tests_pass(suites: Suites, folder: str) -> None:
    runs = sum(
        len(re.findall(r"^run ", file.read_text(), re.MULTILINE)) for file in (SOURCE / folder).rglob("*.tftest.hcl")
    )
    assert suites[folder].faults == []
    assert suites[folder].passed == runs > 0


def test_the_provider_is_locked_by_the_same_hashes_everywhere() -> None:
    roots = {file.parent for file in SOURCE.rglob("*.tf") if 'backend "s3"' in file.read_text()}
    locks = {(folder / ".terraform.lock.hcl").read_text() for folder in roots}
    assert len(roots) == len(ENVIRONMENTS) + 1
    assert len(locks) == 1
    # Of one platform as unpacked, and of all as published.
    assert {kind for lock in locks for kind in re.findall(r'"(h1|zh):', lock)} == {"h1", "zh"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_state_is_remote_and_locked(environment: str) -> None:
    backend = re.search(
        r'backend "s3" \{(.*?)\n  \}', (SOURCE / "environments" / environment / "main.tf").read_text(), re.DOTALL
    )
    assert backend is not None
    settings = dict(re.findall(r"(\w+) *= *(\S+)", backend[1]))
    assert settings["key"] == f'"{environment}.tfstate"'
    assert (settings["use_lockfile"], settings["encrypt"]) == ("true", "true")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_bucket_is_closed_encrypted_versioned_and_reached_by_tls(suites: Suites, environment: str) -> None:
    suite = suites[f"environments/{environment}"]
    modules = {address.rpartition(".aws_s3_bucket.")[0] for address in suite.planned("aws_s3_bucket")}
    assert len(modules) == 5

    def of(kind: str) -> dict[str, dict[str, Any]]:
        return {address.rpartition(f".{kind}.")[0]: values for address, values in suite.planned(kind).items()}

    blocked = of("aws_s3_bucket_public_access_block")
    assert set(blocked) == modules
    assert all(
        values[key] for values in blocked.values() for key in values if key.startswith(("block", "ignore", "restrict"))
    )
    encrypted = of("aws_s3_bucket_server_side_encryption_configuration")
    assert set(encrypted) == set(of("aws_s3_bucket_lifecycle_configuration")) == modules
    assert {
        name: item["versioning_configuration"][0]["status"] for name, item in of("aws_s3_bucket_versioning").items()
    } == dict.fromkeys(modules, "Enabled")
    policies = of("aws_s3_bucket_policy")
    assert set(policies) == modules
    for values in policies.values():
        deny = json.loads(values["policy"])["Statement"][0]
        assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_production_survives_a_zone_and_a_mistake(suites: Suites) -> None:
    production, staging = suites["environments/production"], suites["environments/staging"]
    (database,) = production.planned("aws_db_instance").values()
    assert database["multi_az"]
    assert database["deletion_protection"]
    assert database["backup_retention_period"] == 35
    groups = production.planned("aws_eks_node_group").values()
    assert len(groups) == 3
    assert all(group["scaling_config"][0]["max_size"] > group["scaling_config"][0]["min_size"] >= 2 for group in groups)
    assert len(production.planned("aws_nat_gateway")) == 3
    (cache,) = production.planned("aws_elasticache_replication_group").values()
    assert cache["num_cache_clusters"] == 3
    # The API server is open to those whom `api_cidrs` names, and to nobody as it comes.
    (cluster,) = production.planned("aws_eks_cluster").values()
    assert cluster["vpc_config"][0]["endpoint_public_access"]
    assert cluster["vpc_config"][0]["public_access_cidrs"] == ["203.0.113.0/24"]
    (cluster,) = staging.planned("aws_eks_cluster").values()
    assert not cluster["vpc_config"][0]["endpoint_public_access"]
    # Staging has its three nodes.
    assert (
        sum(group["scaling_config"][0]["desired_size"] for group in staging.planned("aws_eks_node_group").values()) == 3
    )


def test_no_two_environments_share_a_name_or_an_address(suites: Suites) -> None:
    for kind, field in (
        ("aws_vpc", "cidr_block"),
        ("aws_s3_bucket", "bucket"),
        ("aws_iam_role", "name"),
        ("aws_eks_cluster", "name"),
    ):
        names = [item[field] for name in ENVIRONMENTS for item in suites[f"environments/{name}"].planned(kind).values()]
        assert len(names) == len(set(names)) > 0


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_outputs_are_what_the_environments_folder_holds(suites: Suites, environment: str, tmp_path: Path) -> None:
    outputs = suites[f"environments/{environment}"].outputs
    given = outputs["environment"]
    held = read_values(ROOT, environment).model_dump()
    # The registry's name has the account's number in it, which a command writes.
    assert {field: held[field] for field in given if field != "registry"} == {
        field: given[field] for field in given if field != "registry"
    }
    shutil.copytree(ROOT / "clusters", tmp_path / "clusters")
    applied = outputs | {"services": outputs["services"] | {"REDIS_ADDRESS": REDIS}}
    text = json.dumps({"platform": {"value": applied}})
    changed = write_outputs(tmp_path, environment, text, "outputs")
    values = read_values(tmp_path, environment).model_dump()
    assert {field: values[field] for field in given} == given
    settings = (tmp_path / "clusters" / environment / "services/services.env").read_text().splitlines()
    assert {f"{key}={value}" for key, value in applied["services"].items()} <= set(settings)
    assert all(name.startswith(f"clusters/{environment}/") for name in changed)
    assert held["registry"] not in (tmp_path / "clusters" / environment / "images/kustomization.yaml").read_text()
    assert write_outputs(tmp_path, environment, text, "outputs") == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_bucket_that_the_folder_names_is_made(suites: Suites, environment: str) -> None:
    made = {values["bucket"] for values in suites[f"environments/{environment}"].planned("aws_s3_bucket").values()}
    prefix = read_values(ROOT, environment).buckets
    texts = [json.dumps(objects) for objects in asis.rendered(environment).values()]
    named = {name for text in texts for name in re.findall(rf"{prefix}-[a-z-]*[a-z]", text)}
    assert set() < named <= made


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_entry_that_external_secrets_asks_for_is_made_with_its_keys(suites: Suites, environment: str) -> None:
    wanted: dict[str, set[str]] = {}
    for file in [*(ROOT / "kustomize").rglob("external-secret*.yaml"), *(ROOT / "apps").rglob("external-secret.yaml")]:
        for document in yaml.safe_load_all(file.read_text()):
            for item in document["spec"]["data"]:
                wanted.setdefault(item["remoteRef"]["key"], set()).add(item["remoteRef"]["property"])
    secrets = suites[f"environments/{environment}"].outputs["secrets"]
    assert set(secrets) == {f"plumbline/{environment}/{name}" for name in wanted}
    drawn = {name.rpartition("/")[2]: set(keys) for name, keys in secrets.items() if keys}
    assert drawn == {name: wanted[name] for name in drawn}
    assert {
        values["name"] for values in suites[f"environments/{environment}"].planned("aws_secretsmanager_secret").values()
    } == set(secrets)


def test_every_account_of_ours_that_has_a_role_exists(suites: Suites) -> None:
    """By the name that it has in the cluster: a prefix would leave a role that nobody has."""
    for environment in ENVIRONMENTS:
        items = [item for found in asis.rendered(environment).values() for item in found]
        accounts = [item["metadata"] for item in items if item["kind"] == "ServiceAccount"]
        ours = {f"{account['namespace']}/{account['name']}" for account in accounts}
        roles = suites[f"environments/{environment}"].outputs["identities"].values()
        given = {role for role in roles if role.startswith(("mlflow/", "workflows/", "models/"))}
        assert {role.partition("/")[2] for role in given} == {
            *("mlflow", "workflow", "judge", "register", "promote", "reconcile", "backup", "server")
        }
        assert given <= ours


def test_a_missing_or_wrong_value_says_what_to_do(terraform: Terraform, suites: Suites) -> None:
    folder = "environments/staging"
    # It ends before it asks for a state; where that is remote, Terraform wants to have seen the bucket first.
    (terraform.copy / folder / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    terraform.run(folder, "init", "-input=false", "-reconfigure")
    for given, said in (
        ([], 'The root module input variable "alerts" is not set'),
        (["-var=alerts=a@b.example", "-var=admins=[]"], "admins: expected at least one ARN"),
    ):
        done = terraform.run(folder, "plan", "-input=false", "-no-color", *given)
        assert done.returncode == 1
        assert said in " ".join(done.stderr.replace("│", " ").split()), done.stderr


def test_checkov_finds_nothing_and_each_exception_has_its_reason() -> None:
    options = ("--framework", "terraform", "--quiet", "--compact", "--skip-download", "-o", "json", "-d", SOURCE)
    try:
        done = programs.run(tools.checkov(), *options, missing="run `make .venv-checkov/.installed`")
    except PlumblineError as error:
        pytest.skip(str(error))
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 100
    assert [
        f"{item['check_id']} {item['check_name']}: {item['file_path']} {item['resource']}"
        for item in report["results"]["failed_checks"]
    ] == []
    texts = "\n".join(file.read_text() for file in SOURCE.rglob("*.tf"))
    exceptions = re.findall(r"#checkov:skip=(\w+)(.*)", texts)
    assert len(exceptions) == texts.count("checkov:skip")
    assert all(re.fullmatch(r":\S.{20,}", reason) for _, reason in exceptions)
