"""The /v1 routes that take a body: plain ASGI endpoints. They translate; the engine predicts."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import to_json

from plumbline.core import ids
from plumbline.core.feedback import LARGEST
from plumbline.core.logs import timestamp
from plumbline.core.schema import Output
from plumbline.serving.errors import FieldError, Problem, from_pydantic
from plumbline.serving.events import append_feedback
from plumbline.serving.http.asgi import CONTEXT, Context, Receive, Scope, Send, answer, read_body, require_json, respond
from plumbline.serving.inference.contract import Contract
from plumbline.serving.inference.engine import Engine
from plumbline.serving.inference.reader import Batch, Values
from plumbline.serving.inference.views import Missing
from plumbline.serving.redis_link import Bypass
from plumbline.serving.server import Server

_LARGE = 64 * 1024
_FEEDBACK_BYTES = 16 * 1024


class Predict:
    """POST /v1/predict: one row."""

    def __init__(self, server: Server) -> None:
        self._server, self._limit = server, server.settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one row."""
        context = scope[CONTEXT]
        require_json(context)
        server = self._server
        engine = server.serving()
        body = await read_body(context, receive, min(self._limit, engine.contract.row_bytes))
        rows, missing = await engine.fill(Batch([engine.contract.one(body)]))
        output = await engine.predict_one(rows[0])
        prediction = engine.answers.render(output)
        event_id = context.prediction_id()
        gaps = _said(list(engine.views.said(missing))) if missing else ""
        text = f'{engine.head}"prediction_id":"{event_id}",{gaps}"prediction":{prediction}}}'
        await answer(context, send, text.encode())
        server.record(context, event_id, rows, prediction.encode(), missing)


class PredictBatch:
    """POST /v1/predict/batch: rows by name, or a matrix with the names once."""

    def __init__(self, server: Server) -> None:
        self._server, self._limit = server, server.settings.max_body_bytes
        # One large body at a time: read, it takes thirty times its size, and several more than a pod has.
        self._judge = ThreadPoolExecutor(1, thread_name_prefix="judge")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a batch; predictions stand in the order of the rows."""
        context = scope[CONTEXT]
        require_json(context)
        body = await read_body(context, receive, self._limit)
        server = self._server
        engine = server.serving()
        batch = engine.contract.reader.batch(body) or Batch(await self._judged(engine.contract, body))
        rows, missing = await engine.fill(batch)
        outputs = await engine.predict_rows(rows)
        predictions = engine.answers.render_all(outputs)
        event_id = context.prediction_id()
        gaps = _said(engine.views.said(missing)) if missing else ""
        head = f'{engine.head}"prediction_id":"{event_id}",{gaps}"predictions":['.encode()
        await answer(context, send, b"%b%b]}" % (head, predictions))
        server.record(context, event_id, rows, predictions, missing, batch.text if rows is batch.rows else None)

    async def _judged(self, contract: Contract, body: bytes) -> list[Values]:
        """The rows of a body that the quick reader leaves; a large one is judged beside the event loop."""
        if len(body) < _LARGE:
            return contract.judged_batch(body)
        return await asyncio.get_running_loop().run_in_executor(self._judge, contract.judged_batch, body)


def _said(missing: Missing | list[str]) -> str:
    """The member of an answer that names its missing views; empty where it names none."""
    return f'"missing_views":{to_json(missing).decode()},' if missing else ""


class Feedback:
    """POST /v1/feedback: what turned out to be true of a prediction."""

    def __init__(self, server: Server) -> None:
        self._server, self._limit = server, server.settings.max_body_bytes
        self._validators: dict[int, TypeAdapter[BaseModel]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept feedback once Redis has it; 503 where it does not, so that the caller keeps it."""
        context = scope[CONTEXT]
        require_json(context)
        body = await read_body(context, receive, min(self._limit, _FEEDBACK_BYTES))
        engine = self._server.serving()
        try:
            given = self._validator(engine).validate_json(body).model_dump()
        except ValidationError as error:
            raise from_pydantic(error) from error
        _require_own(context, given["prediction_id"])
        link = self._server.link
        if link is None:
            raise Problem(503, "this server has no feedback store; SERVING_REDIS_URL is not set")
        event = given | {"at": timestamp(), "model": engine.release.model, "keyholder": context.keyholder}
        try:
            await append_feedback(link, to_json(event), self._server.settings.stream_maxlen)
        except Bypass as error:
            detail = "the feedback was not stored: Redis does not answer; send it again"
            raise Problem(503, detail, headers={"retry-after": "5"}, excuse="store") from error
        await respond(send, to_json({"status": "accepted", "prediction_id": event["prediction_id"]}), 202)

    def _validator(self, engine: Engine) -> TypeAdapter[BaseModel]:
        if id(engine) not in self._validators:
            self._validators[id(engine)] = TypeAdapter(feedback_body(engine.schema.output))
        return self._validators[id(engine)]


def _require_own(context: Context, prediction_id: str) -> None:
    """Raise Problem 403 for feedback on a prediction that another key asked for."""
    caller = context.caller
    if caller is not None and "feedback" not in caller.roles and not caller.asked_for(prediction_id):
        expected = "the id of an answer to this key; a key with the role feedback may name any"
        message = "is not of an answer to this key"
        raise Problem(
            403, f"prediction_id: {message}; expected {expected}", [FieldError("prediction_id", message, expected)]
        )


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def feedback_body(output: Output) -> type[BaseModel]:
    """The body of feedback: the truth is one of the model's labels, or a number."""
    finite: Any = Annotated[float, Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST)]
    truth: Any = Literal[output.labels] if output.labels else finite
    named = Annotated[
        str,
        Field(
            pattern=ids.PREDICTION_PATTERN,
            description="of an answer; row i of a batch is <prediction_id>:<i>",
            examples=[ids.prediction_id(1_700_000_000_000)],
        ),
    ]
    worth: Any = Annotated[finite | None, Field(description="what it was worth to the business")]
    described = f"what turned out to be true: {output.description}"
    return create_model(
        "FeedbackRequest",
        __base__=_Strict,
        prediction_id=(named, ...),
        truth=(Annotated[truth, Field(description=described)], ...),
        value=(worth, None),
    )
