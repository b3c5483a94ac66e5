"""Three small signed models, made once, and the application around them in this process."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from connections import LIMITS, Say
from prometheus_client import generate_latest
from uvicorn.loops.uvloop import uvloop_loop_factory
from uvicorn.server import ServerState

from bundles import Bundle, Keys, make_bundle, make_keys
from plumbline.serving.http.app import create_app
from plumbline.serving.http.keys import Keyring
from plumbline.serving.http.wire import protocol_within
from plumbline.serving.logs import LogBuffer
from plumbline.serving.metrics import Metrics
from plumbline.serving.server import Server
from plumbline.serving.settings import Settings

Use = Callable[[httpx.AsyncClient, Server], Awaitable[Any]]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return _Bundles(lambda kind: make_bundle(folder / kind, keys, kind))


class _Bundles(dict[str, Bundle]):
    """Each is made when it is first asked for."""

    def __init__(self, make: Callable[[Any], Bundle]) -> None:
        self.make = make

    def __missing__(self, kind: str) -> Bundle:
        self[kind] = self.make(kind)
        return self[kind]


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[..., Settings]:
    """Settings that serve a bundle, with its release written into the test's own folder."""

    def make(bundle: Bundle, **more: Any) -> Settings:
        release = bundle.release(tmp_path / "release.yaml")
        values: dict[str, Any] = {
            "release": release,
            "public_key": bundle.keys.public,
            "cache_dir": tmp_path / "cache",
            "access_log": False,
        }
        return Settings(**values | more)

    return make


@pytest.fixture
def serve(settings_of: Callable[..., Settings]) -> Callable[..., Any]:
    """Run an async function with an HTTP client of a server that is ready, or that has failed to become so."""

    def run(bundle: Bundle, use: Use, keyring: Keyring | None = None, **more: Any) -> Any:
        async def main() -> Any:
            async with started(settings_of(bundle, **more), keyring) as (client, server):
                return await use(client, server)

        return asyncio.run(main())

    return run


@asynccontextmanager
async def started(settings: Settings, keyring: Keyring | None = None) -> Any:
    server = Server(settings, Metrics(), LogBuffer())
    app = create_app(server, keyring)
    server.start()
    for _ in range(3000):
        if server.engine is not None or server.reason != "the model is being loaded":
            break
        await asyncio.sleep(0.01)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client, server
    await server.stop()


@pytest.fixture
def connect(settings_of, bundles):
    """Run callers against a listening server, with its limits; the server comes back too."""

    def run(
        *say: Say,
        seconds: float = 0,
        prepare: Callable[[Server], Any] | None = None,
        kind: Any = "binary",
        **limits: Any,
    ) -> tuple[list[Any], Server, str]:
        async def main() -> tuple[list[Any], Server, str]:
            settings = settings_of(bundles[kind], **LIMITS | limits)
            server = Server(settings, Metrics(), LogBuffer())
            config = uvicorn.Config(create_app(server, None), lifespan="off", log_config=None)
            config.load()
            server.start()
            while server.engine is None:
                await asyncio.sleep(0.01)
            if prepare is not None:
                prepare(server)
            if seconds:
                predict_one = server.engine.predict_one

                async def slow(row: Any) -> Any:
                    await asyncio.sleep(seconds)
                    return await predict_one(row)

                server.engine.predict_one = slow  # type: ignore[method-assign]
            protocol = protocol_within(settings, server.connections)
            loop = asyncio.get_running_loop()
            listening = await loop.create_server(lambda: protocol(config, ServerState(), {}), "127.0.0.1", 0)
            port = listening.sockets[0].getsockname()[1]

            async def one(talk: Say) -> Any:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    return await talk(reader, writer)
                finally:
                    writer.close()

            answers = await asyncio.gather(*map(one, say))
            shown = generate_latest(server.metrics.registry).decode()
            listening.close()
            await server.stop()
            return answers, server, shown

        with asyncio.Runner(loop_factory=uvloop_loop_factory()) as runner:  # as it is deployed
            return runner.run(main())

    return run
