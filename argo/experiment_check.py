"""Each hour: what do the experiments say? Stored for the analysis that a canary with an experiment waits for."""

from hera.workflows import DAG, Artifact, CronWorkflow, Env, Parameter, SecretVolume, Task

from argo.pods import LARGE, WORK, each_served, file, served, setting, step, workflow

with CronWorkflow(
    **workflow("experiment-check", minutes=110, arguments=[setting("environment")], ttl=3600),
    schedules=["20 * * * *"],
    concurrency_policy="Forbid",
    successful_jobs_history_limit=1,
    failed_jobs_history_limit=3,
) as WORKFLOW:
    each_served("experiment-check", "model")
    with DAG(name="model", inputs=[Parameter(name="model"), Artifact(name="git")]):
        Task(
            name="judge",
            template="judge",
            arguments=[
                {"model": "{{inputs.parameters.model}}"},
                Artifact(name="git", from_="{{inputs.artifacts.git}}"),
            ],
        )
    served()
    step(
        "judge",
        "monitor",
        "experiment",
        "--model={{inputs.parameters.model}}",
        f"--policies={WORK}/git/policies",
        "--keep",
        minutes=50,
        resources=LARGE,
        secrets=("mlflow-workflows", "git", "postgresql", "object-store"),
        env=(Env(name="PROMOTION_PUBLIC_KEY", value="/etc/public-key/signing-key.pub"),),
        volumes=(SecretVolume(name="public-key", secret_name="public-key", mount_path="/etc/public-key"),),
        inputs=[Parameter(name="model"), file("git", "git")],
    )
