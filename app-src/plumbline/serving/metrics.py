"""What Prometheus reads. Every series of a model carries `model`, `version` and `role` (stable, canary, …)."""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

M = TypeVar("M", bound=MetricWrapperBase)
MODEL = ("model", "version", "role")
# Fit for a limit of 50 ms: fine below it, with edges at the limits that alerts and analyses ask for.
LATENCY = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 5)
_SCRAPE_SECONDS = 5
OUTCOMES = ("answered", "refused", "failed", "excused")
"""Of a prediction that an admitted caller asked for; what canaries are judged by."""
CALLERS = 8
"""Groups of callers: what one of them alone is behind is told from what befalls several."""
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def outcome_of(status: int) -> str:
    """What a status without an excuse says of a prediction."""
    return "failed" if status >= 500 else "refused" if status >= 400 else "answered"


class Exposed(Collector):
    """The series as another thread may read them: on the event loop, which alone changes what they show."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.loop: asyncio.AbstractEventLoop | None = None
        """None before the server runs: nothing changes until then."""

    def collect(self) -> list[Metric]:
        """Every series as it stands; raises TimeoutError where the loop has no time for it."""
        if self.loop is None:
            return list(self._registry.collect())
        return asyncio.run_coroutine_threadsafe(self._on_loop(), self.loop).result(_SCRAPE_SECONDS)

    async def _on_loop(self) -> list[Metric]:
        return list(self._registry.collect())


class Metrics:
    """All series of one server process, bound to its release once it is known, so that a request only adds."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # half of all series, and nobody asks for them
        self.registry = CollectorRegistry()
        self.exposed = Exposed(self.registry)
        ProcessCollector(registry=self.registry)
        registry = self.registry
        self.load_failed = Counter(
            "serving_model_load_failed", "Loads of the release that failed", (*MODEL, "reason"), registry=registry
        )
        self.ready = Gauge("serving_ready", "1 while the server is ready for traffic", MODEL, registry=registry)
        self.info = Gauge("serving_model_info", "What is served", (*MODEL, "digest", "batching"), registry=registry)
        self.cache_used = Gauge(
            "serving_cache_used", "Share of the keys that a layer is asked for", (*MODEL, "layer"), registry=registry
        )
        self.start_seconds = Gauge(
            "serving_start_seconds", "Time of each step from process start to ready", ("step",), registry=registry
        )
        self.requests = Counter(
            "serving_requests", "Answered requests by route and status", (*MODEL, "route", "status"), registry=registry
        )
        self.excused = Counter(
            "serving_requests_excused",
            "Answered with 5xx for no fault of the release: `load` beyond what it carries, or a `store` that is away",
            (*MODEL, "route", "excuse"),
            registry=registry,
        )
        self.predictions = Counter(
            "serving_predictions",
            "Predictions that admitted callers asked for; `excused` were refused for more load than is carried",
            (*MODEL, "route", "outcome"),
            registry=registry,
        )
        self.of_callers = Counter(
            "serving_predictions_by_caller",
            "The same predictions by groups of callers, who are known by their key, else by their subject",
            (*MODEL, "outcome", "caller"),
            registry=registry,
        )
        self.latency = Histogram(
            "serving_request_seconds",
            "Time from the request's last byte to its answer",
            (*MODEL, "route"),
            buckets=LATENCY,
            registry=registry,
        )
        self.in_flight = Gauge("serving_in_flight_requests", "Requests being answered", MODEL, registry=registry)
        self.bodies = Gauge(
            "serving_body_bytes", "Bytes of bodies that are read or wait for their answers", MODEL, registry=registry
        )
        self.connections = Gauge("serving_connections", "Connections that are open", MODEL, registry=registry)
        self.connections_refused = Counter(
            "serving_connections_refused", "Connections beyond as many as may be open", MODEL, registry=registry
        )
        self.queue_depth = Gauge("serving_queue_rows", "Rows that wait for the model", MODEL, registry=registry)
        self.batch_rows = Histogram(
            "serving_batch_rows", "Rows that the model was given at once", MODEL, buckets=ROWS, registry=registry
        )
        self.cache = Counter(
            "serving_cache_lookups",
            "Response cache, by layer and result",
            (*MODEL, "layer", "result"),
            registry=registry,
        )
        self.breaker = Gauge("serving_redis_breaker_state", "0 closed, 1 half-open, 2 open", MODEL, registry=registry)
        self.redis_failures = Counter(
            "serving_redis_failures", "Calls that failed or were bypassed, by use", (*MODEL, "use"), registry=registry
        )
        self.log_dropped = Counter(
            "serving_prediction_log_dropped", "Predictions that were not logged", MODEL, registry=registry
        )
        self.log_written = Counter(
            "serving_prediction_log_written", "Predictions that reached the stream", MODEL, registry=registry
        )
        self.task_failures = Counter(
            "serving_task_failures", "Ends of tasks that should not end", (*MODEL, "task"), registry=registry
        )
        self.unknown = Counter(
            "serving_unknown_categories", "Values that training did not see", (*MODEL, "field"), registry=registry
        )
        self.online = Counter(
            "serving_online_features",
            "Rows whose view was looked for in the store: hit, miss, or bypass where it can't be asked",
            (*MODEL, "view", "result"),
            registry=registry,
        )
        self.view_newest = Gauge(
            "serving_view_newest_timestamp_seconds",
            "The moment of a view's newest values in the store; 0 where it was never filled",
            (*MODEL, "view"),
            registry=registry,
        )
        self.view_max_age = Gauge(
            "serving_view_max_age_seconds", "The age from which on values are not used", (*MODEL, "view"),
            registry=registry,
        )  # fmt: skip
        self.wrong_keys = Counter(
            "serving_wrong_keys",
            "Requests without a known API key: refused, or limited by their address",
            (*MODEL, "result"),
            registry=registry,
        )
        self.key_ends = Gauge(
            "serving_key_ends_timestamp_seconds",
            "The end of a caller's last API key, of callers whose keys have one",
            ("keyholder",),
            registry=registry,
        )
        self.file_in_effect = Gauge(
            "serving_file_in_effect",
            "0 where a file of keys or of the role is missing or bad, and what it held before goes on",
            ("file",),
            registry=registry,
        )
        self.labels: Mapping[str, str] = dict.fromkeys(MODEL, "")

    def show_key_ends(self, ends: Mapping[str, float]) -> None:
        """Show the ends of these callers' keys, and of no others."""
        self.key_ends.clear()
        for keyholder, moment in ends.items():
            if math.isfinite(moment):
                self.key_ends.labels(keyholder).set(moment)

    def bind(self, model: str, version: str, role: str) -> None:
        """Say whose series these are from now on."""
        self.labels = {"model": model, "version": version, "role": role}

    def of(self, metric: M, **labels: str) -> M:
        """The child of `metric` that carries the release's labels and these."""
        return metric.labels(**self.labels, **labels)

    def watch(self, metric: Gauge, value: Callable[[], float]) -> None:
        """Let a gauge be read when it is scraped."""
        self.of(metric).set_function(value)
