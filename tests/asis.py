"""This checkout as it stands, rendered once for all tests; a test that changes something takes a copy (`tree`)."""

from copy import deepcopy
from functools import cache
from pathlib import Path

from plumbline.tree.render.build import Objects, environments
from plumbline.tree.render.environment import Environment

ROOT = Path(__file__).parents[1]


@cache
def environment(name: str) -> Environment:
    """One of its environments; to be read alone."""
    return Environment.load(ROOT, name)


def everywhere() -> list[Environment]:
    """All of them."""
    return [environment(name) for name in environments(ROOT)]


def rendered(name: str) -> dict[str, Objects]:
    """{folder: its objects} of an environment, for the test to keep."""
    return deepcopy(environment(name).folders)
