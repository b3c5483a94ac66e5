"""The rules in git are legal."""

from pathlib import Path

import pytest

from plumbline.monitoring.experiment import route
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.monitoring.policy import Drift, read_policy

POLICIES = Path(__file__).parents[3] / "policies"


@pytest.mark.parametrize("path", sorted(POLICIES.glob("experiments/*.yaml")), ids=lambda path: path.stem)
def test_experiments(path: Path) -> None:
    policy = read_policy(path, Experiment, path.stem)
    assert route.path(POLICIES, policy.model).read_text() == route.text(policy)


@pytest.mark.parametrize("path", sorted(POLICIES.glob("drift/*.yaml")), ids=lambda path: path.stem)
def test_drift(path: Path) -> None:
    assert read_policy(path, Drift, path.stem).sample
