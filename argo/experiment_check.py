"""Each hour: what do the experiments say? Stored for the analysis that a canary with an experiment waits for."""

from hera.workflows import DAG, Artifact, Env, Parameter, SecretVolume, Task, WorkflowTemplate

from argo.pods import LARGE, WORK, each_served, file, scheduled, served, setting, step, workflow

with WorkflowTemplate(
    **workflow("experiment-check", minutes=110, arguments=[setting("environment")], ttl=3600),
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
        secrets=("mlflow-workflows", "git-read", "postgresql", "object-store"),
        env=(Env(name="PROMOTION_PUBLIC_KEY", value="/etc/public-key/signing-key.pub"),),
        volumes=(SecretVolume(name="public-key", secret_name="public-key", mount_path="/etc/public-key"),),
        inputs=[Parameter(name="model"), file("git", "git")],
    )

SCHEDULE = scheduled("experiment-check", "20 * * * *", successful_jobs_history_limit=1, failed_jobs_history_limit=3)
