"""From data to a promoted version: each step in a pod of its own, the search in as many pods as it has trials."""

from dataclasses import dataclass
from typing import Any

from hera.workflows import DAG, Artifact, Container, Env, Parameter, RawArtifact, SecretVolume, Task, WorkflowTemplate
from hera.workflows.models import (
    Cache,
    ConfigMapKeySelector,
    LocalObjectReference,
    Memoize,
    SemaphoreRef,
    Sequence,
    Synchronization,
)

from argo.pods import FAILURE, LARGE, WORK, file, promotion, ref, setting, step, value, workflow

# Where the steps leave their results below --work (plumbline/training/work.py), by the names that they travel under.
FILES = {
    "settings": "settings.json",
    "data": "data",
    "data-version": "data.json",
    "run": "run.json",
    "tables": "tables",
    "schema": "schema.json",
    "train": "train.parquet",
    "validation": "validation.parquet",
    "test": "test.parquet",
    "best": "best.json",
    "native": "native",
    "evaluation": "evaluation",
}
RUN = ("settings", "data-version", "run")
ROWS = ("schema", "train", "validation", "test")
TRAINED = ("best", "native")
ASKED = ("model", "sample", "trials", "experiment", "seed")


@dataclass(frozen=True)
class Stage:
    """A step of training: what it takes from earlier ones and what it makes."""

    name: str
    takes: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    after: str = ""
    """A step that it follows though it takes no file of it."""
    pure: bool = False
    """Its files follow from data, code, sample and seed alone: a later run takes those of an earlier one."""


STAGES = (
    Stage("data", makes=(*RUN, "data")),
    Stage("validate", ("settings", "data"), ("tables",), pure=True),
    Stage("features", ("settings", "tables"), ROWS, pure=True),
    Stage("search", (*RUN, "schema", "train", "validation")),
    Stage("train", (*RUN, *ROWS), TRAINED, after="search"),
    Stage("evaluate", (*RUN, *ROWS, *TRAINED), ("evaluation",)),
    Stage("convert", (*RUN, *ROWS, *TRAINED, "evaluation")),
    Stage("finish", RUN, after="convert"),
)
MAKER = {item: stage.name for stage in STAGES for item in stage.makes}


def pod(stage: Stage) -> Container:
    """The step as a template."""
    arguments: list[str] = []
    more: dict[str, Any] = {}
    inputs: list[Any] = [file(item, FILES[item]) for item in stage.takes]
    outputs: list[Any] = [file(item, FILES[item]) for item in stage.makes]
    if stage.name == "data":
        arguments = [f"--{name}={{{{inputs.parameters.{name}}}}}" for name in ASKED]
        inputs = [Parameter(name=name) for name in ASKED]
        more["env"] = (Env(name="TRAINING_WORKFLOW", value="{{workflow.namespace}}/{{workflow.name}}"),)
        outputs += [value("run-id", "parameters/run"), value("prepared", "parameters/prepared")]
    if stage.name == "search":
        # As many parts as trials: part 3 runs trial 3 alone and leaves it under that number.
        arguments = ["--part={{inputs.parameters.part}}", "--parts={{inputs.parameters.parts}}"]
        inputs += [Parameter(name="part"), Parameter(name="parts")]
        outputs = [value("trial", "trials/{{inputs.parameters.part}}.json")]
    if stage.name == "train":
        arguments = [f"--trials={WORK}/trials.json"]
        inputs.append(file("trials", "trials.json"))
    if stage.pure:
        inputs.append(Parameter(name="prepared"))
        cache = Cache(config_map=LocalObjectReference(name="train-model-cache"))
        more["memoize"] = Memoize(key=f"{stage.name}-{{{{inputs.parameters.prepared}}}}", max_age="168h", cache=cache)
    # Where the cluster is full, serving takes its place; and so many of all trainings run at the same time.
    more["priority_class_name"] = "training"
    more["synchronization"] = Synchronization(
        semaphores=[SemaphoreRef(config_map_key_ref=ConfigMapKeySelector(name="settings", key="training-pods"))]
    )
    return step(
        stage.name, "train", stage.name, f"--work={WORK}", *arguments,
        minutes=60, resources=LARGE, secrets=("mlflow-workflows",), inputs=inputs, outputs=outputs, **more,
    )  # fmt: skip


def task(stage: Stage) -> Task:
    """The step's place in the graph: after all those that make what it takes."""
    given: list[Any] = [
        Artifact(name=item, from_=f"{{{{tasks.{MAKER[item]}.outputs.artifacts.{item}}}}}") for item in stage.takes
    ]
    before = dict.fromkeys([*(MAKER[item] for item in stage.takes), *([stage.after] if stage.after else [])])
    more: dict[str, Any] = {}
    if stage.name == "data":
        given += [Parameter(name=name, value=f"{{{{inputs.parameters.{name}}}}}") for name in ASKED]
    if stage.name == "search":
        given += [
            Parameter(name="part", value="{{item}}"),
            Parameter(name="parts", value="{{inputs.parameters.trials}}"),
        ]
        more["with_sequence"] = Sequence(count="{{inputs.parameters.trials}}")
    if stage.name == "train":
        given.append(RawArtifact(name="trials", data="{{tasks.search.outputs.parameters.trial}}"))
    if stage.pure:
        given.append(Parameter(name="prepared", value="{{tasks.data.outputs.parameters.prepared}}"))
    return Task(name=stage.name, template=stage.name, arguments=given, dependencies=list(before) or None, **more)


def graph() -> DAG:
    """From data to the environment's next version."""
    inputs = [Parameter(name=name) for name in (*ASKED, "environment", "image")]
    with DAG(name="train-model", inputs=inputs) as dag:
        for stage in STAGES:
            task(stage)
        run = Parameter(name="run", value="{{tasks.data.outputs.parameters.run-id}}")
        Task(name="judge", template="judge", arguments=[run], dependencies=["finish"])
        found = RawArtifact(name="judged", data="{{tasks.judge.outputs.parameters.judged}}")
        Task(name="register", template="register", arguments=[run, found], dependencies=["judge"])
        version = Parameter(name="version", value="{{tasks.register.outputs.parameters.version}}")
        same = [
            Parameter(name=name, value=f"{{{{inputs.parameters.{name}}}}}")
            for name in ("model", "environment", "image")
        ]
        Task(name="promote", template_ref=ref("promote-model"), arguments=[version, *same], dependencies=["register"])
    return dag


def ended() -> DAG:
    """However it ended, the MLflow run says so; if badly, an alert does."""
    with DAG(name="ended") as dag:
        Task(name="report", template="report", arguments={"model": "{{workflow.parameters.model}}"})
        Task(
            name="alert",
            template_ref=ref("report", "alert"),
            arguments=FAILURE,
            when="{{workflow.status}} != Succeeded",
        )
    return dag


with WorkflowTemplate(
    **workflow(
        "train-model",
        minutes=240,
        arguments=[
            Parameter(name="model"),
            setting("environment"),
            # Without one: the image that the environment serves with now.
            Parameter(name="image", value=""),
            Parameter(name="sample", value="1.0"),
            Parameter(name="trials", value="10"),
            # Without one: <model>/training.
            Parameter(name="experiment", value=""),
            Parameter(name="seed", value="0"),
        ],
        parallelism=4,
        # Not a hook like the others': a template of the Workflow's own knows `workflow.failures` only here.
        on_exit="ended",
        hooks=None,
    )
) as WORKFLOW:
    graph()
    ended()
    for one in STAGES:
        pod(one)
    # Opens the model and makes the rows anew; it has no key, and what it finds is a text.
    promotion(
        "judge",
        "judge",
        "--run={{inputs.parameters.run}}",
        f"--out={WORK}/judged.json",
        minutes=30,
        resources=LARGE,
        service_account_name="judge",
        inputs=[Parameter(name="run")],
        outputs=[value("judged", "judged.json")],
    )
    promotion(
        "register",
        "register",
        "--run={{inputs.parameters.run}}",
        f"--judged={WORK}/judged.json",
        f"--version-file={WORK}/version",
        minutes=20,
        store="object-store",
        env=(Env(name="PROMOTION_SIGNING_KEY", value="/etc/signing-key/signing-key.pem"),),
        # The one pod that sees the private key, and that is this account. It opens neither model nor rows.
        service_account_name="register",
        volumes=(SecretVolume(name="signing-key", secret_name="signing-key", mount_path="/etc/signing-key"),),
        inputs=[Parameter(name="run"), file("judged", "judged.json")],
        outputs=[value("version", "version")],
    )
    step(
        "report",
        "train",
        "report",
        "--model={{inputs.parameters.model}}",
        "--workflow={{workflow.namespace}}/{{workflow.name}}",
        "--status={{workflow.status}}",
        secrets=("mlflow-workflows",),
        inputs=[Parameter(name="model")],
    )
