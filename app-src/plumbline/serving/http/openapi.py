"""The OpenAPI document of what is served: the model's own fields, bounds and examples.

The hot routes are not FastAPI's, so it knows nothing of them; their part is made here from the validators themselves.
A test holds the document against the running server.
"""

from typing import Any

from pydantic import BaseModel

from plumbline.serving.http.tensors import text_of
from plumbline.serving.http.v1 import feedback_body
from plumbline.serving.http.v2 import InferRequest, datatype
from plumbline.serving.inference.engine import Engine

Document = dict[str, Any]
_REF = "#/components/schemas/{model}"


def add_hot_routes(document: Document, engine: Engine | None, *, keys: bool) -> Document:
    """Complete FastAPI's document with the routes that take a body; the model's part stands once it is loaded."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    if keys:
        components["securitySchemes"] = {"ApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"}}
    for path, item in document["paths"].items():
        for operation in item.values():
            _add_problems(operation, keys=keys and path.startswith(("/v1/", "/v2/models")), body=False)
    if engine is None:
        return document
    hot = _hot_routes(engine, schemas)
    refused = any(view.when_missing == "refuse" for view in engine.schema.views)
    for path, operation in hot.items():
        feedback = path == "/v1/feedback"
        _add_problems(operation, keys=keys, body=True, feedback=feedback, views=refused and not feedback)
    document["paths"] |= {path: {"post": operation} for path, operation in hot.items()}
    return document


def _hot_routes(engine: Engine, schemas: Document) -> Document:
    contract, output = engine.contract, engine.schema.output
    for kind in (contract.single_body, contract.rows_body, feedback_body(output), InferRequest):
        _add(schemas, kind)
    schemas["MatrixRequest"] = contract.matrix_schema()
    schemas["Prediction"] = prediction_schema(engine)
    views = [view.name for view in engine.schema.views if view.when_missing == "answer-and-say"]
    missing_views: Document = {
        "type": "array",
        "items": {"enum": views},
        "description": "the views that the answer is without",
    }
    schemas["Predicted"] = _answer_schema("prediction", {"$ref": _ref("Prediction")}, missing_views if views else None)
    many = {"type": "array", "minItems": 1, "items": {"$ref": _ref("Prediction")}}
    rows: Document = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
    missing_views = {
        "type": "object",
        "properties": dict.fromkeys(views, rows),
        "additionalProperties": False,
        "description": "the views that answers are without, and the rows",
    }
    schemas["PredictedBatch"] = _answer_schema("predictions", many, missing_views if views else None)
    schemas["InferResponse"] = _INFER_RESPONSE
    schemas["Accepted"] = {
        "type": "object",
        "required": ["status", "prediction_id"],
        "properties": {"status": {"const": "accepted"}, "prediction_id": {"type": "string"}},
    }
    row = engine.schema.example()
    matrix = {"columns": list(row), "data": [list(row.values()), list(row.values())]}
    batch = {"oneOf": [{"$ref": _ref("RowsRequest")}, {"$ref": _ref("MatrixRequest")}]}
    infer = {"inputs": _infer_inputs(engine)}
    truth = output.labels[-1] if output.labels else 1.5
    feedback = {"prediction_id": "018bcfe5-6800-7000-8000-000000000000", "truth": truth}
    model, version = engine.release.model, engine.release.spec.version
    examples = {"rows": {"value": {"rows": [row, row]}}, "matrix": {"value": matrix}}
    infer_ref = {"$ref": _ref("InferRequest")}
    return {
        "/v1/predict": _operation(
            "predict", "Predict one row", {"$ref": _ref("PredictRequest")}, _one({"features": row}), "Predicted"
        ),
        "/v1/predict/batch": _operation(
            "predict_batch", "Predict a batch, as rows or as a matrix", batch, examples, "PredictedBatch"
        ),
        "/v1/feedback": _operation(
            "feedback", "Say what turned out to be true", {"$ref": _ref("FeedbackRequest")}, _one(feedback), "Accepted"
        ),
        f"/v2/models/{model}/infer": _operation(
            "infer", "Open Inference Protocol", infer_ref, _one(infer), "InferResponse"
        ),
        f"/v2/models/{model}/versions/{version}/infer": _operation(
            "infer_version", "Open Inference Protocol", infer_ref, _one(infer), "InferResponse"
        ),
    }


def prediction_schema(engine: Engine) -> Document:
    """The JSON schema of one prediction."""
    output = engine.schema.output
    properties: Document
    if not output.labels:
        unit = f" ({output.unit})" if output.unit else ""
        properties = {"value": {"type": "number", "description": f"{output.description}{unit}"}}
    else:
        properties = {
            "label": {"enum": list(output.labels), "description": output.description},
            "probability": {"type": "number", "description": "of the label"},
            "probabilities": {
                "type": "object",
                "properties": {label: {"type": "number"} for label in output.labels},
                "required": list(output.labels),
                "additionalProperties": False,
            },
        }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _operation(name: str, summary: str, schema: Document, examples: Document, answer: str) -> Document:
    status = "202" if answer == "Accepted" else "200"
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["predictions"],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}},
        "responses": {
            status: {
                "description": "Accepted" if status == "202" else "Predicted",
                "content": {"application/json": {"schema": {"$ref": _ref(answer)}}},
            }
        },
    }


_COMMON = {"503": "Not ready, or the store does not answer; the detail says why"}
_BODY = {
    "400": "The body is not JSON",
    "413": "The body is too large",
    "415": "The body is declared to be another type than JSON, or another encoding than gzip or deflate",
    "422": "Values are not what the model's schema asks for; `errors` names each field",
}
_KEYS = {
    "401": "The API key is missing, not known or expired",
    "403": "The API key is not for this model, or names a version and has not the role tester",
    "429": "The key's rate is used up, or the address sends many requests without a known key; see Retry-After",
}
_VIEWS = {"424": "The online store has no fresh values of a view that the model does not answer without"}
_NOT_OWN = {"403": "The API key is not for this model, or another key asked for this prediction"}


def _add_problems(operation: Document, *, keys: bool, body: bool, feedback: bool = False, views: bool = False) -> None:
    problems = _COMMON | (_BODY if body else {}) | (_KEYS if keys else {}) | (_NOT_OWN if keys and feedback else {})
    problems |= _VIEWS if views else {}
    if keys:
        operation["security"] = [{"ApiKey": []}]
    for status, description in problems.items():
        operation["responses"][status] = {
            "description": description,
            "content": {"application/problem+json": {"schema": {"$ref": _ref("Problem")}}},
        }


def _add(schemas: Document, model: type[BaseModel]) -> None:
    schema = model.model_json_schema(ref_template=_REF)
    schemas |= schema.pop("$defs", {})
    schemas[model.__name__] = schema


def _answer_schema(name: str, schema: Document, missing: Document | None) -> Document:
    return {
        "type": "object",
        "required": ["model", "version", "prediction_id", name],
        "additionalProperties": False,
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "string"},
            "prediction_id": {"type": "string", "format": "uuid"},
            name: schema,
            **({"missing_views": missing} if missing is not None else {}),
        },
    }


def _infer_inputs(engine: Engine) -> list[Document]:
    return [
        {"name": field.name, "shape": [1], "datatype": datatype(field), "data": [text_of(field.example)]}
        for field in engine.schema.fields
    ]


def _one(value: Any) -> Document:
    return {"example": {"value": value}}


def _ref(name: str) -> str:
    return _REF.format(model=name)


_PROBLEM: Document = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "errors", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "error": {"type": "string", "description": "the detail again, for Open Inference Protocol clients"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message", "expected"],
                "properties": {name: {"type": "string"} for name in ("field", "message", "expected")},
            },
        },
    },
}
_INFER_RESPONSE: Document = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {
                    "name": {"type": "string"},
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "datatype": {"type": "string"},
                    "parameters": {"type": "object"},
                    "data": {"type": "array"},
                },
            },
        },
    },
}
