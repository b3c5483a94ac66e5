"""Every minute one step towards git, cluster and registry saying the same; one pod does it for an hour."""

from hera.workflows import Parameter, WorkflowTemplate

from argo.pods import promotion, scheduled, setting, workflow

# A pod that was lost is followed by three others at most, each for its hour.
with WorkflowTemplate(
    **workflow(
        "reconcile", minutes=4 * 65, arguments=[setting("environment"), Parameter(name="for", value="55m")], ttl=3600
    ),
) as WORKFLOW:
    promotion(
        "reconcile",
        "reconcile",
        "--env={{workflow.parameters.environment}}",
        "--for={{workflow.parameters.for}}",
        pushes=True,
        minutes=65,
        # Its account may read Rollouts and their analyses.
        service_account_name="reconcile",
        automount_service_account_token=True,
    )

# None is started while one runs, so one that has ended, however it did, is followed within a minute.
SCHEDULE = scheduled(
    "reconcile",
    "* * * * *",
    late=30,
    successful_jobs_history_limit=1,
    failed_jobs_history_limit=3,
)
