"""Each night: does production still look like the data that each served version was judged on?"""

from hera.workflows import DAG, Artifact, Parameter, Task, WorkflowTemplate

from argo.pods import WORK, each_served, file, hook, ref, scheduled, served, setting, step, value, workflow

SERVED = ("model", "version", "run")
SAME = [Parameter(name=name, value=f"{{{{inputs.parameters.{name}}}}}") for name in SERVED]
FOUND = "{{tasks.drift.outputs.parameters.verdict}} == drift"
TRAINING = {"environment": "{{workflow.parameters.environment}}", "image": "", "sample": "1.0", "trials": "10",
            "experiment": "{{inputs.parameters.model}}/drift", "seed": "0"}  # fmt: skip


def of_model() -> DAG:
    """One served version: drift is told, and where the environment wants it a new version is trained."""
    with DAG(name="model", inputs=[*(Parameter(name=name) for name in SERVED), Artifact(name="git")]) as dag:
        Task(name="drift", template="drift", arguments=[*SAME, Artifact(name="git", from_="{{inputs.artifacts.git}}")])
        Task(
            name="tell",
            template_ref=ref("report", "alert"),
            arguments={
                "alert": "ModelDrift",
                "subject": "{{inputs.parameters.model}}",
                "text": "{{inputs.parameters.version}}: see the artifact drift of {{workflow.name}}",
            },
            depends="drift",
            when=FOUND,
        )
        Task(
            name="retrain",
            template_ref=ref("train-model"),
            arguments=[SAME[0], TRAINING],
            depends="drift",
            when=f"{FOUND} && {{{{workflow.parameters.retrain}}}} == true",
            hooks={"exit": hook(ref("train-model", "report"), {"model": "{{inputs.parameters.model}}"})},
        )
    return dag


with WorkflowTemplate(
    **workflow("drift-check", minutes=300, arguments=[setting("environment"), setting("retrain")]),
) as WORKFLOW:
    each_served("drift-check", *SERVED)
    of_model()
    served()
    step(
        "drift",
        "monitor",
        "drift",
        "--model={{inputs.parameters.model}}",
        "--version={{inputs.parameters.version}}",
        "--run={{inputs.parameters.run}}",
        f"--policies={WORK}/git/policies",
        f"--out={WORK}/drift",
        minutes=30,
        secrets=("mlflow-workflows", "postgresql"),
        inputs=[*(Parameter(name=name) for name in SERVED), file("git", "git")],
        outputs=[value("verdict", "drift/verdict"), file("drift", "drift")],
    )

SCHEDULE = scheduled("drift-check", "0 5 * * *")
