"""Whatever happened, git, cluster and registry come to agree, and nothing innocent is barred.

`make histories` runs 200 of them; SEED=17 HISTORIES=1 the one with that seed.
"""

import os
from pathlib import Path

import pytest

from plumbline.promotion.registry.client import Registry

from .histories import begin

_FIRST, _COUNT = int(os.environ.get("SEED", "0")), int(os.environ.get("HISTORIES", "2"))


@pytest.mark.parametrize("seed", range(_FIRST, _FIRST + _COUNT))
def test_a_history_ends_in_agreement(seed: int, tmp_path: Path, registry: Registry, keys: tuple[Path, Path]) -> None:
    history = begin(seed, tmp_path / "git", registry, keys)
    history.run(events=int(os.environ.get("EVENTS", "12")))
    history.settle()
    assert history.disagreements() == [], "\n".join(history.did)
