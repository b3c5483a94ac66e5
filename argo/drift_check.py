"""Each night: does production still look like the data that each served version was judged on?

Where it does not, the labelled rows of the log are proposed as new data, by pull request; once git has newer data than
the served version learnt, a new one is trained on them.
"""

from hera.workflows import DAG, Artifact, Parameter, Task, WorkflowTemplate

from argo.pods import LARGE, WORK, each_served, file, hook, ref, scheduled, served, setting, step, value, workflow

SERVED = ("model", "version", "run")
SAME = [Parameter(name=name, value=f"{{{{inputs.parameters.{name}}}}}") for name in SERVED]
WANTED = "{{workflow.parameters.retrain}} == true"
FOUND = "{{tasks.drift.outputs.parameters.verdict}} == drift"
TRAINING = {"environment": "{{workflow.parameters.environment}}", "image": "", "sample": "1.0", "trials": "10",
            "experiment": "{{inputs.parameters.model}}/drift", "seed": "0"}  # fmt: skip


def of_model() -> DAG:
    """One served version: drift is told, and where the environment wants it data are collected, then trained on."""
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
        Task(name="renew", template="renew", arguments=[SAME[0], SAME[2]], depends="drift", when=f"{FOUND} && {WANTED}")
    return dag


def renew() -> DAG:
    """New data first; what git has and the served version has not learnt is trained on."""
    with DAG(name="renew", inputs=[Parameter(name=name) for name in ("model", "run")]) as dag:
        Task(name="collect", template="collect", arguments=[SAME[0], SAME[2]])
        Task(
            name="retrain",
            template_ref=ref("train-model"),
            arguments=[SAME[0], TRAINING],
            depends="collect",
            # The same bytes again would give the same model.
            when="{{tasks.collect.outputs.parameters.collected}} == ready",
            hooks={"exit": hook(ref("train-model", "report"), {"model": "{{inputs.parameters.model}}"})},
        )
    return dag


with WorkflowTemplate(
    **workflow("drift-check", minutes=300, arguments=[setting("environment"), setting("retrain")]),
) as WORKFLOW:
    each_served("drift-check", *SERVED)
    of_model()
    renew()
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
    step(
        "collect",
        "train",
        "collect",
        "--model={{inputs.parameters.model}}",
        "--run={{inputs.parameters.run}}",
        f"--verdict-file={WORK}/collected",
        minutes=30,
        resources=LARGE,
        secrets=("mlflow-workflows", "postgresql", "git"),
        # Who writes into git.
        service_account_name="promote",
        inputs=[Parameter(name="model"), Parameter(name="run")],
        outputs=[value("collected", "collected")],
    )

SCHEDULE = scheduled("drift-check", "0 5 * * *")
