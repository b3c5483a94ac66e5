"""Tensors of the Open Inference Protocol: from JSON or raw bytes to values, with errors that name the tensor."""

import base64
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import FailFast, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from plumbline.core.field import PLAIN
from plumbline.core.schema import Matrix, ModelSchema, SchemaField
from plumbline.core.values import bounds, fault_of
from plumbline.serving.errors import FieldError, Problem, invalid, shown

_NUMPY = {
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    "BOOL": "|b1",
}
_EXPECTED = f"one of {', '.join([*_NUMPY, 'BYTES'])}"
_KINDS: dict[str, tuple[Any, str]] = {
    "FP": (float, "a finite number"),
    "INT": (int, "an integer"),
    "UINT": (int, "an integer"),
    "BOOL": (bool, "true or false"),
    "BYTES": (str, "a string"),
}
# The first wrong value ends it. null is a missing value; most tensors have none, and are read faster without.
_FULL: dict[str, TypeAdapter[list[Any]]] = {
    name: TypeAdapter(Annotated[list[kind], FailFast()])  # type: ignore[arg-type, valid-type]
    for name, (kind, _) in _KINDS.items()
}
_GAPS: dict[str, TypeAdapter[list[Any]]] = {
    name: TypeAdapter(Annotated[list[kind | None], FailFast()])  # type: ignore[arg-type, valid-type]
    for name, (kind, _) in _KINDS.items()
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named, flat tensor whose values fit its shape: floats, integers (of BOOL: 0 and 1), str or None.

    Numbers of binary data are an array, which a matrix is made of at a fifth of the time that it takes from a list.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any] | npt.NDArray[Any]

    def listed(self) -> list[Any]:
        """The values as Python's own."""
        return self.values.tolist() if isinstance(self.values, np.ndarray) else self.values


def decode(
    name: str, datatype: str, shape: Sequence[int], data: list[Any] | None, raw: bytes | None, most: int
) -> Tensor:
    """Read one input of up to `most` values from its JSON `data` (flat or nested) or its bytes; raises Problem."""
    if datatype not in _NUMPY and datatype != "BYTES":
        raise _wrong(name, f"has the datatype {datatype!r:.40}", _EXPECTED)
    if (data is None) == (raw is None):
        raise _wrong(name, "has no data" if data is None else "has data twice", "data, or binary_data_size")
    # Bounded before anything is read or multiplied: a shape is the caller's word only.
    if not 1 <= len(shape) <= 2 or any(not 0 <= size <= most for size in shape) or math.prod(shape) > most:
        raise _wrong(name, f"has the shape {_shape(shape)}", f"(rows) or (rows, fields), up to {most} values")
    count = math.prod(shape)
    values = (
        _from_json(name, datatype, data, shape, count) if data is not None else _from_bytes(name, datatype, raw, count)
    )
    if len(values) != count:
        raise _wrong(name, f"has {len(values)} values for the shape {_shape(shape)}", "as many as its shape says")
    return Tensor(name, datatype, tuple(shape), values)


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(shown, shape[:4]))}{', …' if len(shape) > 4 else ''}]"


def _from_json(name: str, datatype: str, data: list[Any], shape: Sequence[int], count: int) -> list[Any]:
    if len(data) > count:
        raise _wrong(name, f"has {len(data)} values for the shape {_shape(shape)}", "as many as its shape says")
    if len(shape) == 2 and any(isinstance(item, list) for item in data):
        data = _flat(name, data, shape[1])
    kind = datatype.rstrip("0123456789")
    values: list[Any]
    try:
        values = (_GAPS if None in data else _FULL)[kind].validate_python(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _wrong(f"{name}.data.{first['loc'][0]}", f"is {shown(first['input'])}", _KINDS[kind][1]) from error
    if kind in ("BYTES", "BOOL"):
        return [int(value) if value in (True, False) else value for value in values] if kind == "BOOL" else values
    return _in_range(name, datatype, values)


def _flat(name: str, data: list[Any], fields: int) -> list[Any]:
    """The values of nested rows. Rows of other sizes than the shape's would be cut anew, each into its neighbour's."""
    for row, values in enumerate(data):
        if not isinstance(values, list) or len(values) != fields:
            raise _wrong(f"{name}.data.{row}", f"is {shown(values)}", f"an array of {fields} values, as its shape says")
    return list(chain.from_iterable(data))


def _in_range(name: str, datatype: str, values: list[Any]) -> list[Any]:
    """The values, if the datatype can hold each; raises Problem that names the first which it can't."""
    limits: Any = np.finfo(_NUMPY[datatype]) if datatype.startswith("FP") else np.iinfo(_NUMPY[datatype])
    low, high = limits.min.item() if datatype.startswith("FP") else limits.min, limits.max
    high = high.item() if datatype.startswith("FP") else high
    for index, value in enumerate(values):
        if value is not None and not low <= value <= high:
            raise _wrong(f"{name}.data.{index}", f"is {shown(value)}", f"a value of {datatype}, {low} to {high}")
    return values


def _from_bytes(name: str, datatype: str, raw: bytes | None, count: int) -> list[Any] | npt.NDArray[Any]:
    raw = raw or b""
    if datatype == "BYTES":
        return _texts(name, raw, count)
    kind = np.dtype(_NUMPY[datatype])
    if len(raw) % kind.itemsize:
        raise _wrong(name, f"has {len(raw)} bytes", f"a multiple of {kind.itemsize}")
    if len(raw) != count * kind.itemsize:
        raise _wrong(name, f"has {len(raw) // kind.itemsize} values", f"{count}, as many as its shape says")
    return (np.frombuffer(raw, np.uint8) != 0).astype(np.int64) if datatype == "BOOL" else np.frombuffer(raw, kind)


def _texts(name: str, raw: bytes, count: int) -> list[str]:
    """Each text follows its length, four bytes, little-endian; one more than `count` is not read on."""
    values: list[str] = []
    offset = 0
    while offset < len(raw) and len(values) <= count:
        end = offset + 4
        if end <= len(raw):
            end += struct.unpack_from("<I", raw, offset)[0]
        if offset + 4 > len(raw) or end > len(raw):
            raise _wrong(name, "ends within a value", "a length of four bytes before each value")
        try:
            values.append(raw[offset + 4 : end].decode())
        except UnicodeDecodeError as error:
            raise _wrong(name, "holds bytes that are not UTF-8", "UTF-8 text") from error
        offset = end
    return values


def from_base64(tensor: Tensor) -> Tensor:
    """The texts of a tensor whose content type is `base64`, as MLServer's clients write it; raises Problem."""
    if tensor.datatype != "BYTES":
        raise _wrong(tensor.name, f"has the datatype {tensor.datatype} and the content type base64", "BYTES")
    values: list[str | None] = []
    for row, value in enumerate(tensor.values):
        try:
            values.append(None if value is None else base64.b64decode(value, validate=True).decode())
        except (ValueError, TypeError) as error:
            raise _wrong(f"{tensor.name}.data.{row}", f"is {shown(value)}", "UTF-8 text in base64") from error
    return replace(tensor, values=values)


def encode_bytes(datatype: str, values: list[Any]) -> bytes:
    """The raw bytes of an output, FP32 or BYTES."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(text := str(value).encode())) + text for value in values)
    return np.asarray(values, _NUMPY[datatype]).tobytes()


def row_values(tensor: Tensor, schema: ModelSchema) -> list[Any]:
    """A tensor of one value a row, (rows) or (rows, 1), as the values that a row of /v1 would hold."""
    field = next((field for field in schema.fields if field.name == tensor.name), None)
    if field is None:
        names = ", ".join(item.name for item in schema.fields)
        raise _wrong(tensor.name, "is not known", f"the fields of the model ({names}), or `features` alone")
    if len(tensor.shape) != 1 and tensor.shape[1:] != (1,):
        raise _wrong(tensor.name, f"has the shape {list(tensor.shape)}", "(rows) or (rows, 1)")
    if field.type == "boolean" and tensor.datatype != "BOOL":
        raise _wrong(tensor.name, f"has the datatype {tensor.datatype}", "BOOL")
    values = tensor.listed()
    if field.type == "boolean":
        return [None if value is None else bool(value) for value in values]
    if field.type == "categories" and tensor.datatype == "BYTES":
        return [_listed(tensor.name, row, value) for row, value in enumerate(values)]
    if field.type not in ("number", "integer") or tensor.datatype == "BYTES":
        return values
    # NaN is how binary data says missing.
    return [None if value != value else value for value in values]


def _listed(name: str, row: int, value: str | None) -> Any:
    """A list of categories from its JSON text; what stands in it is judged with the row."""
    if value is None:
        return None
    try:
        members = from_json(value)
    except ValueError:
        members = None
    if not isinstance(members, list):
        raise _wrong(f"{name}.data.{row}", f"is {shown(value)}", 'a JSON array of texts, such as ["red", "blue"]')
    return members


def text_of(value: Any) -> Any:
    """A value as it stands in a tensor: a list is JSON text."""
    return to_json(value).decode() if isinstance(value, list | tuple) else value


def matrix_of(tensor: Tensor, schema: ModelSchema, max_rows: int) -> Matrix:
    """The single matrix of encoded values, checked against the schema's bounds; raises Problem."""
    fields = schema.fields
    if several := [field.name for field in fields if field.type not in PLAIN]:
        raise _wrong(tensor.name, f"cannot hold {', '.join(several)}", "one tensor for each field")
    if len(tensor.shape) != 2 or tensor.shape[1] != len(fields):
        raise _wrong(tensor.name, f"has the shape {list(tensor.shape)}", f"(rows, {len(fields)})")
    if not 1 <= tensor.shape[0] <= max_rows:
        raise _wrong(tensor.name, f"has {tensor.shape[0]} rows", f"1 to {max_rows} rows")
    if tensor.datatype == "BYTES":
        raise _wrong(tensor.name, "holds text", "numbers")
    wide = np.array(tensor.values, dtype=np.float64).reshape(tensor.shape)
    low, high = np.array([bounds(field) for field in fields]).T
    fractions = np.array([field.type == "number" for field in fields])
    # Nearly always there is no fault, and all columns at once say so in a tenth of the time.
    if not ((wide >= low) & (wide <= high) & (fractions | (wide == np.floor(wide)))).all():
        _judge_columns(tensor.name, fields, wide)
    return wide.astype(np.float32)


def _judge_columns(name: str, fields: Sequence[SchemaField], wide: npt.NDArray[np.float64]) -> None:
    for index, field in enumerate(fields):
        # A category's code is not known where training did not see the value.
        required = field.required and field.type != "category"
        if fault := fault_of(field, wide[:, index], required=required):
            low, high = bounds(field)
            raise _wrong(f"{name}.{field.name}", fault.message, f"a value from {low:g} to {high:g}")


def _wrong(name: str, message: str, expected: str) -> Problem:
    return invalid([FieldError(name, message, expected)])
