"""The application: FastAPI with its documents, the hot routes as plain ASGI endpoints on it, the edge around it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from plumbline.serving.errors import Problem
from plumbline.serving.http.asgi import CONTEXT, Endpoint
from plumbline.serving.http.docs import PAGE_HEADERS, page
from plumbline.serving.http.edge import Edge
from plumbline.serving.http.keys import Keyring
from plumbline.serving.http.openapi import add_hot_routes
from plumbline.serving.http.v1 import Feedback, Predict, PredictBatch
from plumbline.serving.http.v2 import Infer, metadata, served
from plumbline.serving.inference.engine import Engine
from plumbline.serving.server import Server

DESCRIPTION = "Predictions of one model, typed by its own schema. Errors are RFC 9457 problem details."
API_VERSION = "1.0.0"


def create_app(server: Server, keyring: Keyring | None) -> Edge:
    """Put the routes around a server."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.start()
        yield
        await server.stop()

    app = FastAPI(
        title="plumbline model server",
        version=API_VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        # Who has no key learns nothing of a model here; the port beside this one has the document too (beside.py).
        openapi_url="/openapi.json" if keyring is None else None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _as_problem},
    )
    # The edge calls the hot ones without FastAPI's layers; as routes they also give 405 and their paths.
    hot: dict[str, Endpoint] = {
        "/v1/predict": Predict(server),
        "/v1/predict/batch": PredictBatch(server),
        "/v1/feedback": Feedback(server),
    }
    infer = Infer(server)
    paths = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
    app.router.routes[:0] = [Route(path, endpoint, methods=["POST"]) for path, endpoint in hot.items()]
    app.router.routes[:0] = [Route(path, infer, methods=["POST"]) for path in paths]
    _add_health(app, server)
    _add_models(app, server)

    documents: dict[Engine | None, dict[str, Any]] = {}

    def openapi() -> dict[str, Any]:
        engine = server.engine
        if engine not in documents:
            app.openapi_schema = None  # FastAPI keeps its own
            documents[engine] = add_hot_routes(FastAPI.openapi(app), engine, keys=keyring is not None)
        return documents[engine]

    app.openapi = openapi  # type: ignore[method-assign]

    if keyring is None:

        @app.get("/docs", include_in_schema=False)
        async def docs() -> Response:
            return Response(page(openapi()), media_type="text/html", headers=PAGE_HEADERS)

    # Without Starlette's outermost layer, which answers a failure in plain text before the edge gets to see it.
    app.middleware_stack = app.build_middleware_stack().app  # type: ignore[attr-defined]
    edge = Edge(app, hot, server, keyring)
    edge.document = openapi
    return edge


async def _as_problem(_: Request, error: Exception) -> Response:
    """Starlette's own refusals (404, 405), for the edge to answer as all others."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    raise Problem(error.status_code, str(error.detail), headers=headers)


def _add_health(app: FastAPI, server: Server) -> None:
    def require_ready() -> None:
        if server.draining:
            raise Problem(503, "the server is draining", headers={"retry-after": "1"})
        server.serving()

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """The process answers; 200 also while the model can't be served."""
        return {"status": "live"}

    @app.get("/health/ready", tags=["health"])
    @app.get("/health", tags=["health"])
    async def ready() -> dict[str, str]:
        """Traffic may come; else 503 with the reason."""
        require_ready()
        return {"status": "ready"}

    @app.get("/v2/health/live", tags=["open inference protocol"])
    async def v2_live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", tags=["open inference protocol"])
    async def v2_ready() -> dict[str, bool]:
        require_ready()
        return {"ready": True}


def _schema(engine: Engine, *, whole: bool) -> dict[str, Any]:
    """The model's schema; categories are counted unless `whole`, for their values may be of persons or devices."""
    document = engine.schema.model_dump(mode="json")
    for field in () if whole else document["fields"]:
        vocabulary = field.pop("vocabulary")
        if field["type"] in ("category", "categories"):
            field["categories"] = len(vocabulary)
    return document


def _add_models(app: FastAPI, server: Server) -> None:
    @app.get("/v1/models", tags=["predictions"])
    async def models(request: Request) -> dict[str, Any]:
        """What is served: the release, the schema, and how the server decided to run it.

        Of a category it says how many values are known; which, to keys with the role `vocabulary`.
        """
        engine = server.serving()
        caller = request.scope[CONTEXT].caller
        spec = engine.release.spec
        return {
            "models": [
                {
                    "model": engine.release.model,
                    "version": spec.version,
                    "role": server.settings.role,
                    "digest": spec.artifact.digest,
                    "registry_version": spec.lineage.registryVersion,
                    "run": spec.lineage.run,
                    "threshold": engine.answers.threshold if engine.schema.output.task == "binary" else None,
                    "schema": _schema(engine, whole=caller is None or "vocabulary" in caller.roles),
                    "runtime": engine.describe(),
                }
            ]
        }

    tags: list[Any] = ["open inference protocol"]

    @app.get("/v2", tags=tags)
    async def v2() -> dict[str, Any]:
        return {"name": "plumbline", "version": API_VERSION, "extensions": ["binary_tensor_data"]}

    not_here: dict[int | str, dict[str, Any]] = {404: {"description": "Another model or version is served here"}}

    @app.get("/v2/models/{model}", tags=tags, responses=not_here)
    async def v2_model(model: str) -> dict[str, Any]:
        return metadata(served(server, model))

    @app.get("/v2/models/{model}/versions/{version}", tags=tags, responses=not_here)
    async def v2_model_version(model: str, version: str) -> dict[str, Any]:
        return metadata(served(server, model, version))

    @app.get("/v2/models/{model}/ready", tags=tags, responses=not_here)
    async def v2_model_ready(model: str) -> dict[str, Any]:
        return {"name": served(server, model).release.model, "ready": server.ready}

    @app.get("/v2/models/{model}/versions/{version}/ready", tags=tags, responses=not_here)
    async def v2_model_version_ready(model: str, version: str) -> dict[str, Any]:
        return {"name": served(server, model, version).release.model, "ready": server.ready}
