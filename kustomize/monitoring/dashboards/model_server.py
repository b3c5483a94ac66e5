"""What model servers answer: how many, how fast, how well, and what they need for it."""

from panels import Panel, Row, dashboard

_ANSWERS = 'model=~"$model", route=~"/v[12]/.+"'
_MODEL = 'model=~"$model"'
_BY = "model, version, role"


def _quantile(share: str) -> str:
    return f"""histogram_quantile({share}, sum by ({_BY}, le) (
        rate(serving_request_seconds_bucket{{{_ANSWERS}}}[1m])))"""


_CONTAINER = 'namespace="models", container="server"'

DASHBOARD = dashboard(
    "model-server",
    "Model servers",
    [
        Row("Traffic", [
            Panel("Requests", "reqps", {
                "{{model}} {{version}} {{role}}": f"sum by ({_BY}) (rate(serving_requests_total{{{_ANSWERS}}}[1m]))",
            }),
            Panel("Refused (4xx)", "percentunit", {
                "{{model}} {{status}}": f"""
                    sum by (model, status) (rate(serving_requests_total{{{_ANSWERS}, status=~"4.."}}[1m]))
                    / on (model) group_left sum by (model) (rate(serving_requests_total{{{_ANSWERS}}}[1m]))""",
            }, limit=0.2),
            Panel("Failed (5xx)", "percentunit", {
                "{{model}} {{version}} {{role}}": f"""
                    (sum by ({_BY}) (rate(serving_requests_total{{{_ANSWERS}, status=~"5.."}}[1m]))
                    or 0 * sum by ({_BY}) (rate(serving_requests_total{{{_ANSWERS}}}[1m])))
                    / sum by ({_BY}) (rate(serving_requests_total{{{_ANSWERS}}}[1m]))""",
            }, limit=0.001),
        ]),
        Row("Latency", [
            Panel(f"p{title}", "s", {"{{model}} {{version}} {{role}}": _quantile(share)}, limit=limit)
            for title, share, limit in (("50", "0.5", None), ("95", "0.95", 0.05), ("99", "0.99", 0.25))
        ]),
        Row("Error budget of 30 days (99.9 %)", [
            Panel("Burn rate", "none", {
                f"{{{{model}}}} {window}": f"model:serving_errors:ratio_rate{window}{{{_MODEL}}} / 0.001"
                for window in ("5m", "1h", "6h")
            }, limit=14.4, description="1 uses the budget up in exactly 30 days; 14.4 wakes somebody."),
            Panel("Ready pods", "none", {
                "{{model}} {{version}} {{role}}": f"sum by ({_BY}) (serving_ready{{{_MODEL}}})",
            }),
            Panel("Loads that failed", "none", {
                "{{model}} {{version}} {{reason}}":
                    f"sum by (model, version, reason) (serving_model_load_failed_total{{{_MODEL}}}) "
                    f"or 0 * sum by (model, version) (serving_ready{{{_MODEL}}})",
            }),
        ]),
        Row("Inside", [
            Panel("Rows that wait", "none", {"{{pod}}": f"sum by (pod) (serving_queue_rows{{{_MODEL}}})"}, limit=100),
            Panel("Rows in one run", "none", {
                "{{model}} mean": f"""sum by (model) (rate(serving_batch_rows_sum{{{_MODEL}}}[1m]))
                    / sum by (model) (rate(serving_batch_rows_count{{{_MODEL}}}[1m]))""",
            }),
            Panel("Cache hits", "percentunit", {
                "{{model}} {{layer}}": f"""
                    sum by (model, layer) (rate(serving_cache_lookups_total{{{_MODEL}, result="hit"}}[5m]))
                    / sum by (model, layer) (rate(serving_cache_lookups_total{{{_MODEL}}}[5m]))""",
            }),
        ]),
        Row("Views in the online store", [
            Panel("Age of the newest values", "s", {
                "{{model}} {{view}}": f"model:serving_view_age:seconds{{{_MODEL}}}",
                "{{model}} {{view}} at most":
                    f"max by (model, view) (serving_view_max_age_seconds{{{_MODEL}}})",
            }, description="Older values than the view's most are not used."),
            Panel("Rows without", "percentunit", {
                "{{model}} {{view}}": f"model:serving_view_misses:ratio_rate15m{{{_MODEL}}}",
            }, limit=0.05),
            Panel("Look-ups", "cps", {
                "{{model}} {{view}} {{result}}":
                    f"sum by (model, view, result) (rate(serving_online_features_total{{{_MODEL}}}[5m]))",
            }),
        ]),
        Row("Redis and the prediction log", [
            Panel("Breaker (2 is open)", "none", {
                "{{pod}}": f"max by (pod) (serving_redis_breaker_state{{{_MODEL}}})",
            }),
            Panel("Predictions logged and dropped", "cps", {
                "{{model}} logged": f"sum by (model) (rate(serving_prediction_log_written_total{{{_MODEL}}}[1m]))",
                "{{model}} dropped": f"sum by (model) (rate(serving_prediction_log_dropped_total{{{_MODEL}}}[1m]))",
            }),
            Panel("Database connections", "none", {
                "{{pod}} {{state}}": "sum by (pod, state) (monitoring_database_connections)",
            }, description="Of the consumers' pools."),
        ]),
        Row("Pods", [
            Panel("CPU", "cores", {
                "{{pod}}": f"sum by (pod) (rate(container_cpu_usage_seconds_total{{{_CONTAINER}}}[2m]))",
            }),
            Panel("Memory", "bytes", {
                "{{pod}}": f"sum by (pod) (container_memory_working_set_bytes{{{_CONTAINER}}})",
                "{{pod}} limit": f"sum by (pod) (container_spec_memory_limit_bytes{{{_CONTAINER}}})",
            }),
            Panel("Start", "s", {
                "{{step}}": "max by (step) (serving_start_seconds)",
            }, description="Slowest pod, time from the process's start to each step."),
        ]),
    ],
    of_models=True,
)  # fmt: skip
