"""Documents of people, YAML or JSON, read strictly into types; what is wrong is said with file, field and line."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from plumbline.core.errors import Misuse

Document = TypeVar("Document", bound=BaseModel)
Fault = tuple[str, str]
"""A field, such as `spec.rules.metrics.0.metric`, and what is wrong with it."""


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DocumentError(Misuse):
    """A document that is missing, can't be read or breaks its shape; `line` is where, as far as that is known."""

    def __init__(self, reason: str, *, source: str = "", line: int = 1) -> None:
        super().__init__(f"{source}: {reason}" if source else reason)
        self.reason, self.line, self.source = reason, line, source


class UniqueKeys(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence; a document of ours must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Raise ConstructorError, with the place, for the second of two equal keys."""
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no plain text", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(text: str, source: str = "") -> Any:
    """The plain values of a YAML (or JSON) text; raises DocumentError."""
    try:
        return yaml.load(text, UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reason = f"not readable as YAML: {error.problem or error.context} in line {line}"
        raise DocumentError(reason, source=source, line=line) from error
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is a ValueError
        raise DocumentError(f"not readable as YAML: {error}", source=source) from error
    except RecursionError as error:
        raise DocumentError("not readable as YAML: nested too deeply", source=source) from error


def compose(text: str, source: str = "") -> yaml.Node | None:
    """The nodes of a text, which know their places; raises DocumentError."""
    load(text, source)  # composing alone lets a key stand twice
    return yaml.compose(text, UniqueKeys)


def parse(text: str, shape: type[Document], source: str = "") -> Document:
    """Read a document; raises DocumentError that names `source`, every wrong field and what was expected."""
    try:
        return shape.model_validate(load(text, source))
    except ValidationError as error:
        place = tuple(map(str, error.errors()[0]["loc"]))
        raise DocumentError(worded(error, shape), source=source, line=line_of(yaml.compose(text), place)) from error


def read(path: Path, shape: type[Document], source: str = "") -> Document:
    """Read a file as `parse` does; its path is the source unless another is given."""
    source = source or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"cannot be read: {error}", source=source) from error
    return parse(text, shape, source)


def require(faults: Iterable[Fault], source: str, text: str = "") -> None:
    """Raise DocumentError with every fault that was found in a document; the text says the line of the first."""
    if wrong := list(faults):
        line = line_of(yaml.compose(text), tuple(wrong[0][0].split(".")))
        raise DocumentError("; ".join(f"{field}: {reason}" for field, reason in wrong), source=source, line=line)


def worded(error: ValidationError, shape: type[BaseModel] | None = None) -> str:
    """Every wrong field of a value, with what was expected and, where it is one plain value, what was got.

    With its shape, a field that does not exist is told with those that do.
    """
    return "; ".join(f"{_place(item)}{message(item, shape)}{_got(item['input'])}" for item in _own(error))


def _own(error: ValidationError) -> list[ErrorDetails]:
    """The faults, but not that a list is too short of which an item is wrong: pydantic counts those that are right."""
    found = error.errors(include_url=False)
    above = {fault["loc"][:length] for fault in found for length in range(len(fault["loc"]))}
    return [fault for fault in found if fault["type"] != "too_short" or fault["loc"] not in above]


def _place(fault: ErrorDetails) -> str:
    """The field; a rule of the whole document says in its own words what it is about."""
    if not fault["loc"]:
        return "" if fault["type"] == "value_error" else "document: "
    return f"{'.'.join(map(str, fault['loc']))}: "


def message(fault: ErrorDetails, shape: type[BaseModel] | None) -> str:
    """What is wrong with a field, and of one that does not exist those that stand beside it in the shape."""
    if shape is None or fault["type"] != "extra_forbidden":
        # Who writes YAML knows lists.
        return fault["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list").replace("Tuple", "List")
    shapes = [shape]
    for part in fault["loc"][:-1]:
        annotations = [each.model_fields[part].annotation for each in shapes if part in each.model_fields]
        # Within a list or a mapping the way goes on in the same shapes.
        shapes = [found for annotation in annotations for found in _shapes(annotation)] or shapes
    return f"{fault['msg']}; expected one of {', '.join(name for each in shapes for name in each.model_fields)}"


def _shapes(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _shapes(part)]


def _got(value: object) -> str:
    return f" (got {value!r:.80})" if isinstance(value, str | int | float) or value is None else ""


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of each plain or empty value.

    An item of a list goes by its name, if it has one: an item put in front changes no other.
    """
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, str(key)))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, dict) else index
            yield from leaves(item, (*path, str(name)))
    else:
        yield path, value


def find(node: yaml.Node | None, path: tuple[str, ...]) -> yaml.Node | None:
    """The node at a path of keys, and of numbers within lists; None where there is none."""
    for key in path:
        if isinstance(node, yaml.SequenceNode):
            node = node.value[int(key)] if key.isdigit() and int(key) < len(node.value) else None
        elif isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if name.value == key), None)
        else:
            return None
    return node


def line_of(node: yaml.Node | None, path: tuple[str, ...] = ()) -> int:
    """The line of a path, or of the last part of it that exists: a missing key has no line of its own."""
    for length in range(len(path), -1, -1):
        if (place := find(node, path[:length])) is not None:
            return int(place.start_mark.line) + 1
    return 1
