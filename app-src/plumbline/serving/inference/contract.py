"""The request model of one served model, built from its schema.json: strict types, bounds and unknown fields refused.

These types are the contract: what they reject is turned into the problem that names the field (`serving.errors`), and
their JSON schemas become the OpenAPI document. `reader` beside this file reads what is plainly right without them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NotRequired

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
    with_config,
)
from pydantic_core import CoreSchema, core_schema, from_json

# pydantic asks for this one on Python 3.11, where typing's own keeps no record of NotRequired.
from typing_extensions import TypedDict

from plumbline.core.schema import ModelSchema, SchemaField
from plumbline.core.values import MAX_TEXT, bounds
from plumbline.serving.errors import FieldError, from_pydantic, invalid
from plumbline.serving.inference.reader import Batch, Reader, Values

Row = dict[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Contract:
    """The validators of a model's requests."""

    def __init__(self, schema: ModelSchema, max_rows: int) -> None:
        self.schema = schema
        self.max_rows = max_rows
        self.columns = tuple(field.name for field in schema.fields)
        features = features_type(schema.fields)
        rows = Annotated[list[features], Field(min_length=1, max_length=max_rows)]  # type: ignore[valid-type]
        self.single_body: type[BaseModel] = create_model("PredictRequest", __base__=_Strict, features=(features, ...))
        self.rows_body: type[BaseModel] = create_model("RowsRequest", __base__=_Strict, rows=(rows, ...))
        self.reader = Reader(schema, max_rows)
        self._named_rows = TypeAdapter(rows).validator.validate_python
        self._single = TypeAdapter(_wrapped("Single", features=features)).validator.validate_json
        self._rows = TypeAdapter(_wrapped("Rows", rows=rows)).validator.validate_json
        self._matrix = lru_cache(maxsize=32)(self._matrix_validator)

    def one(self, body: bytes) -> Values:
        """The row of `{"features": {…}}`; raises Problem."""
        row = self.reader.one(body)
        return self.judged_one(body) if row is None else row

    def batch(self, body: bytes) -> Batch:
        """The rows of `{"rows": [{…}]}` or of `{"columns": […], "data": [[…]]}`; raises Problem."""
        batch = self.reader.batch(body)
        return Batch(self.judged_batch(body)) if batch is None else batch

    def judged_one(self, body: bytes) -> Values:
        """The same, by pydantic alone."""
        try:
            return self._values(self._single(body)["features"])
        except ValidationError as error:
            raise from_pydantic(error) from error

    def judged_batch(self, body: bytes) -> list[Values]:
        """The same, by pydantic alone."""
        if not body.lstrip()[:12].startswith(b'{"rows') and (rows := self._any_matrix(body)) is not None:
            return rows
        try:
            return list(map(self._values, self._rows(body)["rows"]))
        except ValidationError as error:
            raise from_pydantic(error) from error

    def rows(self, rows: list[Row]) -> list[Values]:
        """The same checks for rows that did not come as JSON; raises Problem."""
        try:
            return list(map(self._values, self._named_rows(rows)))
        except ValidationError as error:
            raise from_pydantic(error) from error

    def _values(self, row: Row) -> Values:
        return tuple(map(row.get, self.columns))

    def _any_matrix(self, body: bytes) -> list[Values] | None:
        """The rows of a matrix with columns in any order; None if the body is not of the matrix form."""
        try:
            document = from_json(body)
        except ValueError:
            return None
        if not isinstance(document, dict) or "rows" in document or not {"columns", "data"} & document.keys():
            return None
        columns = document.get("columns")
        expected = f"an array of the model's fields: {', '.join(self.columns)}"
        if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
            raise invalid([FieldError("columns", "is not an array of names", expected)])
        wrong = [
            FieldError(f"columns.{name}", "is not known", expected) for name in columns if name not in self.columns
        ]
        missing = {field.name for field in self.schema.fields if field.required} - set(columns)
        wrong += [FieldError(f"columns.{name}", "is missing", expected) for name in sorted(missing)]
        if len(set(columns)) != len(columns):
            wrong.append(FieldError("columns", "names a field twice", expected))
        if wrong:
            raise invalid(wrong)
        try:
            data = self._matrix(tuple(columns)).validate_python(document)["data"]
        except ValidationError as error:
            raise from_pydantic(error) from error
        return [self._values(dict(zip(columns, row, strict=True))) for row in data]

    def _matrix_validator(self, columns: tuple[str, ...]) -> Any:
        """Of rows that are arrays with one value for each of `columns`."""
        fields = {field.name: field for field in self.schema.fields}
        values: Any = tuple(_optional(fields[name]) for name in columns)
        literals: Any = tuple(Literal[name] for name in columns)
        # A strict tuple would refuse the lists that JSON has; what stands in it stays strict.
        row: Any = Annotated[tuple.__class_getitem__(values), Field(strict=False)]
        names: Any = Annotated[tuple.__class_getitem__(literals), Field(strict=False)]
        data: Any = Annotated[list[row], Field(min_length=1, max_length=self.max_rows)]
        return TypeAdapter(_wrapped("Matrix", columns=names, data=data)).validator

    def matrix_schema(self) -> dict[str, Any]:
        """The JSON schema of the matrix form, for OpenAPI."""
        row = {"type": "array", "minItems": 1, "items": {"type": ["number", "string", "null"]}}
        return {
            "type": "object",
            "title": "MatrixRequest",
            "additionalProperties": False,
            "required": ["columns", "data"],
            "properties": {
                "columns": {"type": "array", "items": {"enum": list(self.columns)}, "uniqueItems": True},
                "data": {"type": "array", "minItems": 1, "maxItems": self.max_rows, "items": row},
            },
        }


def features_type(fields: Sequence[SchemaField]) -> Any:
    """A TypedDict of these fields: required ones must stand, others may be absent or null."""
    annotations = {field.name: _value(field) if field.required else NotRequired[_optional(field)] for field in fields}
    return _wrapped("Features", **annotations)


def _wrapped(name: str, **annotations: Any) -> Any:
    kind = TypedDict(name, annotations)  # type: ignore[misc]
    return with_config(ConfigDict(extra="forbid", strict=True))(kind)


def _optional(field: SchemaField) -> Any:
    return _value(field) if field.required else _value(field) | None


def _value(field: SchemaField) -> Any:
    """The strict type of one field, with the bounds that keep it inside the model's float32 input."""
    described: dict[str, Any] = {"description": _description(field), "examples": [field.example]}
    if field.type == "category":
        return Annotated[str, Field(min_length=1, max_length=MAX_TEXT, **described)]
    low, high = bounds(field)
    if field.type == "integer":
        shown = {"type": "integer", "minimum": int(low), "maximum": int(high), **described}
        return Annotated[int, _Integral(int(low), int(high)), WithJsonSchema(shown)]
    return Annotated[float, Field(ge=low, le=high, allow_inf_nan=False, **described)]


@dataclass(frozen=True, slots=True)
class _Integral:
    """An integer as JSON Schema has it: 18 and 18.0, which many clients write, but no text and no truth value."""

    low: int
    high: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        number = core_schema.float_schema(strict=True, allow_inf_nan=False)
        return core_schema.chain_schema([number, core_schema.int_schema(strict=False, ge=self.low, le=self.high)])


def _description(field: SchemaField) -> str:
    unit = f" ({field.unit})" if field.unit else ""
    return f"{field.description}{unit}"
