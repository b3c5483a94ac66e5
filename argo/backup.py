"""Each night: the databases, then the artifacts that they name, kept together so that they fit when restored."""

from hera.workflows import DAG, Artifact, Parameter, Task, WorkflowTemplate

from argo.pods import DATABASES, LARGE, WORK, file, postgres, scheduled, step, workflow

DUMP = f"{WORK}/{{{{inputs.parameters.database}}}}.dump"

with WorkflowTemplate(
    **workflow("backup", minutes=240),
) as WORKFLOW:
    with DAG(name="backup"):
        for name, database in DATABASES.items():
            Task(name=f"dump-{name}", template="dump", arguments={"database": database})
        Task(
            name="keep",
            template="keep",
            arguments=[
                Artifact(name=name, from_=f"{{{{tasks.dump-{name}.outputs.artifacts.dump}}}}") for name in DATABASES
            ],
            dependencies=[f"dump-{name}" for name in DATABASES],
        )
    postgres(
        "dump",
        ["pg_dump", "--format=custom", "--no-owner", f"--file={DUMP}", "{{inputs.parameters.database}}"],
        inputs=[Parameter(name="database")],
        outputs=[file("dump", "{{inputs.parameters.database}}.dump")],
    )
    step(
        "keep",
        "backup",
        "keep",
        f"--dumps={WORK}/dumps",
        minutes=180,
        resources=LARGE,
        secrets=("object-store",),
        service_account_name="backup",
        inputs=[file(name, f"dumps/{database}.dump") for name, database in DATABASES.items()],
    )

SCHEDULE = scheduled("backup", "0 2 * * *")
