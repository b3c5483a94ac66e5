"""A model's schema: what a request holds, how each value becomes a number, and what the answer means.

Training writes it as `schema.json` into the artifact, so that the vocabulary that the model was fitted with is the
one that it is served with. Feast was weighed and left: 446 MB and a registry of its own, where this needs one JSON
file, a Redis hash per entity and a point-in-time join (docs/features.md).
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import chain, starmap
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, model_validator

from plumbline.core.digests import sha256
from plumbline.core.documents import Strict

Matrix = npt.NDArray[np.float32]
Value = float | int | str | None
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        like = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_0123456789") or "width"
        raise ValueError(f"a field's name has letters, digits and _ alone, such as {like!r}; rename it, in rows() too")
    return name


FieldName = Annotated[str, AfterValidator(_plain)]


class SchemaField(Strict):
    """One value of a request and one column of the model's input."""

    name: FieldName
    type: Literal["number", "integer", "category"]
    description: str
    example: float | int | str
    unit: str = ""
    required: bool = True
    minimum: float | None = None
    maximum: float | None = None
    vocabulary: tuple[str, ...] = ()
    """Of a category: the values that training saw often enough, in the order of their codes 0, 1, 2 …"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.type == "category") != isinstance(self.example, str):
            raise ValueError(f"{self.name}: the example {self.example!r} is not a {self.type}")
        if self.vocabulary and self.type != "category":
            raise ValueError(f"{self.name}: only a category has a vocabulary")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError(f"{self.name}: a value stands twice in the vocabulary")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"{self.name}: the minimum {self.minimum} is above the maximum {self.maximum}")
        return self

    @property
    def columns(self) -> "tuple[SchemaField, ...]":
        """The columns of the model's input that the field becomes, each described as a field: itself, if it is one."""
        return (self,)

    def encode(self, values: Sequence[Value]) -> npt.NDArray[np.float32]:
        """One column, shape (n,): numbers as they are, categories as their codes.

        What is missing (None) or was not seen in training becomes NaN, which the models take as "not known".
        """
        if self.type == "category":
            codes = self.codes
            return np.array([codes.get(value, np.nan) for value in values], dtype=np.float32)
        return np.array([np.nan if value is None else value for value in values], dtype=np.float32)

    @property
    def codes(self) -> dict[Value, float]:
        """Of a category: {value: code}."""
        return {value: float(code) for code, value in enumerate(self.vocabulary)}


class View(Strict):
    """Fields that the online store knows: the server fills them in where a caller leaves them out."""

    name: Identifier
    entity: tuple[FieldName, ...]
    """The fields of the request that together are the key."""
    fields: tuple[FieldName, ...]
    max_age_seconds: Annotated[int, Field(gt=0)]
    """Older values count as missing, in the point-in-time join of training as well as online."""


class Output(Strict):
    """What an answer means."""

    task: Literal["binary", "multiclass", "regression"]
    name: str
    description: str
    labels: tuple[str, ...] = ()
    """Of a classifier, in the order of the probabilities; for a binary one the second is the positive label."""
    unit: str = ""

    @property
    def tensor(self) -> str:
        """The output of the ONNX file that is served."""
        return "value" if self.task == "regression" else "probabilities"

    @property
    def width(self) -> int:
        """How many numbers answer a row."""
        return max(1, len(self.labels))

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        low = {"binary": 2, "multiclass": 3, "regression": 0}[self.task]
        if len(self.labels) < low or (self.task != "multiclass" and len(self.labels) != low):
            raise ValueError(f"labels: a {self.task} output has {low} labels, not {len(self.labels)}")
        return self


class ModelSchema(Strict):
    """`schema.json` of an artifact."""

    model: str
    fields: Annotated[tuple[SchemaField, ...], Field(min_length=1)]
    output: Output
    views: tuple[View, ...] = ()

    @model_validator(mode="after")
    def _fields_known(self) -> Self:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError("fields: a name stands twice")
        optional = {field.name for field in self.fields if not field.required}
        for view in self.views:
            if unknown := set(view.entity) - set(names):
                raise ValueError(f"views: {view.name} is keyed by unknown fields {sorted(unknown)}")
            if unknown := set(view.fields) - optional:
                raise ValueError(f"views: {view.name} can only fill optional fields, not {sorted(unknown)}")
        return self

    @property
    def columns(self) -> tuple[SchemaField, ...]:
        """The columns of the model's input, in their order."""
        return tuple(column for field in self.fields for column in field.columns)

    @property
    def width(self) -> int:
        """How many columns the model's input has."""
        return len(self.columns)

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Matrix:
        """Rows of named values to the model's input, shape (rows, width); a missing optional value is NaN."""
        return self.encode_values([tuple(map(row.get, self._names)) for row in rows])

    def encode_values(self, rows: Sequence[Sequence[Value]]) -> Matrix:
        """The same for rows that hold a value, or None, for each field in the schema's order."""
        width = self._width
        flat: Any = rows
        if self._categories:
            flat = list(chain.from_iterable(rows))
            for index, codes in self._categories:
                flat[index::width] = [codes.get(value, np.nan) for value in flat[index::width]]
        try:  # two to three times as fast as np.array, and as exact
            if self._categories:
                packed = struct.pack(f"={len(flat)}f", *flat)
            else:
                packed = b"".join(starmap(self._packed_row, rows))
            matrix = np.frombuffer(packed, dtype=np.float32)
        except (struct.error, OverflowError):  # None, or what only an infinity is left for
            matrix = np.array(flat, dtype=np.float32)
        return matrix.reshape(len(rows), width)

    @cached_property
    def _width(self) -> int:
        return self.width

    @cached_property
    def _packed_row(self) -> Callable[..., bytes]:
        return struct.Struct(f"={self._width}f").pack

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @cached_property
    def _categories(self) -> tuple[tuple[int, dict[Value, float]], ...]:
        """Column and codes of each category: a request of one row is encoded in 4 µs, not 90."""
        return tuple((index, field.codes) for index, field in enumerate(self.fields) if field.type == "category")

    def to_json(self) -> str:
        """The text of schema.json: stable, so that equal schemas have equal digests."""
        return self.model_dump_json(indent=2) + "\n"

    def digest(self) -> str:
        """`sha256:…` of the text of schema.json."""
        return sha256(self.to_json())

    def example(self) -> dict[str, Any]:
        """A request's row made of every field's example."""
        return {field.name: field.example for field in self.fields}
