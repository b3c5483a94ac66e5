"""Each quarter of an hour: the online store gets the newest values of every view that a model's folder declares.

It asks neither git nor MLflow what is served: values of a model that is not are of no harm, and what is served is
answered with fresh views while both are away.
"""

from hera.workflows import DAG, Env, Task, WorkflowTemplate

from argo.pods import scheduled, step, workflow

with WorkflowTemplate(**workflow("materialise", minutes=14, ttl=3600)) as WORKFLOW:
    with DAG(name="materialise"):
        Task(name="fill", template="fill")
    step(
        "fill",
        "train",
        "materialise",
        minutes=10,
        secrets=("redis",),
        env=(Env(name="FEATURES_REDIS_URL", value="$(REDIS_SCHEME)://:$(REDIS_PASSWORD)@$(REDIS_ADDRESS)/0"),),
        service_account_name="materialise",
        # The only step that Redis lets in (kustomize/redis, network-policy.yaml).
        labels={"plumbline.dev/fills": "redis"},
    )

SCHEDULE = scheduled(
    "materialise", "*/15 * * * *", late=600, successful_jobs_history_limit=1, failed_jobs_history_limit=3
)
