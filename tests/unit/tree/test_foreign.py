"""What an environment says of another one is a problem: each kind of it with its place."""

from typing import Any

import pytest

from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.foreign import foreign
from plumbline.tree.values import Values

COMMON = {
    "repository": "https://git.example/ml/platform.git",
    "registry": "registry.example/ml",
    "domain": "ml.example",
}


def values(name: str, region: str = "eu-north-1") -> Values:
    return Values.model_validate(COMMON | {"name": name, "region": region, "buckets": f"acme-{name}"})


KNOWN = {"prod": values("prod"), "prod-eu": values("prod-eu", "eu-west-3"), "staging": values("staging")}


def said(environment: str, /, **data: Any) -> list[str]:
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}
    return [problem.reason for problem in foreign(Environment(environment, {"folder": [item]}, []), KNOWN)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"store": "s3://acme-staging-mlflow/x"}, "data.store: names acme-staging-mlflow of the environment staging"),
        (
            {"PGHOST": "postgresql.staging.ml.example"},
            "data.PGHOST: names postgresql.staging.ml.example of the environment staging",
        ),
        ({"path": "clusters/staging/models"}, "data.path: names clusters/staging of the environment staging"),
        ({"prefix": "plumbline/staging/"}, "data.prefix: names plumbline/staging/ of the environment staging"),
        (
            {"environment": "staging"},
            "data.environment: 'staging' is the name of another environment; expected prod",
        ),
        (
            {"region": "us-east-1"},
            "data.region: 'us-east-1' is another region than that of environment.yaml, eu-north-1",
        ),
        (
            {"PROMOTION_REPO": "https://github.com/origin/origin.git"},
            "data.PROMOTION_REPO: 'https://github.com/origin/origin.git' is another repository than that of "
            "environment.yaml, https://git.example/ml/platform.git",
        ),
        ({"bucket": "acme-prod-eu-logs"}, "data.bucket: names acme-prod-eu-logs of the environment prod-eu"),
    ],
)
def test_what_belongs_to_another_environment_is_a_problem(data: dict[str, str], reason: str) -> None:
    assert reason in said("prod", **data)


def test_its_own_names_are_none() -> None:
    own = {"environment": "prod-eu", "region": "eu-west-3", "bucket": "acme-prod-eu-logs", "path": "clusters/prod-eu"}
    assert said("prod-eu", **own, PGHOST="postgresql.prod-eu.ml.example", PROMOTION_REPO=COMMON["repository"]) == []
    assert said("prod", bucket="acme-prod-logs", note="staging ran it first", number=3) == []
