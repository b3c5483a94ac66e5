"""Tensors of the Open Inference Protocol: from JSON or raw bytes to values, with errors that name the tensor."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from plumbline.core.schema import Matrix, ModelSchema
from plumbline.core.values import bounds, fault_of
from plumbline.serving.errors import FieldError, Problem, invalid

_NUMPY = {
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (32, 64)},
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
}
_EXPECTED = f"one of {', '.join([*_NUMPY, 'BYTES'])}"
_FLOATS: TypeAdapter[list[float]] = TypeAdapter(list[float])
_INTEGERS: TypeAdapter[list[int]] = TypeAdapter(list[int])
_TEXTS: TypeAdapter[list[str]] = TypeAdapter(list[str])


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named, flat tensor whose values fit its shape; integers and floats as Python's, BYTES as str."""

    name: str
    shape: tuple[int, ...]
    values: list[Any]


def decode(name: str, datatype: str, shape: Sequence[int], data: list[Any] | None, raw: bytes | None) -> Tensor:
    """Read one input from its JSON `data` (flat or nested) or its raw bytes; raises Problem."""
    if datatype not in _NUMPY and datatype != "BYTES":
        raise _wrong(name, f"has the datatype {datatype!r:.40}", _EXPECTED)
    if (data is None) == (raw is None):
        raise _wrong(name, "has no data" if data is None else "has data twice", "data, or binary_data_size")
    values = _from_json(name, datatype, data) if data is not None else _from_bytes(name, datatype, raw or b"")
    # Bounded before it is multiplied: a shape is the caller's word only.
    if any(not 0 <= size <= len(values) for size in shape) or math.prod(shape) != len(values) or not shape:
        raise _wrong(name, f"has {len(values)} values for the shape {list(shape)!r:.80}", "as many as its shape says")
    return Tensor(name, tuple(shape), values)


def _from_json(name: str, datatype: str, data: list[Any]) -> list[Any]:
    kind = _TEXTS if datatype == "BYTES" else _FLOATS if datatype.startswith("FP") else _INTEGERS
    expected = {"BYTES": "strings", "FP": "finite numbers"}.get(datatype.rstrip("0123456789"), "integers")
    try:
        values = kind.validate_python(_flat(data), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _wrong(f"{name}.data.{first['loc'][0]}", f"is {first['input']!r:.60}", expected) from error
    if kind is _FLOATS and not all(map(math.isfinite, values)):  # type: ignore[arg-type]
        raise _wrong(name, "holds a value that is not finite", "finite numbers; only binary data carries NaN")
    return list(values)


def _flat(data: list[Any]) -> list[Any]:
    """Nested lists (row-major) as one; without recursion, for a body may nest as deep as it is long."""
    while any(isinstance(item, list) for item in data):
        data = [inner for item in data for inner in (item if isinstance(item, list) else (item,))]
    return data


def _from_bytes(name: str, datatype: str, raw: bytes) -> list[Any]:
    if datatype == "BYTES":
        return _texts(name, raw)
    kind = np.dtype(_NUMPY[datatype])
    if len(raw) % kind.itemsize:
        raise _wrong(name, f"has {len(raw)} bytes", f"a multiple of {kind.itemsize}")
    values: list[Any] = np.frombuffer(raw, kind).tolist()
    return values


def _texts(name: str, raw: bytes) -> list[str]:
    """Each text follows its length, four bytes, little-endian."""
    values, offset = [], 0
    while offset < len(raw):
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
    if field.type == "category" or all(isinstance(value, str) for value in tensor.values):
        return tensor.values
    # NaN is how binary data says missing.
    return [None if value != value else value for value in tensor.values]


def matrix_of(tensor: Tensor, schema: ModelSchema, max_rows: int) -> Matrix:
    """The single matrix of encoded values, checked against the schema's bounds; raises Problem."""
    fields = schema.fields
    if len(tensor.shape) != 2 or tensor.shape[1] != len(fields):
        raise _wrong(tensor.name, f"has the shape {list(tensor.shape)}", f"(rows, {len(fields)})")
    if not 1 <= tensor.shape[0] <= max_rows:
        raise _wrong(tensor.name, f"has {tensor.shape[0]} rows", f"1 to {max_rows} rows")
    if any(isinstance(value, str) for value in tensor.values[:1]):
        raise _wrong(tensor.name, "holds text", "numbers")
    wide = np.array(tensor.values, dtype=np.float64).reshape(tensor.shape)
    for index, field in enumerate(fields):
        # A category's code is not known where training did not see the value.
        required = field.required and field.type != "category"
        if fault := fault_of(field, wide[:, index], required=required):
            low, high = bounds(field)
            raise _wrong(f"{tensor.name}.{field.name}", fault.message, f"a value from {low:g} to {high:g}")
    return wide.astype(np.float32)


def _wrong(name: str, message: str, expected: str) -> Problem:
    return invalid([FieldError(name, message, expected)])
