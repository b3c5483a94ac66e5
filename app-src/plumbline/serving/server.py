"""The life of one server process: starting, ready, draining; or alive and unready with the reason."""

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from hmac import compare_digest
from itertools import chain, repeat
from pathlib import Path

from plumbline.core.artifact import ArtifactError
from plumbline.core.documents import DocumentError
from plumbline.core.dsse import PublicKeyError, read_public_keys
from plumbline.core.onnx import ModelError
from plumbline.core.release import Release, read_release
from plumbline.core.store import StoreError
from plumbline.serving.artifact.fetch import folder_of, obtain, verify
from plumbline.serving.cpus import available_cpus
from plumbline.serving.errors import Problem
from plumbline.serving.events import Event, PredictionLog
from plumbline.serving.files import Files, stamp_of
from plumbline.serving.http.asgi import Bodies, Connections, Context
from plumbline.serving.http.keys import read_gateway_keys
from plumbline.serving.inference.engine import Engine
from plumbline.serving.inference.model import Matrix, load_model
from plumbline.serving.inference.reader import Values
from plumbline.serving.inference.views import Missing
from plumbline.serving.logs import LogBuffer, log
from plumbline.serving.metrics import Metrics
from plumbline.serving.redis_link import RedisLink
from plumbline.serving.settings import Settings, read_role
from plumbline.serving.supervise import supervise

_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
_FLUSH_SECONDS = 3.0
_MIRRORED = b"-shadow"
"""What Envoy appends to the host of a mirrored request."""
_OTHER = "other"
_REASONS = {DocumentError: "release", ArtifactError: "tampered", ModelError: "model"}


class Server:
    """What the routes share."""

    def __init__(self, settings: Settings, metrics: Metrics, buffer: LogBuffer) -> None:
        self.settings, self.metrics, self.buffer = settings, metrics, buffer
        self.engine: Engine | None = None
        self.reason = "the model is being loaded"
        self.draining = False
        self.in_flight = 0
        self.bodies = Bodies(settings.max_bytes_in_flight)
        self.connections = Connections(settings.max_connections)
        self.link: RedisLink | None = None
        if settings.redis_url is not None:
            self.link = RedisLink(str(settings.redis_url), settings.redis_timeout_ms, metrics)
        self.log: PredictionLog | None = None
        self._arms = frozenset(settings.arms.split(","))
        self.files = Files(metrics, settings.reload_seconds)
        self._gateway_keys: tuple[bytes, ...] | None = None
        """None: nobody has to prove to be the gateway; empty: nobody can."""
        if settings.gateway_key is not None:
            self._gateway_keys = (settings.gateway_key.get_secret_value().encode(),)
        if (path := settings.gateway_key_file) is not None:
            self._take_gateway_keys(())
            # A pod may start before its Secret is filled, and needs no gateway to predict.
            there = path.exists()
            self.files.add("SERVING_GATEWAY_KEY_FILE", path, read_gateway_keys, self._take_gateway_keys, now=there)
            if not there:
                log.warning("SERVING_GATEWAY_KEY_FILE: %s is missing: nobody proves to be the gateway until then", path)
        self._role = ""
        if settings.role_file is not None:
            self.files.add("SERVING_ROLE_FILE", settings.role_file, read_role, self._take_role)
        self.files.add("SERVING_PUBLIC_KEY", settings.public_key, self._judge_public_key, self._load_anew, now=False)
        self._loading: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._steps = Steps()

    @property
    def ready(self) -> bool:
        """Whether traffic should come here."""
        return self.engine is not None and not self.draining

    def serving(self) -> Engine:
        """The engine; raises Problem 503 with the reason while there is none."""
        if self.engine is None:
            raise Problem(503, self.reason, headers={"retry-after": "1"})
        return self.engine

    def start(self) -> None:
        """Begin to load; returns at once, so that the process is alive and says why it is not ready."""
        self._steps.lap("import")
        self._loading = asyncio.create_task(self._load())
        self._tasks.append(self._loading)
        self._keep_going("files", self.files.run)

    def drain(self) -> None:
        """Say unready from now on, and go on answering."""
        self.draining = True

    async def stop(self) -> None:
        """Write what the logs hold and let go; every request was answered before."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_FLUSH_SECONDS)
        if self.log is not None:
            await self.log.drain(_FLUSH_SECONDS)
        if self.link is not None:
            await self.link.close()
        if self.engine is not None:
            self.engine.close()

    def by_gateway(self, context: Context) -> bool:
        """Whether a request proves that it came through the gateway; without a key of the gateway none does."""
        given = context.headers.get(b"x-plumbline-gateway", b"")
        return any(compare_digest(given, key) for key in self._gateway_keys or ())

    def record(
        self,
        context: Context,
        event_id: str,
        rows: Sequence[Values] | Matrix,
        outputs: bytes,
        missing: Missing,
        text: bytes | None = None,
    ) -> None:
        """Put an answered request into the prediction log; not the copy of one, whose answer nobody gets.

        `text` is that of `plumbline.serving.inference.reader.Batch` if these are its rows.
        """
        if self.log is None:
            return
        # Where the gateway has a key, what only it may say counts from nobody else.
        told = self._gateway_keys is None or self.by_gateway(context)
        if not (told and context.headers.get(b"host", b"").endswith(_MIRRORED)):
            arm = context.text(b"x-arm") if told else ""
            self.log.put(
                Event(
                    id=event_id,
                    at=time.time(),
                    request_id=context.request_id,
                    arm=arm if not arm or arm in self._arms else _OTHER,
                    # Whose bucket the gateway took: the caller's user, else a hash of its key.
                    subject=(context.text(b"x-subject") or context.text(b"x-plumbline-caller")) if told else "",
                    keyholder=context.keyholder,
                    rows=rows,
                    text=text,
                    outputs=outputs,
                    seconds=time.perf_counter() - context.started,
                    missing=missing,
                )
            )

    async def _load(self) -> None:
        """Try until it is loaded; only what may pass by itself is tried again, and a tampered model never is."""
        delays = chain(_RETRY_SECONDS, repeat(_RETRY_SECONDS[-1]))
        while self.engine is None:
            try:
                release = await asyncio.to_thread(self._read_release)
                self.metrics.bind(release.model, release.spec.version, self.settings.role)
                self._became_ready(await asyncio.to_thread(self._make_engine, release))
            except (StoreError, OSError) as error:
                self._failed("fetch" if isinstance(error, StoreError) else "disk", error)
                await asyncio.sleep(next(delays))
            except (DocumentError, ArtifactError, ModelError) as error:
                self._failed(_REASONS[type(error)], error)
                break
            except Exception as error:  # the process stays alive to say so
                log.exception("the model can't be loaded")
                self._failed("error", error)
                break

    def _read_release(self) -> Release:
        stamp_of(self.settings.release)
        return read_release(self.settings.release)

    def _take_role(self, role: str) -> None:
        self._role = role or self._role
        if self.log is not None:
            self.log.set_role(role)

    def _take_gateway_keys(self, keys: tuple[bytes, ...]) -> None:
        self._gateway_keys = keys

    def _judge_public_key(self, path: Path) -> None:
        """Raise DocumentError for a changed key that is none, or with which what is served would not be loaded."""
        public_key = _read_public_key(path)
        if self.engine is not None:
            release = self.engine.release
            try:
                verify(folder_of(release, self.settings), release, public_key)
            except ArtifactError as error:
                reason = f"a pod that starts now does not serve {release.model} {release.spec.version}"
                raise DocumentError(f"SERVING_PUBLIC_KEY: {path}: {reason}: {error}") from error

    def _load_anew(self, _: None) -> None:
        """There is another public key: a model that was refused by the old one gets another chance."""

        async def load(earlier: asyncio.Task[None] | None) -> None:
            if earlier is not None:
                await asyncio.wait([earlier])
            await self._load()

        if self.engine is None:
            self._loading = asyncio.create_task(load(self._loading))
            self._tasks.append(self._loading)

    def _make_engine(self, release: Release) -> Engine:
        """Fetch, verify, load and warm up; runs in a thread."""
        # Before a model in the cache would be judged by it, and thrown away.
        public_key = _read_public_key(self.settings.public_key)
        folder, schema = obtain(release, self.settings, public_key, self._steps.lap)
        cpus = self.settings.cpus or available_cpus()
        model = load_model(folder / "model.onnx", schema, cpus, self._steps.lap)
        return Engine(release, schema, model, self.settings, self.metrics)

    def _became_ready(self, engine: Engine) -> None:
        metrics, spec = self.metrics, engine.release.spec
        if self.link is not None:
            link, settings, columns = self.link, self.settings, engine.contract.columns
            self.log = PredictionLog(link, columns, settings.log_queue, settings.stream_maxlen, metrics, self._role)
            link.on_close = lambda: engine.use_redis(link)
            self._keep_going("redis", link.keep)
            self._keep_going("prediction-log", self.log.run)
            metrics.watch(metrics.breaker, lambda: float(link.state))
            if engine.schema.views:
                self._keep_going("views", lambda: engine.views.watch(link))
        metrics.watch(metrics.ready, lambda: float(self.ready))
        metrics.watch(metrics.in_flight, lambda: float(self.in_flight))
        metrics.watch(metrics.bodies, lambda: float(self.bodies.size))
        metrics.watch(metrics.connections, lambda: float(self.connections.open))
        self.connections.refused = metrics.of(metrics.connections_refused).inc
        self.buffer.failed = metrics.of(metrics.task_failures, task="log").inc
        for task in ("files", "redis", "prediction-log", "views"):
            metrics.of(metrics.task_failures, task=task)  # a series that begins with 1 shows no increase
        gc.collect()
        gc.freeze()  # what stands now stays: no collection needs to look at it again
        # A batch makes thousands of objects and no cycle: at the default of 700 it is searched for some many times.
        gc.set_threshold(20_000, 20, 100)
        self.engine = engine
        self._steps.lap("engine")
        described = engine.describe()
        metrics.of(metrics.info, digest=spec.artifact.digest, batching=described["batching"]).set(1)
        for name, seconds in [*self._steps.seconds.items(), ("total", self._steps.total)]:
            metrics.start_seconds.labels(step=name).set(seconds)
        shown = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in self._steps.seconds.items())
        log.info(
            "ready: %s %s in %.3f s (%s); %s", engine.release.model, spec.version, self._steps.total, shown, described
        )

    def _keep_going(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        def failed() -> None:  # by then the release may be known
            self.metrics.of(self.metrics.task_failures, task=name).inc()

        self._tasks.append(asyncio.create_task(supervise(name, work, failed)))

    def _failed(self, reason: str, error: Exception) -> None:
        self.reason = f"{reason}: {error}"
        self.metrics.of(self.metrics.load_failed, reason=reason).inc()
        self.metrics.of(self.metrics.ready).set(0)
        log.error("the model can't be served: %s", self.reason)


class Steps:
    """The time of each step from the start of the process on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = self._last = process_start()

    def lap(self, name: str) -> None:
        """A step has ended."""
        now = time.time()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """Seconds from the start of the process to the last step's end."""
        return self._last - self._began


def _read_public_key(path: Path) -> bytes:
    try:
        stamp_of(path)
        public_key = path.read_bytes()
        read_public_keys(public_key)
    except (OSError, PublicKeyError) as error:
        raise DocumentError(f"SERVING_PUBLIC_KEY: {error}") from error
    return public_key


def process_start() -> float:
    """When this process began, in seconds since the epoch; to a hundredth of a second, as Linux keeps it."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    age = uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - age
