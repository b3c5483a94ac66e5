"""Gates are strict: an unknown key, a wrong type or an impossible value names file and field."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from plumbline.core.documents import DocumentError, parse
from plumbline.promotion.delivery.documents import Barred, barred_path, dump
from plumbline.promotion.policy import Limit, Policy

POLICIES = Path(__file__).parents[3] / "policies/promotion"


GATE = """\
apiVersion: plumbline.dev/v1
kind: PromotionPolicy
metadata: {name: flights}
spec:
  rules:
    images: [ghcr.io/plumbline/model-server]
    metrics: [{metric: roc_auc, bound: low, min: 0.6}]
    beats_baseline: {metric: log_loss}
    champion: {metric: log_loss, margin: 0.005}
    latency_p95_ms: 5
    size_mb: 50
    parity: {max_abs_difference: 0.0001}
    card: [title]
  environments:
    staging: {lifecycle: Staging}
    production: {lifecycle: Production, after: staging, approval: true}
"""


def text(**changes: Any) -> str:
    document = yaml.safe_load(GATE)
    for path, value in changes.items():
        part = document["spec"]
        *parents, last = path.split("__")
        for key in parents:
            part = part[key]
        part[last] = value
    return yaml.safe_dump(document)


@pytest.mark.parametrize("path", sorted(POLICIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_gates_in_git_are_legal(path: Path) -> None:
    policy = parse(path.read_text(), Policy, path.name)
    assert policy.metadata.name == path.stem


def test_an_environment_replaces_a_rule() -> None:
    spec = parse(text(environments__staging__rules={"size_mb": 1}), Policy, "flights.yaml").spec
    assert (spec.rules_of("staging").size_mb, spec.rules_of("production").size_mb) == (1, spec.rules.size_mb)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rules__surprise": 1}, "spec.rules.surprise"),
        ({"rules__latency_p95_ms": "fast"}, "spec.rules.latency_p95_ms"),
        ({"rules__latency_p95_ms": -1}, "spec.rules.latency_p95_ms"),
        ({"rules__metrics": []}, "spec.rules.metrics"),
        ({"rules__metrics": [{"metric": "roc_auc"}]}, "give either min or max"),
        ({"rules__metrics": [{"metric": "roc_auc", "min": 1, "max": 2}]}, "give either min or max"),
        ({"rules__metrics": [{"metric": "roc_auc", "min": float("nan")}]}, "spec.rules.metrics.0.min"),
        ({"rules__champion__margin": float("inf")}, "spec.rules.champion.margin"),
        ({"rules__champion__resamples": 3}, "spec.rules.champion.resamples"),
        ({"rules__images": ["ghcr.io/x/y:latest"]}, "without tag or digest"),
        ({"environments__staging__lifecycle": "Live"}, "spec.environments.staging.lifecycle"),
        ({"environments__production__after": "moon"}, "'moon' is not one of them"),
        (
            {"environments__staging__rules": {"surprise": 1}},
            "spec.environments.staging.rules.surprise: Extra inputs are not permitted; expected one of images, ",
        ),
        (
            {"environments__staging__rules": {"metrics": [{"metric": "roc_auc"}]}},
            "spec.environments.staging.rules.metrics.0: give either min or max",
        ),
        (
            {"rules__champion__margn": 1},
            "spec.rules.champion.margn: Extra inputs are not permitted; expected one of metric",
        ),
        ({"environments": {}}, "spec.environments"),
    ],
)
def test_illegal_gates_name_file_and_field(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DocumentError, match=r"^policies/promotion/flights.yaml: ") as refusal:
        parse(text(**changes), Policy, "policies/promotion/flights.yaml")
    assert said in str(refusal.value)


def test_double_keys_and_broken_yaml() -> None:
    with pytest.raises(DocumentError, match="stands twice"):
        parse(text() + "\nkind: PromotionPolicy\n", Policy, "p.yaml")
    with pytest.raises(DocumentError, match="not readable as YAML"):
        parse("a: [", Policy, "p.yaml")
    with pytest.raises(DocumentError, match="document: "):
        parse("- 1", Policy, "p.yaml")


def test_limits() -> None:
    assert Limit(metric="m", min=0).holds(0)
    assert not Limit(metric="m", min=0).holds(-0.1)
    assert Limit(metric="m", max=0).holds(0)
    assert not Limit(metric="m", max=0).holds(0.1)
    assert (Limit(metric="m", min=0.5).text, Limit(metric="m", max=2).text) == ("≥ 0.5", "≤ 2")


def test_records_survive_their_text_and_have_their_place() -> None:
    facts = {
        "model": "toy",
        "version": "v1.0.0",
        "digest": "sha256:" + "a" * 64,
        "reason": "good: enough",
        "at": "2026-01-02T03:04:05Z",
    }
    barred = Barred.model_validate(facts | {"metric": "error-rate"})
    assert parse(dump(barred), Barred, "b.yaml") == barred
    assert barred_path("toy", barred.digest) == f"policies/barred/toy/{'a' * 64}.yaml"
    with pytest.raises(DocumentError, match="reason"):
        parse(dump(barred).replace("good: enough", ""), Barred, "b.yaml")
