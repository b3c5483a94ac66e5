"""Each week: days of the prediction log that are too old, and versions that nobody took, are put away.

Workflows put themselves away: their time to live is in argo/pods.py.
"""

from hera.workflows import DAG, Parameter, Task, WorkflowTemplate

from argo.pods import promotion, scheduled, step, workflow

with WorkflowTemplate(
    **workflow(
        "housekeeping",
        minutes=60,
        arguments=[Parameter(name="log-days", value="90d"), Parameter(name="version-days", value="180d")],
    ),
) as WORKFLOW:
    with DAG(name="housekeeping"):
        Task(name="prune", template="prune")
        Task(name="archive", template="archive")
    step("prune", "monitor", "prune", "--older-than={{workflow.parameters.log-days}}", secrets=("postgresql",))
    promotion("archive", "archive-unused", "--older-than={{workflow.parameters.version-days}}")

SCHEDULE = scheduled("housekeeping", "0 4 * * 0")
