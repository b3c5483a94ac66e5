"""Refusals as RFC 9457 problem details: what was wrong, with which field, and what was expected."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

MEDIA_TYPE = b"application/problem+json"
_MAX_ERRORS = 20


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong value of a request: where it stands, what is wrong with it, what was expected."""

    field: str
    message: str
    expected: str


@dataclass(slots=True)
class Problem(Exception):
    """An answer that is not a prediction; raised anywhere below the edge, which sends it."""

    status: int
    detail: str
    errors: Sequence[FieldError] = ()
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> bytes:
        """The problem+json document. `error` repeats the detail for Open Inference Protocol clients."""
        return to_json(
            {
                "type": "about:blank",
                "title": HTTPStatus(self.status).phrase,
                "status": self.status,
                "detail": self.detail,
                "errors": [{"field": e.field, "message": e.message, "expected": e.expected} for e in self.errors],
                "request_id": request_id,
                "error": self.detail,
            },
            inf_nan_mode="strings",
        )


def invalid(errors: Sequence[FieldError]) -> Problem:
    """422 for values that are not what the model's schema asks for."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(422, f"{first.field}: {first.message}, expected {first.expected}{more}", errors[:_MAX_ERRORS])


def from_pydantic(error: ValidationError) -> Problem:
    """Turn pydantic's findings into a 400 for text that is not JSON, else a 422 that names each field."""
    items = error.errors(include_url=False, include_context=True)
    if items[0]["type"] == "json_invalid":
        reason = items[0]["ctx"]["error"]
        return Problem(400, f"the body is not JSON: {reason}", [FieldError("body", str(reason), "a JSON document")])
    return invalid([_field_error(item) for item in items])


_EXPECTED = {
    "missing": "a value",
    "extra_forbidden": "only the fields of the model",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "an integer",
    "string_type": "a string",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "list_type": "an array",
    "tuple_type": "an array",
}
_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is not known",
    "finite_number": "is not finite",
    "too_short": "is too short",
    "too_long": "is too long",
    "string_too_long": "is too long",
    "string_too_short": "is too short",
}
_LIMITS = {
    "greater_than_equal": ("ge", "a value of at least {}"),
    "less_than_equal": ("le", "a value of at most {}"),
    "too_short": ("min_length", "at least {} items"),
    "too_long": ("max_length", "at most {} items"),
    "string_too_short": ("min_length", "at least {} characters"),
    "string_too_long": ("max_length", "at most {} characters"),
    "literal_error": ("expected", "{}"),
}


def _field_error(item: Any) -> FieldError:
    kind, context = item["type"], item.get("ctx", {})
    name = ".".join(map(str, item["loc"])) or "body"
    if kind in _LIMITS:
        key, text = _LIMITS[kind]
        expected = text.format(context[key])
    else:
        expected = _EXPECTED.get(kind, item["msg"])
    shown = repr(item["input"])
    message = _MESSAGES.get(kind) or f"is {shown if len(shown) <= 60 else shown[:57] + '…'}"
    return FieldError(name, message, expected)
