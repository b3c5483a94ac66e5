"""A version into an environment: judged, in a guarded one approved by a person, then one commit."""

from hera.workflows import DAG, Parameter, Suspend, Task, WorkflowTemplate
from hera.workflows.models import Mutex, SuppliedValueFrom, Synchronization, ValueFrom

from argo.pods import promotion, setting, workflow

SUBJECT = ("model", "version", "environment", "image")
OPTIONS = ("--model={{inputs.parameters.model}}", "--version={{inputs.parameters.version}}")
TARGET = ("--env={{inputs.parameters.environment}}", "--image={{inputs.parameters.image}}")
INPUTS = [Parameter(name=name) for name in SUBJECT]
SAME = [Parameter(name=name, value=f"{{{{inputs.parameters.{name}}}}}") for name in SUBJECT]


def approval() -> DAG:
    """A person brings what they signed, and git keeps it. What is not signed by an approver the gate refuses."""
    with DAG(name="approval", inputs=INPUTS) as dag:
        Task(name="ask", template="ask")
        Task(
            name="record",
            template="record",
            arguments=[*SAME, {"signed": "{{tasks.ask.outputs.parameters.signed}}"}],
            dependencies=["ask"],
            when="{{tasks.ask.outputs.parameters.answer}} == YES",
        )
    return dag


with WorkflowTemplate(
    # Three days for the answer.
    **workflow(
        "promote-model",
        minutes=4 * 24 * 60,
        arguments=[
            Parameter(name="model"),
            Parameter(name="version"),
            setting("environment"),
            # Without one: the image that the environment serves with now.
            Parameter(name="image", value=""),
        ],
    )
) as WORKFLOW:
    # Whoever calls it gives no class: it is that of the cluster, and the gate asks for the approval all the same.
    with DAG(name="promote-model", inputs=[*INPUTS, setting("class")]):
        Task(name="check", template="check", arguments=SAME)
        Task(
            name="approval",
            template="approval",
            arguments=SAME,
            depends="check",
            when="{{inputs.parameters.class}} == guarded",
        )
        Task(name="promote", template="promote", arguments=SAME, depends="approval.Succeeded || approval.Skipped")
    approval()
    # Where it is asked for, every rule but the approval is judged before a person is asked.
    promotion(
        "check",
        "check",
        *OPTIONS,
        *TARGET,
        "--awaiting-approval",
        minutes=20,
        inputs=INPUTS,
        service_account_name="promote",
    )
    asked = [
        Parameter(name="answer", default="NO", enum=["NO", "YES"], description="May it be served?"),
        Parameter(
            name="signed",
            default="",
            description="The line that `plumbline promote approve --detached` printed; empty where git has it already",
        ),
    ]
    # Not answered in three days is a NO.
    Suspend(
        name="ask",
        duration="72h",
        inputs=asked,
        outputs=[
            Parameter(name=one.name, value_from=ValueFrom(supplied=SuppliedValueFrom(), default=one.default))
            for one in asked
        ],
    )
    promotion(
        "record",
        "approve",
        *OPTIONS,
        *TARGET,
        "--signed={{inputs.parameters.signed}}",
        pushes=True,
        service_account_name="promote",
        inputs=[*INPUTS, Parameter(name="signed")],
    )
    mutex = Mutex(name="promote-{{inputs.parameters.environment}}-{{inputs.parameters.model}}")
    promotion(
        "promote",
        "run",
        *OPTIONS,
        *TARGET,
        pushes=True,
        service_account_name="promote",
        minutes=20,
        inputs=INPUTS,
        # One after the other; git itself refuses what would be lost in a race.
        synchronization=Synchronization(mutexes=[mutex]),
    )
