"""Is the platform itself well: delivery, workflows, MLflow, the database, alerting?"""

from panels import Panel, Row, dashboard

_OURS = 'namespace!="kube-system"'

DASHBOARD = dashboard(
    "platform",
    "Platform",
    [
        Row("Argo CD and Argo Rollouts", [
            Panel("Applications", "none", {
                "{{sync_status}} {{health_status}}": "count by (sync_status, health_status) (argocd_app_info)",
            }),
            Panel("Syncs", "none", {
                "{{name}} {{phase}}": "sum by (name, phase) (increase(argocd_app_sync_total[10m]))",
            }),
            Panel("Rollouts", "none", {"{{phase}}": "count by (phase) (rollout_info)"}),
        ]),
        Row("Workflows", [
            Panel("Now", "none", {"{{phase}}": "max by (phase) (argo_workflows_gauge)"}),
            Panel("Ended in an hour", "none", {
                "{{phase}}": """
                    sum by (phase) (increase(argo_workflows_total_count{phase=~"Succeeded|Failed|Error"}[1h]))
                    or 0 * max by (phase) (argo_workflows_gauge)""",
            }),
            Panel("Queue", "none", {"{{queue_name}}": "max by (queue_name) (argo_workflows_queue_depth_gauge)"}),
        ]),
        Row("MLflow and the database", [
            Panel("MLflow's pods that answer", "none", {"up": 'sum(up{job="mlflow"})'}),
            Panel("MLflow's answers", "reqps", {
                "{{status}}": 'sum by (status) (rate(mlflow_http_request_total{namespace="mlflow"}[5m]))',
            }),
            Panel("PostgreSQL answers", "none", {"up": "max(monitoring_database_up)"}),
        ]),
        Row("Pods", [
            Panel("CPU", "cores", {
                "{{namespace}}": f"sum by (namespace) (rate(container_cpu_usage_seconds_total{{{_OURS}}}[5m]))",
            }),
            Panel("Memory", "bytes", {
                "{{namespace}}": f"sum by (namespace) (container_memory_working_set_bytes{{{_OURS}}})",
            }),
            Panel("Memory of its limit", "percentunit", {
                "{{namespace}}/{{pod}}": f"""topk(10, max by (namespace, pod) (
                    container_memory_working_set_bytes{{{_OURS}}}
                    / (container_spec_memory_limit_bytes{{{_OURS}}} > 0)))""",
            }, limit=0.9),
        ]),
        Row("Alerting", [
            Panel("Alerts", "none", {
                "{{severity}} {{alertname}}": 'count by (severity, alertname) (ALERTS{alertstate="firing"})',
            }),
            Panel("Targets that can't be scraped", "none", {"{{job}}": "count by (job) (up == 0) or vector(0)"}),
            Panel("Series in memory", "none", {"{{pod}}": "max by (pod) (prometheus_tsdb_head_series)"}),
        ]),
    ],
)  # fmt: skip
