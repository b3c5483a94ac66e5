"""The quick way from a request's bytes to its rows: msgspec, a fifth of the time that pydantic takes.

It judges nothing: it reads only what the pydantic types of `contract` take too, with the same values, and leaves
every other body to them, which then accept it or say what is wrong with it. A property test holds the two together.
"""

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec.structs import astuple

from plumbline.core.encoding import LONGEST_MOMENT
from plumbline.core.schema import ModelSchema, SchemaField, Value
from plumbline.core.values import MAX_TEXT, bounds, fits

Values = tuple[Value, ...]
"""One row: a value for each field in the schema's order, None where it is missing."""
ABSENT: Any = msgspec.UNSET
"""Stands for a field of a view that the caller did not give at all; null is a value that it says is missing."""
_NUL = b"\\u0000"
"""The only way in which JSON can hold one: no text may. As a pattern of each text it would cost a tenth."""
_CATEGORY = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
_BYTES_A_VALUE = 32
"""More than a number needs. A longer body is padded, and the log's queue counts rows, not bytes."""


class Batch(NamedTuple):
    """The rows of a request, and how its caller wrote them where that can be logged as it stands."""

    rows: list[Values]
    text: bytes | None = None
    """The members `columns` and `data` of a JSON object, with the schema's columns in their order."""
    whole: bool = False
    """Whether each row gives each field, so that nothing is to be filled in."""


class Reader:
    """Decoders of a model's well-formed requests."""

    def __init__(self, schema: ModelSchema, max_rows: int) -> None:
        names = tuple(field.name for field in schema.fields)
        viewed = schema.viewed
        described: list[Any] = [
            (field.name, _type(field)) if field.required
            else (field.name, _type(field) | None | msgspec.UnsetType, ABSENT) if field.name in viewed
            else (field.name, _type(field) | None, None)
            for field in schema.fields
        ]  # fmt: skip
        row = msgspec.defstruct("Row", described, kw_only=True, forbid_unknown_fields=True, gc=False)
        array: Any = tuple[tuple(_type(field) if field.required else _type(field) | None for field in schema.fields)]  # type: ignore[misc]
        columns: Any = tuple[tuple(Literal[name] for name in names)]  # type: ignore[misc]
        some = msgspec.Meta(min_length=1, max_length=max_rows)
        self._one = _decoder(features=row)
        self._rows = _decoder(rows=Annotated[list[row], some])  # type: ignore[valid-type]
        self._matrix = _decoder(columns=columns, data=Annotated[list[array], some])
        self._moments = [(place, field) for place, field in enumerate(schema.fields) if field.type == "timestamp"]

    def one(self, body: bytes) -> Values | None:
        """The row of `{"features": {…}}`; None where pydantic must look."""
        request = _read(self._one, body)
        if request is None:
            return None
        row = astuple(request.features)
        return row if self._dated([row]) else None

    def batch(self, body: bytes) -> Batch | None:
        """The rows of a batch, by name or as a matrix with the schema's columns; None where pydantic must look."""
        if (request := _read(self._matrix, body)) is not None and self._dated(request.data):
            plain = len(body) <= _BYTES_A_VALUE * len(request.data) * len(request.columns)
            return Batch(request.data, body.strip()[1:-1] if plain else None, whole=True)
        if (request := _read(self._rows, body)) is not None:
            rows = list(map(astuple, request.rows))
            return Batch(rows) if self._dated(rows) else None
        return None

    def _dated(self, rows: list[Values]) -> bool:
        """Whether each text that is to be a moment is one; no pattern knows the 31 of February."""
        return all(row[place] is None or fits(field, row[place]) for place, field in self._moments for row in rows)


def _decoder(**fields: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(msgspec.defstruct("Body", list(fields.items()), forbid_unknown_fields=True))


def _read(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    try:
        return None if b"\\" in body and _NUL in body else decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _type(field: SchemaField) -> Any:
    if field.type == "category":
        return _CATEGORY
    if field.type == "boolean":
        return bool
    if field.type == "categories":
        return Annotated[list[_CATEGORY], msgspec.Meta(max_length=field.most)]
    if field.type in ("text", "timestamp"):
        return Annotated[str, msgspec.Meta(max_length=field.most if field.type == "text" else LONGEST_MOMENT)]
    low, high = bounds(field)
    if field.type == "integer":
        return Annotated[int, msgspec.Meta(ge=int(low), le=int(high))]
    return Annotated[float, msgspec.Meta(ge=float(low), le=float(high))]
