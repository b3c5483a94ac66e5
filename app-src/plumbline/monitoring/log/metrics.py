"""What the consumer says of itself on its metrics port."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Counters and gauges of one consumer."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.entries = Counter(
            "monitoring_entries_total", "Stream entries acknowledged, by what became of them: stored or parked.",
            ["stream", "result"], registry=registry,
        )  # fmt: skip
        self.rows = Counter(
            "monitoring_rows_total", "Rows that were new in PostgreSQL.", ["table"], registry=registry
        )  # fmt: skip
        self.lost = Counter(
            "monitoring_lost_entries_total", "Entries that Redis trimmed before they were stored.",
            ["stream"], registry=registry,
        )  # fmt: skip
        self.reconnects = Counter(
            "monitoring_reconnects_total", "Failed tries that were followed by another.", ["service"], registry=registry
        )
        self.lag = Gauge(
            "monitoring_stream_lag_entries", "Entries not yet read; NaN where Redis cannot tell.",
            ["stream"], registry=registry,
        )  # fmt: skip
        self.pending = Gauge(
            "monitoring_stream_pending_entries", "Entries read and not yet acknowledged.", ["stream"], registry=registry
        )
        self.commit = Histogram("monitoring_commit_seconds", "Time to store a batch in PostgreSQL.", registry=registry)
