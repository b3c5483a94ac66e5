"""A tree that a test may break."""

import shutil
from pathlib import Path

import pytest

from plumbline.tree.render.build import READ

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is declared."""
    for folder in READ:
        if (ROOT / folder).exists():
            shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path
