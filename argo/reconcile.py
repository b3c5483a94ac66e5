"""Every minute one step towards git, cluster and registry saying the same."""

from hera.workflows import CronWorkflow

from argo.pods import promotion, setting, workflow

with CronWorkflow(
    **workflow("reconcile", minutes=10, arguments=[setting("environment")], ttl=3600),
    schedules=["* * * * *"],
    # A step that takes longer is not overtaken by the next.
    concurrency_policy="Forbid",
    starting_deadline_seconds=30,
    successful_jobs_history_limit=1,
    failed_jobs_history_limit=3,
) as WORKFLOW:
    promotion(
        "reconcile",
        "reconcile",
        "--env={{workflow.parameters.environment}}",
        # Its account may read Rollouts and their analyses.
        service_account_name="reconcile",
        automount_service_account_token=True,
    )
