"""Started by a person: the artifacts of a backup come back, then the databases that name them.

First stop what uses the databases (docs/workflows.md): each is dropped and made anew.
"""

from hera.workflows import DAG, Artifact, Parameter, Task, WorkflowTemplate

from argo.pods import DATABASES, LARGE, WORK, file, postgres, step, workflow

with WorkflowTemplate(
    # Without a name: the newest.
    **workflow("restore", minutes=240, arguments=[Parameter(name="backup", value="")]),
) as WORKFLOW:
    with DAG(name="restore"):
        Task(name="fetch", template="fetch")
        for name in DATABASES:
            dump = Artifact(name="dump", from_=f"{{{{tasks.fetch.outputs.artifacts.{name}}}}}")
            Task(name=f"load-{name}", template="load", arguments=[dump], dependencies=["fetch"])
    step(
        "fetch",
        "backup",
        "fetch",
        "--name={{workflow.parameters.backup}}",
        f"--out={WORK}/dumps",
        minutes=180,
        resources=LARGE,
        secrets=("object-store",),
        service_account_name="backup",
        outputs=[file(name, f"dumps/{database}.dump") for name, database in DATABASES.items()],
    )
    postgres(
        "load",
        ["pg_restore", "--clean", "--if-exists", "--create", "--exit-on-error", "--no-owner", "--dbname=postgres"],
        f"{WORK}/dump",
        inputs=[file("dump", "dump")],
    )
