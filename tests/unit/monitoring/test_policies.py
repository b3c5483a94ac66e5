"""The rules in git are legal."""

from pathlib import Path

import pytest

from plumbline.monitoring.policy import Drift, Experiment, read_policy

POLICIES = Path(__file__).parents[3] / "policies"


@pytest.mark.parametrize("path", sorted(POLICIES.glob("experiments/*.yaml")), ids=lambda path: path.stem)
def test_experiments(path: Path) -> None:
    assert read_policy(path, Experiment, path.stem).looks


@pytest.mark.parametrize("path", sorted(POLICIES.glob("drift/*.yaml")), ids=lambda path: path.stem)
def test_drift(path: Path) -> None:
    assert read_policy(path, Drift, path.stem).sample
