"""Every minute one step towards git, cluster and registry saying the same."""

from hera.workflows import WorkflowTemplate

from argo.pods import promotion, scheduled, setting, workflow

with WorkflowTemplate(
    **workflow("reconcile", minutes=10, arguments=[setting("environment")], ttl=3600),
) as WORKFLOW:
    promotion(
        "reconcile",
        "reconcile",
        "--env={{workflow.parameters.environment}}",
        pushes=True,
        # Its account may read Rollouts and their analyses.
        service_account_name="reconcile",
        automount_service_account_token=True,
    )

# A step that takes longer is not overtaken by the next.
SCHEDULE = scheduled(
    "reconcile",
    "* * * * *",
    late=30,
    successful_jobs_history_limit=1,
    failed_jobs_history_limit=3,
)
