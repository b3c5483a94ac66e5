"""What others call when they end badly or find something: an alert to Alertmanager."""

from hera.workflows import DAG, Parameter, Task, WorkflowTemplate

from argo.pods import step, workflow

ALERT = ("alert", "subject", "text")

with WorkflowTemplate(**workflow("report", minutes=15, hooks=None)) as WORKFLOW:
    # How every Workflow ends. Argo runs the exit hook of a Workflow whatever the hook's expression says.
    with DAG(name="ended", inputs=[Parameter(name=name) for name in (*ALERT, "status")]):
        Task(
            name="alert",
            template="alert",
            arguments={name: f"{{{{inputs.parameters.{name}}}}}" for name in ALERT},
            when="{{inputs.parameters.status}} != Succeeded",
        )
    step(
        "alert",
        "monitor",
        "alert",
        "--name={{inputs.parameters.alert}}",
        "--subject={{inputs.parameters.subject}}",
        "--text={{inputs.parameters.text}}",
        inputs=[Parameter(name=name) for name in ALERT],
    )
