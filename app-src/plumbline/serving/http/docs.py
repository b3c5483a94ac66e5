"""The page /docs: the OpenAPI document to read, with a call of each route to copy. It needs no script, hence no CDN."""

from html import escape
from typing import Any

from pydantic_core import to_json

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
"""No page of this server runs anything, whatever text of a model it shows."""
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#f4f4f4;padding:.7rem;overflow:auto}summary{cursor:pointer}"
)


def page(document: dict[str, Any]) -> str:
    """The HTML of an OpenAPI document."""
    title = escape(document["info"]["title"])
    operations = [
        _operation(path, method.upper(), operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    schemas = [_folded(name, schema) for name, schema in document["components"]["schemas"].items()]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(document['info']['description'])} "
        f'<a href="openapi.json">openapi.json</a> is the same for programs.</p>'
        f"<h2>Routes</h2>{''.join(operations)}<h2>Schemas</h2>{''.join(schemas)}</html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    text = operation.get("description") or operation.get("summary", "")
    parts = [f"<h3><code>{method} {escape(path)}</code></h3><p>{escape(text)}</p>"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    parts += [_folded(f"body: {name}", example["value"]) for name, example in body.get("examples", {}).items()]
    answers = [
        f"<li>{escape(status)}: {escape(answer['description'])}</li>"
        for status, answer in operation["responses"].items()
    ]
    return f"{''.join(parts)}<ul>{''.join(answers)}</ul>"


def _folded(name: str, value: Any) -> str:
    shown = escape(to_json(value, indent=2).decode())
    return f"<details><summary>{escape(name)}</summary><pre>{shown}</pre></details>"
