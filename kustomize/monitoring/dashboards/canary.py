"""Is the canary as good as the stable version? The same figures side by side."""

from panels import Panel, Row, dashboard

_SIDES = 'model=~"$model", role=~"stable|canary"'
_ANSWERS = f'{_SIDES}, route=~"/v[12]/.+"'
_BY = "model, role, version"
_LEGEND = "{{model}} {{role}} {{version}}"


def _quantile(share: str) -> str:
    return f"""histogram_quantile({share}, sum by ({_BY}, le) (
        rate(serving_request_seconds_bucket{{{_ANSWERS}}}[1m])))"""


DASHBOARD = dashboard(
    "canary",
    "Canary and stable",
    [
        Row("Rollout", [
            Panel("Phase", "none", {"{{name}} {{phase}}": 'max by (name, phase) (rollout_info{namespace="models"})'}),
            Panel("Share of traffic", "percentunit", {
                _LEGEND: f"""sum by ({_BY}) (rate(serving_requests_total{{{_ANSWERS}}}[1m]))
                    / on (model) group_left sum by (model) (rate(serving_requests_total{{{_ANSWERS}}}[1m]))""",
            }),
            Panel("Analyses", "none", {
                "{{phase}}": 'count by (phase) (analysis_run_info{namespace="models"}) or vector(0)',
            }),
        ]),
        Row("Answers", [
            Panel("Failed (5xx)", "percentunit", {
                _LEGEND: f"""
                    (sum by ({_BY}) (rate(serving_requests_total{{{_ANSWERS}, status=~"5.."}}[1m]))
                    or 0 * sum by ({_BY}) (rate(serving_requests_total{{{_ANSWERS}}}[1m])))
                    / sum by ({_BY}) (rate(serving_requests_total{{{_ANSWERS}}}[1m]))""",
            }),
            Panel("p95", "s", {_LEGEND: _quantile("0.95")}),
            Panel("p99", "s", {_LEGEND: _quantile("0.99")}),
        ]),
        Row("Predictions", [
            Panel("Mean score", "none", {
                _LEGEND: f"""sum by ({_BY}) (rate(serving_prediction_score_sum{{{_SIDES}}}[5m]))
                    / sum by ({_BY}) (rate(serving_prediction_score_count{{{_SIDES}}}[5m]))""",
            }),
            Panel("Median score", "none", {
                _LEGEND: f"""histogram_quantile(0.5, sum by ({_BY}, le) (
                    rate(serving_prediction_score_bucket{{{_SIDES}}}[5m])))""",
            }),
            Panel("Quality of a day's labels", "none", {
                "{{model}} {{role}} {{version}} {{arm}} {{metric}}": f"""
                    max by ({_BY}, arm, metric) (monitoring_quality{{{_SIDES}}})""",
            }),
        ]),
    ],
    of_models=True,
)  # fmt: skip
