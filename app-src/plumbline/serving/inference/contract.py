"""The request model of one served model, built from its schema.json: strict types, bounds and unknown fields refused.

These types are the contract: what they reject is turned into the problem that names the field (`serving.errors`), and
their JSON schemas become the OpenAPI document. `reader` beside this file reads what is plainly right without them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Annotated, Any, NotRequired

from pydantic import (
    AfterValidator,
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
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema, from_json

# pydantic asks for this one on Python 3.11, where typing's own keeps no record of NotRequired.
from typing_extensions import TypedDict

from plumbline.core.encoding import LONGEST_MOMENT, MOMENT_PATTERN
from plumbline.core.schema import ModelSchema, SchemaField
from plumbline.core.values import MAX_TEXT, TEXT_PATTERN, bounds, expected, fits
from plumbline.serving.errors import MAX_ERRORS, FieldError, field_errors, from_pydantic, invalid, not_json
from plumbline.serving.inference.reader import ABSENT, Batch, Reader, Values

Row = dict[str, Any]
_BYTES_A_NUMBER = 400
"""More than a number, its name's quotes and an indented line need."""
_BYTES_A_CHARACTER = 12
"""Of one that is escaped as two surrogates."""


_Category = Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=TEXT_PATTERN)]


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
        self._gaps = tuple(ABSENT if name in schema.viewed else None for name in self.columns)
        some: Any = Annotated[list[Any], Field(min_length=1, max_length=max_rows)]
        self._some = TypeAdapter(some).validator.validate_python
        self._row = TypeAdapter(features).validator.validate_python
        self._single = _judge_of("Single", features=Any)
        self._rows = _judge_of("Rows", rows=some)
        self._matrix = _judge_of("Matrix", columns=Any, data=some)
        # Callers choose the order of columns, so that a validator of a row is put together from what is made once.
        self._cells = {field.name: TypeAdapter(_optional(field)).core_schema for field in schema.fields}
        self._array = lru_cache(maxsize=32)(self._array_validator)
        names, texts = sum(map(len, self.columns)), sum(map(_longest, schema.fields))
        self.row_bytes = (names + texts) * _BYTES_A_CHARACTER + (len(schema.fields) + 2) * _BYTES_A_NUMBER
        """As many as a body of one row can need."""

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
            features = self._single(_few(_document(body), ("features",)))["features"]
        except ValidationError as error:
            raise from_pydantic(error) from error
        try:
            return self._values(self._row(_few(features, self.columns)))
        except ValidationError as error:
            raise invalid(field_errors(error, "features")) from error

    def judged_batch(self, body: bytes) -> list[Values]:
        """The same, by pydantic alone."""
        document = _document(body)
        if isinstance(document, dict) and "rows" not in document and {"columns", "data"} & document.keys():
            return self._any_matrix(document)
        try:
            rows = self._rows(_few(document, ("rows",)))["rows"]
        except ValidationError as error:
            raise from_pydantic(error) from error
        return self._named(rows, "rows")

    def rows(self, rows: list[Row]) -> list[Values]:
        """The same checks for rows that did not come as JSON; raises Problem."""
        try:
            return self._named(self._some(rows))
        except ValidationError as error:
            raise from_pydantic(error) from error

    def _named(self, rows: list[Any], *place: str) -> list[Values]:
        return [self._values(row) for row in _each(lambda row: self._row(_few(row, self.columns)), rows, *place)]

    def _values(self, row: Row) -> Values:
        return tuple(map(row.get, self.columns, self._gaps))

    def _any_matrix(self, document: Row) -> list[Values]:
        """The rows of a matrix with columns in any order."""
        columns = document.get("columns")
        expected = f"an array of the model's fields: {', '.join(self.columns)}"
        if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
            raise invalid([FieldError("columns", "is not an array of names", expected)])
        unknown = (name for name in columns if name not in self.columns)
        wrong = [FieldError(f"columns.{name}", "is not known", expected) for name in islice(unknown, MAX_ERRORS)]
        missing = {field.name for field in self.schema.fields if field.required} - set(columns)
        wrong += [FieldError(f"columns.{name}", "is missing", expected) for name in sorted(missing)]
        if len(set(columns)) != len(columns):
            wrong.append(FieldError("columns", "names a field twice", expected))
        if wrong:
            raise invalid(wrong)
        try:
            data = self._matrix(_few(document, ("columns", "data")))["data"]
        except ValidationError as error:
            raise from_pydantic(error) from error
        rows = _each(self._array(tuple(columns)), data, "data")
        return [self._values(dict(zip(columns, row, strict=True))) for row in rows]

    def _array_validator(self, columns: tuple[str, ...]) -> Callable[[Any], Any]:
        """Of a row that is an array with one value for each of `columns`."""
        # A strict tuple would refuse the lists that JSON has; what stands in it stays strict.
        row = core_schema.tuple_schema([self._cells[name] for name in columns], strict=False)
        return SchemaValidator(row, core_schema.CoreConfig(strict=True)).validate_python

    def matrix_schema(self) -> dict[str, Any]:
        """The JSON schema of the matrix form, for OpenAPI."""
        kinds = ["number", "string", "null"]
        kinds += ["boolean"] * any(field.type == "boolean" for field in self.schema.fields)
        kinds += ["array"] * any(field.type == "categories" for field in self.schema.fields)
        row = {"type": "array", "minItems": 1, "items": {"type": kinds}}
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


def _document(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError as error:
        raise not_json(body, str(error)) from error


def _few(value: Any, names: Sequence[str]) -> Any:
    """An object with no more unknown names than an answer lists: each would cost an error."""
    if not isinstance(value, dict) or len(value) <= len(names) + MAX_ERRORS:
        return value
    unknown = (name for name in value if name not in names)
    return {name: value[name] for name in (*names, *islice(unknown, MAX_ERRORS)) if name in value}


def _each(validate: Callable[[Any], Any], rows: list[Any], *place: str) -> list[Any]:
    """Every row as `validate` has it; stops where there are as many errors as an answer lists."""
    valid, wrong = [], []
    for index, row in enumerate(rows):
        try:
            valid.append(validate(row))
        except ValidationError as error:
            wrong += field_errors(error, *place, index)
            if len(wrong) >= MAX_ERRORS:
                break
    if wrong:
        raise invalid(wrong)
    return valid


def _judge_of(name: str, **annotations: Any) -> Callable[[Any], Any]:
    return TypeAdapter(_wrapped(name, **annotations)).validator.validate_python


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
        return Annotated[_Category, Field(**described)]
    if field.type == "boolean":
        return Annotated[bool, Field(**described)]
    if field.type == "categories":
        return Annotated[list[_Category], Field(max_length=field.most, **described)]
    if field.type == "text":
        return Annotated[str, Field(max_length=field.most, pattern=TEXT_PATTERN, **described)]
    if field.type == "timestamp":
        shown = {"type": "string", "format": "date-time", "pattern": MOMENT_PATTERN, **described}
        return Annotated[str, AfterValidator(_moment(field)), WithJsonSchema(shown)]
    low, high = bounds(field)
    if field.type == "integer":
        shown = {"type": "integer", "minimum": int(low), "maximum": int(high), **described}
        return Annotated[int, _Integral(int(low), int(high)), WithJsonSchema(shown)]
    return Annotated[float, Field(ge=low, le=high, allow_inf_nan=False, **described)]


def _moment(field: SchemaField) -> Callable[[str], str]:
    def judge(text: str) -> str:
        if not fits(field, text):
            raise PydanticCustomError("expected", "{expected}", {"expected": expected(field)})
        return text

    return judge


def _longest(field: SchemaField) -> int:
    """How many characters a body may need for its text."""
    if field.type == "categories":
        return field.most * (MAX_TEXT + 4)  # quotes, a comma, a line's indentation
    return {"category": MAX_TEXT, "text": field.most, "timestamp": LONGEST_MOMENT}.get(field.type, 0)


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
