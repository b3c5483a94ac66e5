"""One value of a request: its type, and how it becomes a number or several."""

import re
from collections.abc import Sequence
from itertools import repeat
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, StrictBool, model_serializer, model_validator

from plumbline.core import encoding
from plumbline.core.documents import Strict

Value = float | int | str | bool | Sequence[str] | None
FieldType = Literal["number", "integer", "category", "boolean", "timestamp", "text", "categories"]
PLAIN = ("number", "integer", "category", "boolean")
"""Types that are a column each."""
_EXAMPLES: dict[str, type | tuple[type, ...]] = {
    "number": (int, float),
    "integer": (int, float),
    "category": str,
    "boolean": bool,
    "timestamp": str,
    "text": str,
    "categories": tuple,
}
_OWN = {
    "timestamp": {"parts", "zone", "moment"},
    "text": {"by", "grams", "buckets", "longest"},
    "categories": {"longest"},
}
"""By type, what means nothing to the others."""
_LATER = set().union(*_OWN.values())


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        like = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_0123456789") or "width"
        raise ValueError(f"a field's name has letters, digits and _ alone, such as {like!r}; rename it, in rows() too")
    return name


FieldName = Annotated[str, AfterValidator(_plain)]


class SchemaField(Strict):
    """One value of a request, and one column or several of the model's input."""

    name: FieldName
    type: FieldType
    description: str
    example: StrictBool | float | int | str | tuple[str, ...]
    unit: str = ""
    required: bool = True
    minimum: float | None = None
    maximum: float | None = None
    vocabulary: tuple[str, ...] = ()
    """Of a category: the values that training saw often enough, in the order of their codes 0, 1, 2 … Of a list of
    categories its members, in the order of their columns."""
    parts: tuple[encoding.Part, ...] = ()
    """Of a timestamp: what the model sees of it."""
    zone: str = ""
    """Of a timestamp: the IANA time zone in which its hour, weekday, month and day of the year are told."""
    moment: bool = False
    """Of a timestamp: that it is the row's moment, which the age of others is counted to."""
    by: Literal["", "words", "characters", "codepoints"] = ""
    """Of a text: what is counted, or that the model is given its first characters as numbers (Unicode)."""
    grams: Annotated[int, Field(ge=1, le=8)] = 1
    """Of a text: how many words or characters in a row are counted as one."""
    buckets: Annotated[int, Field(ge=0, le=4096)] = 0
    """Of a text: how many columns it becomes."""
    longest: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Of a text: the most characters that a caller may send (1,000); of a list: the most members (100)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if fault := self._fault():
            raise ValueError(f"{self.name}: {fault}")
        if self.vocabulary and self.type not in ("category", "categories"):
            raise ValueError(f"{self.name}: only a category has a vocabulary")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError(f"{self.name}: a value stands twice in the vocabulary")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"{self.name}: the minimum {self.minimum} is above the maximum {self.maximum}")
        return self

    def _fault(self) -> str:
        """What does not fit the field's type; empty where all does."""
        is_boolean = isinstance(self.example, bool)  # which is an integer to Python
        if is_boolean != (self.type == "boolean") or not isinstance(self.example, _EXAMPLES[self.type]):
            return f"the example {self.example!r} is not a {self.type}"
        if foreign := sorted(self._set() - _OWN.get(self.type, set())):
            return f"{', '.join(foreign)} means nothing to a {self.type}"
        if self.type == "timestamp":
            return self._timestamp_fault()
        if self.type == "text" and not (self.by and self.buckets):
            return 'a text needs by="words" (or "characters", "codepoints") and buckets=64, say: its columns'
        long = isinstance(self.example, str | tuple) and len(self.example) > self.most
        return f"the example is longer than {self.most}" if long and self.type in ("text", "categories") else ""

    def _timestamp_fault(self) -> str:
        if encoding.moment_of(self.example) is None:
            return f"the example {self.example!r} is no moment with its offset, such as {encoding.MOMENT_EXAMPLE!r}"
        if not (self.parts or self.moment):
            return f"a timestamp needs parts=(…), what the model sees of it: some of {', '.join(encoding.PARTS)}"
        if len(set(self.parts)) != len(self.parts):
            return "a part stands twice"
        if local := [part for part in self.parts if part in encoding.LOCAL and not self.zone]:
            return f'{local[0]} needs zone="Europe/Berlin", say: the time zone in which it is told'
        return encoding.zone_fault(self.zone) if self.zone else ""

    def _set(self) -> set[str]:
        fields = type(self).model_fields
        return {name for name in _LATER if getattr(self, name) != fields[name].default}

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What came later is left out where it says nothing: the digests of older schemas stay what they are."""
        unset = _LATER - self._set()
        return {name: value for name, value in handler(self).items() if name not in unset}

    @property
    def most(self) -> int:
        """The most characters of a text, or members of a list."""
        return self.longest or (1000 if self.type == "text" else 100)

    @property
    def columns(self) -> "tuple[SchemaField, ...]":
        """The columns of the model's input that the field becomes, each described as a field: itself, if it is one."""
        if self.type in PLAIN:
            return (self,)
        return tuple(
            SchemaField.model_construct(**shape._asdict(), description=self.description, required=self.required)
            for shape in encoding.shapes(self)
        )

    def encode(self, values: Sequence[Value], moments: Sequence[float | None] = ()) -> npt.NDArray[np.float32]:
        """One column, shape (n,): numbers as they are, categories as their codes, true as 1 and false as 0.

        What is missing (None) or was not seen in training becomes NaN, which the models take as "not known". A
        timestamp, a text or a list becomes its columns, shape (n, columns); `moments` are those of the rows, in seconds
        since 1970, where they are known.
        """
        if self.type == "category":
            codes = self.codes
            return np.array([codes.get(value, np.nan) for value in values], dtype=np.float32)
        if self.type in PLAIN:
            return np.array([np.nan if value is None else value for value in values], dtype=np.float32)
        encode = encoding.encoder(self)
        encoded = [encode(value, moment) for value, moment in zip(values, moments or repeat(None), strict=False)]
        return np.array(encoded, dtype=np.float32).reshape(len(values), len(self.columns))

    @property
    def codes(self) -> dict[Value, float]:
        """Of a category: {value: code}."""
        return {value: float(code) for code, value in enumerate(self.vocabulary)}
