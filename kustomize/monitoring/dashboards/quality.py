"""Are the answers right, and does the world still look as it did in training?"""

from panels import Panel, Row, dashboard

_MODEL = 'model=~"$model"'
_BY = "model, version, role, arm"
_LEGEND = "{{model}} {{version}} {{role}} {{arm}}"

DASHBOARD = dashboard(
    "quality",
    "Quality and drift",
    [
        Row("Labelled answers of the last day", [
            Panel("Quality by the policy's metric", "none", {
                f"{_LEGEND} {{{{metric}}}}": f"max by ({_BY}, metric) (monitoring_quality{{{_MODEL}}})",
            }),
            Panel("Rows with a label", "none", {_LEGEND: f"max by ({_BY}) (monitoring_labelled_rows{{{_MODEL}}})"}),
            Panel("Business value of an answer", "none", {
                _LEGEND: f"max by ({_BY}) (monitoring_business_value{{{_MODEL}}})",
            }),
        ]),
        Row("Drift", [
            Panel("Found", "none", {
                "{{model}} {{kind}}": f"max by (model, kind) (monitoring_drift_found{{{_MODEL}}})",
            }, description="1 drift, 0 none; nothing while inconclusive."),
            Panel("Effect over limit", "none", {
                "{{model}} {{column}}": f"""max by (model, column) (
                    monitoring_drift_effect{{{_MODEL}}} / monitoring_drift_limit{{{_MODEL}}})""",
            }, kind="bargauge", limit=1),
            Panel("Mean loss", "none", {
                "{{model}} {{data}}": f"max by (model, data) (monitoring_loss_mean{{{_MODEL}}})",
            }),
        ]),
        Row("What comes in", [
            Panel("Values that training did not see", "cps", {
                "{{model}} {{field}}": f"""
                    sum by (model, field) (rate(serving_unknown_categories_total{{{_MODEL}}}[5m]))
                    or 0 * sum by (model) (serving_ready{{{_MODEL}}})""",
            }),
            Panel("Entries of the streams that wait", "none", {
                "{{stream}}": "max by (stream) (monitoring_stream_lag_entries)",
            }),
            Panel("Rows stored", "cps", {"{{table}}": "sum by (table) (rate(monitoring_rows_total[5m]))"}),
        ]),
    ],
    of_models=True,
)  # fmt: skip
