"""Each night: the released models answer for the rows that wait in the object store, in as many pods as asked."""

from hera.workflows import DAG, Artifact, Parameter, Task, WorkflowTemplate
from hera.workflows.models import Sequence

from argo.pods import LARGE, WORK, each_served, file, scheduled, served, setting, step, workflow

GIT = Artifact(name="git", from_="{{inputs.artifacts.git}}")
PART = {"part": "{{item}}", "parts": "{{workflow.parameters.parts}}"}

with WorkflowTemplate(
    **workflow(
        "batch-scoring",
        minutes=240,
        # Rows lie in <store>/<model>/rows/*.parquet, answers come to <store>/<model>/scores/<digest>/.
        arguments=[setting("environment"), setting("scoring-store"), Parameter(name="parts", value="4")],
        parallelism=4,
    ),
) as WORKFLOW:
    each_served("batch-scoring", "model")
    with DAG(name="model", inputs=[Parameter(name="model"), Artifact(name="git")]):
        Task(
            name="score",
            template="score",
            arguments=[{"model": "{{inputs.parameters.model}}"}, PART, GIT],
            with_sequence=Sequence(count="{{workflow.parameters.parts}}"),
        )
    served()
    step(
        "score",
        "score",
        f"--release={WORK}/git/releases/{{{{inputs.parameters.model}}}}.yaml",
        "--rows={{workflow.parameters.scoring-store}}/{{inputs.parameters.model}}/rows",
        "--out={{workflow.parameters.scoring-store}}/{{inputs.parameters.model}}/scores",
        "--part={{inputs.parameters.part}}",
        "--parts={{inputs.parameters.parts}}",
        minutes=120,
        resources=LARGE,
        secrets=("mlflow-workflows", "object-store"),
        inputs=[Parameter(name="model"), Parameter(name="part"), Parameter(name="parts"), file("git", "git")],
    )

SCHEDULE = scheduled("batch-scoring", "0 3 * * *")
