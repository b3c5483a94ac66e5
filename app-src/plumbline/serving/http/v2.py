"""The Open Inference Protocol, REST, version 2, with its binary tensor data extension.

A model takes one tensor for each field of its schema, or the single matrix `features` (rows, fields) of encoded
values, where each field is one column: numbers as they are, true as 1, categories as the codes of schema.json, NaN
(binary only) for what is missing.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from plumbline.core.onnx import INPUT
from plumbline.core.schema import Matrix, ModelSchema, SchemaField
from plumbline.serving.errors import FieldError, Problem, from_pydantic, invalid, shown
from plumbline.serving.http.asgi import CONTEXT, INFER, Context, Receive, Scope, Send, read_body, require_json
from plumbline.serving.http.tensors import Tensor, decode, encode_bytes, from_base64, matrix_of, row_values
from plumbline.serving.inference.engine import Engine
from plumbline.serving.inference.reader import Batch, Values
from plumbline.serving.inference.views import NONE, Missing
from plumbline.serving.server import Server

_MAX_DIGITS = 20
"""Python turns no more than 4,300 into a number, and says so by a ValueError."""
_SHOWN = 100
HEADER = b"inference-header-content-length"
DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL"}
"""By a field's type; all others are text in BYTES, a list of categories as JSON."""


class _Loose(BaseModel):
    """Clients may send what the protocol names and this server has no use for."""

    model_config = ConfigDict(extra="ignore", strict=True)


class InferInput(_Loose):
    """One tensor of a request; `data` is absent where it follows in binary."""

    name: str
    shape: Annotated[list[int], FailFast()]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferOutput(_Loose):
    """One output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(_Loose):
    """The JSON part of an inference request."""

    inputs: Annotated[list[InferInput], FailFast()]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: Annotated[list[InferOutput], Field(max_length=16)] | None = None


_REQUEST = TypeAdapter(InferRequest)


class Infer:
    """POST /v2/models/{model}[/versions/{version}]/infer."""

    path = INFER

    def __init__(self, server: Server) -> None:
        self._server, self._limit = server, server.settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one inference request, in JSON or in binary as asked."""
        context: Context = scope[CONTEXT]
        binary = HEADER in context.headers
        if not binary and b"content-type" in context.headers:  # the protocol's clients need not send one
            require_json(context)
        body = await read_body(context, receive, self._limit)
        engine = served(self._server, **scope["path_params"])
        most, fields = self._server.settings.max_batch_rows, len(engine.schema.fields)
        request, tensors = _read(body, context.headers.get(HEADER), most, fields)
        asked = _asked(engine, request)
        rows, outputs, missing = await _predict(engine, tensors, most)
        predictions = engine.answers.render_all(outputs)
        event_id = context.prediction_id()
        parameters = {"prediction_id": event_id}
        if missing_views := engine.views.said(missing):  # a parameter is a text, a number or a truth value
            parameters["missing_views"] = to_json(missing_views).decode()
        head, answer = _answer(engine, request, asked, outputs, parameters)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        if head is not None:
            headers[0] = (b"content-type", b"application/octet-stream")
            headers.append((HEADER, b"%d" % head))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        self._server.record(context, event_id, rows, predictions, missing)


def served(server: Server, model: str, version: str | None = None) -> Engine:
    """The engine if it is of this name and version; raises Problem 404, or 503 while it is not ready."""
    engine = server.serving()
    if model != engine.release.model:
        raise Problem(404, f"the model {model[:_SHOWN]!r} is not served here; {engine.release.model} is")
    if version is not None and version != engine.release.spec.version:
        raise Problem(404, f"{model} {version[:_SHOWN]!r} is not served here; {engine.release.spec.version} is")
    return engine


def datatype(field: SchemaField) -> str:
    """Of the tensor that a field is sent in."""
    return DATATYPES.get(field.type, "BYTES")


def metadata(engine: Engine) -> dict[str, Any]:
    """The protocol's model metadata."""
    schema = engine.schema
    return {
        "name": engine.release.model,
        "versions": [engine.release.spec.version],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": f.name, "datatype": datatype(f), "shape": [-1]} for f in schema.fields],
        "outputs": [
            {"name": name, "datatype": kind, "shape": [-1, *shape]} for name, kind, shape in _output_kinds(schema)
        ],
    }


def _output_kinds(schema: ModelSchema) -> list[tuple[str, str, list[int]]]:
    labels = schema.output.labels
    numbers = (schema.output.tensor, "FP32", [schema.output.width])
    return [("label", "BYTES", []), numbers] if labels else [numbers]


def _read(body: bytes, header: bytes | None, rows: int, fields: int) -> tuple[InferRequest, list[Tensor]]:
    """Split and validate a request of up to so many rows and fields; binary tensors follow the JSON in their order."""
    split = len(body)
    if header is not None:
        if not header.isdigit() or len(header) > _MAX_DIGITS or int(header) > len(body):
            message, expected = "is not the length of the JSON part", f"a number of bytes up to {len(body)}"
            problem = f"{HEADER.decode()} {message}; expected {expected}"
            raise Problem(400, problem, [FieldError(HEADER.decode(), message, expected)])
        split = int(header)
    try:
        request = _REQUEST.validate_json(body[:split])
    except ValidationError as error:
        raise from_pydantic(error) from error
    if len(request.inputs) > fields:
        raise invalid([FieldError("inputs", f"has {len(request.inputs)} tensors", f"one for each of {fields} fields")])
    names = {item.name for item in request.inputs}
    if len(names) != len(request.inputs):  # and so no more are read than have names of their own
        raise invalid([FieldError("inputs", "names a tensor twice", "each tensor once")])
    tensors, offset = [], split
    for item in request.inputs:
        size = (item.parameters or {}).get("binary_data_size")
        raw = None
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(body) - offset:
                field = f"{item.name}.binary_data_size"
                raise invalid([FieldError(field, f"is {shown(size)}", "the bytes of the tensor")])
            raw = body[offset : offset + size]
            offset += size
        tensor = decode(item.name, item.datatype, item.shape, item.data, raw, rows * fields)
        tensors.append(from_base64(tensor) if (item.parameters or {}).get("content_type") == "base64" else tensor)
    if offset != len(body):
        raise invalid([FieldError("body", f"has {len(body) - offset} bytes more", "the inputs' binary data alone")])
    return request, tensors


async def _predict(
    engine: Engine, tensors: list[Tensor], max_rows: int
) -> tuple[Sequence[Values] | Matrix, Matrix, Missing]:
    """The rows for the log, the outputs, and which views are missing; a matrix gives them all."""
    names = [tensor.name for tensor in tensors]
    if names == [INPUT] and INPUT not in engine.contract.columns:
        matrix = matrix_of(tensors[0], engine.schema, max_rows)
        return engine.decode(matrix), await engine.predict_matrix(matrix), NONE
    columns = {tensor.name: row_values(tensor, engine.schema) for tensor in tensors}
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise invalid([FieldError("inputs", f"have {sizes} rows", "tensors of the same number of rows")])
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    checked, missing = await engine.fill(Batch(engine.contract.rows(rows)))
    return checked, await engine.predict_rows(checked), missing


def _asked(engine: Engine, request: InferRequest) -> list[InferOutput]:
    """The outputs to answer, each once; all where none is named."""
    kinds = [name for name, _, _ in _output_kinds(engine.schema)]
    asked = request.outputs or [InferOutput(name=name) for name in kinds]
    if unknown := [item.name for item in asked if item.name not in kinds]:
        raise invalid([FieldError("outputs", f"asks for {unknown[0]!r:.60}", f"some of {', '.join(kinds)}")])
    if len({item.name for item in asked}) != len(asked):
        raise invalid([FieldError("outputs", "names an output twice", "each output once")])
    return asked


def _answer(
    engine: Engine, request: InferRequest, asked: list[InferOutput], outputs: Matrix, parameters: dict[str, str]
) -> tuple[int | None, bytes]:
    """The body, and the length of its JSON part if tensors follow it in binary."""
    kinds = {name: (kind, shape) for name, kind, shape in _output_kinds(engine.schema)}
    always = (request.parameters or {}).get("binary_data_output") is True
    described, parts = [], []
    for item in asked:
        kind, shape = kinds[item.name]
        values: list[Any] = outputs.ravel().tolist()
        if kind == "BYTES":
            labels = engine.schema.output.labels
            values = [labels[index] for index in engine.answers.label_indexes(outputs)]
        tensor: dict[str, Any] = {"name": item.name, "datatype": kind, "shape": [len(outputs), *shape]}
        if (item.parameters or {}).get("binary_data", always) is True:
            parts.append(encode_bytes(kind, values))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = values
        described.append(tensor)
    document: dict[str, Any] = {
        "model_name": engine.release.model,
        "model_version": engine.release.spec.version,
        "parameters": parameters,
        "outputs": described,
    }
    if request.id is not None:
        document["id"] = request.id
    head = to_json(document)
    return (len(head) if parts else None), head + b"".join(parts)
