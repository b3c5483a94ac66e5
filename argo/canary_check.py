"""Each five minutes: does every canary answer as its signed model does, and differ as the gate saw it differ?"""

from hera.workflows import DAG, Env, SecretVolume, Task, WorkflowTemplate

from argo.pods import LARGE, scheduled, setting, step, workflow

with WorkflowTemplate(
    **workflow("canary-check", minutes=14, arguments=[setting("environment")], ttl=3600),
) as WORKFLOW:
    with DAG(name="canary-check"):
        Task(name="replay", template="replay")
    step(
        "replay",
        "monitor",
        "canary",
        "check",
        "--env={{workflow.parameters.environment}}",
        "--keep",
        minutes=10,
        resources=LARGE,
        secrets=("git-read", "postgresql", "releases"),
        env=(Env(name="PROMOTION_PUBLIC_KEY", value="/etc/public-key/signing-key.pub"),),
        volumes=(SecretVolume(name="public-key", secret_name="public-key", mount_path="/etc/public-key"),),
    )

SCHEDULE = scheduled(
    "canary-check", "*/5 * * * *", late=240, successful_jobs_history_limit=1, failed_jobs_history_limit=3
)
