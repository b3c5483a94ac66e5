"""Refusals as RFC 9457 problem details: what was wrong, with which field, and what was expected."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

MEDIA_TYPE = b"application/problem+json"
MAX_ERRORS = 20
"""As many as an answer names; a body is not read further for more."""
_MAX_SHOWN = 120


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
    excuse: str = ""
    """Why no release is at fault for a 5xx: `load`, more than the server carries, or `store`, which is away."""

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


class HungUp(Exception):
    """Whoever asked is gone: what waits for the model is not run, and nobody is answered."""


def overloaded(what: str, seconds: float = 1, **headers: str) -> Problem:
    """503 for what more of would cost the callers who are served already; it may be tried after so long."""
    return Problem(503, what, headers={"retry-after": str(max(1, math.ceil(seconds)))} | headers, excuse="load")


def invalid(errors: Sequence[FieldError]) -> Problem:
    """422 for values that are not what the model's schema asks for."""
    shown = [FieldError(_cut(item.field), _cut(item.message), item.expected) for item in errors[:MAX_ERRORS]]
    first = shown[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(422, f"{first.field}: {first.message}, expected {first.expected}{more}", shown)


def not_json(body: bytes, reason: str) -> Problem:
    """400 for text that is not JSON."""
    if body[:3] == b"\xef\xbb\xbf":
        reason = "begins with a byte order mark"
    return Problem(400, f"the body is not JSON: {reason}", [FieldError("body", reason, "a JSON document")])


def from_pydantic(error: ValidationError) -> Problem:
    """Turn pydantic's findings into a 400 for text that is not JSON, else a 422 that names each field."""
    items = error.errors(include_url=False, include_context=True)
    if items[0]["type"] == "json_invalid":
        return not_json(items[0]["input"], str(items[0]["ctx"]["error"]))
    return invalid([_field_error(item, ()) for item in items])


def field_errors(error: ValidationError, *place: str | int) -> list[FieldError]:
    """Pydantic's findings in a value that stands at `place` of the body."""
    return [_field_error(item, place) for item in error.errors(include_url=False)]


_EXPECTED = {
    "missing": "a value",
    "extra_forbidden": "only the fields of the model",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer",
    "int_from_float": "an integer",
    "bool_type": "true or false",
    "string_type": "a string",
    "string_unicode": "a string of Unicode characters",
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
    "expected": ("expected", "{}"),
    "string_pattern_mismatch": ("pattern", "a string that matches {}"),
}


def _field_error(item: Any, place: tuple[str | int, ...]) -> FieldError:
    kind, context = item["type"], item.get("ctx", {})
    name = ".".join(map(str, (*place, *item["loc"]))) or "body"
    if kind in _LIMITS:
        key, text = _LIMITS[kind]
        expected = text.format(context[key])
    else:
        expected = _EXPECTED.get(kind, "a value as /openapi.json describes it")
    return FieldError(name, _MESSAGES.get(kind) or f"is {shown(item['input'])}", expected)


def shown(value: Any) -> str:
    """A value of a body in a few words, at a cost that does not grow with it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list | tuple):
        return f"an {'object' if isinstance(value, dict) else 'array'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 128:  # its text would take long, or be refused by Python
        return "an integer of more than 38 digits"
    text = repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "…"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
