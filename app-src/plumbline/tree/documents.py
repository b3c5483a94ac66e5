"""What people and promotion write below clusters/<env>/models/: read into types, refused with file and line."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import yaml

from plumbline.core.documents import DocumentError, compose, find, line_of, parse
from plumbline.core.release import Release


@dataclass(frozen=True, slots=True)
class Ladder:
    """Canary weights in percent, strictly rising, the last one 100."""

    weights: tuple[int, ...]

    def __post_init__(self) -> None:
        if not _rise(self.weights):
            raise ValueError(f"canary weights must rise strictly between 1 and 100, not {list(self.weights)}")
        if self.weights[-1:] != (100,):
            raise ValueError(f"the last canary weight must be 100, or the release never ends, not {list(self.weights)}")


def read_ladder(text: str) -> Ladder:
    """The weights of a canary.yaml. Raises DocumentError with the line of the first step that is wrong."""
    root = _mapping(text)
    steps = find(root, ("spec", "steps"))
    if not isinstance(steps, yaml.SequenceNode) or not steps.value:
        raise DocumentError(
            "spec.steps: expected a list of steps, such as `- setWeight: 10`", line=line_of(steps or root)
        )
    weights: list[int] = []
    for step, after in zip(steps.value, [*steps.value[1:], None], strict=True):
        if (node := find(step, ("setWeight",))) is None:
            continue
        if node.tag != "tag:yaml.org,2002:int":
            raise DocumentError(f"setWeight: expected a whole number, not {node.value!r}", line=line_of(node))
        weights.append(int(node.value))
        if find(after, ("analysis",)) is None:
            raise DocumentError(f"setWeight {node.value}: expected an analysis as the next step", line=line_of(node))
        if not _rise(weights):
            break  # at the line of the first that does not rise
    try:
        return Ladder(tuple(weights))
    except ValueError as error:
        raise DocumentError(str(error), line=line_of(step)) from error


def read_release(text: str) -> Release:
    """A release.yaml. Raises DocumentError with the line of the first field that is wrong."""
    return parse(text, Release)


def name_of(text: str) -> str:
    """metadata.name of a document; nothing where it has none."""
    node = find(_mapping(text), ("metadata", "name"))
    return node.value if isinstance(node, yaml.ScalarNode) else ""


def _rise(weights: Sequence[int]) -> bool:
    return all(low < high for low, high in pairwise((0, *weights, 101)))


def _mapping(text: str) -> yaml.Node:
    node = compose(text)
    if not isinstance(node, yaml.MappingNode):
        raise DocumentError("expected a mapping with apiVersion, kind, metadata and spec")
    return node
