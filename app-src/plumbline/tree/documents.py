"""What people and promotion write below clusters/<env>/models/: read into types, refused with file and line."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import yaml
from pydantic import ValidationError

from plumbline.core.errors import Misuse
from plumbline.core.release import Release, ReleaseError, UniqueKeys, parse_release


class DocumentError(Misuse):
    """A document breaks its shape; `line` is where."""

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.line = line


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
    root = _compose(text)
    steps = _find(root, ("spec", "steps"))
    if not isinstance(steps, yaml.SequenceNode) or not steps.value:
        raise DocumentError("spec.steps: expected a list of steps, such as `- setWeight: 10`", _line(steps or root))
    weights: list[int] = []
    for step, after in zip(steps.value, [*steps.value[1:], None], strict=True):
        if (node := _find(step, ("setWeight",))) is None:
            continue
        if node.tag != "tag:yaml.org,2002:int":
            raise DocumentError(f"setWeight: expected a whole number, not {node.value!r}", _line(node))
        weights.append(int(node.value))
        if _find(after, ("analysis",)) is None:
            raise DocumentError(f"setWeight {node.value}: expected an analysis as the next step", _line(node))
        if not _rise(weights):
            break  # at the line of the first that does not rise
    try:
        return Ladder(tuple(weights))
    except ValueError as error:
        raise DocumentError(str(error), _line(step)) from error


def read_release(text: str) -> Release:
    """A release.yaml. Raises DocumentError with the line of the first field that is wrong."""
    try:
        return parse_release(text, source="release")
    except ReleaseError as error:
        reason = str(error).removeprefix("release: ")
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            place = tuple(map(str, cause.errors()[0]["loc"]))
            raise DocumentError(reason, _line(_nearest(_compose(text), place))) from error
        mark = getattr(cause, "problem_mark", None)
        raise DocumentError(reason.split("\n")[0], mark.line + 1 if mark else 1) from error


def name_of(text: str) -> str:
    """metadata.name of a document; nothing where it has none."""
    node = _find(_compose(text), ("metadata", "name"))
    return node.value if isinstance(node, yaml.ScalarNode) else ""


def _rise(weights: Sequence[int]) -> bool:
    return all(low < high for low, high in pairwise((0, *weights, 101)))


def _compose(text: str) -> yaml.Node:
    try:
        yaml.load(text, UniqueKeys)  # noqa: S506 - a SafeLoader; composing alone lets a key stand twice
        node = yaml.compose(text, UniqueKeys)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DocumentError(f"not readable as YAML: {error.problem}", line) from error
    if not isinstance(node, yaml.MappingNode):
        raise DocumentError("expected a mapping with apiVersion, kind, metadata and spec")
    return node


def _find(node: yaml.Node | None, path: tuple[str, ...]) -> yaml.Node | None:
    for key in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    return node


def _nearest(node: yaml.Node, path: tuple[str, ...]) -> yaml.Node:
    """The node at `path`, or the last one on the way to it that exists: a missing key has no line of its own."""
    for length in range(len(path), -1, -1):
        if (found := _find(node, path[:length])) is not None:
            return found
    return node


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
