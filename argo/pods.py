"""What the Workflows have in common: their pods, and the round of what is served. Each has a file beside this one."""

from typing import Any

from hera.workflows import (
    DAG,
    Artifact,
    Container,
    CronWorkflow,
    EmptyDirVolume,
    Env,
    Parameter,
    Resources,
    RetryStrategy,
    SecretEnvFrom,
    SecretVolume,
    Task,
)
from hera.workflows.env_from import ConfigMapEnvFrom
from hera.workflows.models import (
    Backoff,
    Capabilities,
    ConfigMapKeySelector,
    ExecutorConfig,
    LifecycleHook,
    Metadata,
    PodGC,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    TemplateRef,
    TTLStrategy,
    ValueFrom,
    WorkflowTemplateRef,
)
from hera.workflows.models.io.k8s.apimachinery.pkg.api.resource import Quantity

WORK = "/var/step"
SMALL = Resources(cpu_request="100m", memory_request="512Mi", cpu_limit="1", memory_limit="1Gi")
# Training all flights took 0.95 GB at the most.
LARGE = Resources(cpu_request="500m", memory_request="1Gi", cpu_limit="2", memory_limit="2Gi")

DATABASES = {"mlflow": "mlflow", "mlflow-auth": "mlflow_auth", "predictions": "predictions"}
"""{name in a graph: database}."""

FINAL = "[2, 10, 11]"
"""Exit codes after which trying again is no use: used wrongly, refused, inconclusive (plumbline.core.errors)."""


def workflow(name: str, *, minutes: int, ttl: int = 3 * 86400, **more: Any) -> dict[str, Any]:
    """What every Workflow begins with; when it ends badly, its failures become an alert."""
    return {
        "name": name,
        "entrypoint": name,
        "api_version": "argoproj.io/v1alpha1",
        "labels": {"app.kubernetes.io/part-of": "plumbline"},
        # Steps have no token. The executor beside them has one that may write their results and nothing else.
        "service_account_name": "workflow",
        "automount_service_account_token": False,
        "executor": ExecutorConfig(service_account_name="executor"),
        "security_context": PodSecurityContext(
            run_as_non_root=True,
            run_as_user=10001,
            run_as_group=10001,
            fs_group=10001,
            seccomp_profile=SeccompProfile(type="RuntimeDefault"),
        ),
        "active_deadline_seconds": 60 * minutes,
        "pod_metadata": Metadata(labels={"app.kubernetes.io/part-of": "plumbline"}),
        # A failed pod stays until its Workflow goes, for a look at it.
        "pod_gc": PodGC(strategy="OnPodSuccess", delete_delay_duration="60s"),
        "ttl_strategy": TTLStrategy(seconds_after_success=ttl, seconds_after_failure=14 * 86400),
        "archive_logs": True,
        "hooks": {"exit": hook(ref("report", "ended"), FAILURE | {"status": "{{workflow.status}}"})},
    } | more


def scheduled(name: str, schedule: str, *, late: int = 3600, **more: Any) -> CronWorkflow:
    """What starts the WorkflowTemplate of this name, one after the other; the controller runs no other graph.

    A start that was missed, while no controller ran, is made up for within so many seconds.
    """
    return CronWorkflow(
        name=name,
        api_version="argoproj.io/v1alpha1",
        labels={"app.kubernetes.io/part-of": "plumbline"},
        schedules=[schedule],
        timezone="Etc/UTC",
        starting_deadline_seconds=late,
        concurrency_policy="Forbid",
        workflow_template_ref=WorkflowTemplateRef(name=name),
        **more,
    )


def ref(name: str, template: str = "") -> TemplateRef:
    """A template of another Workflow; unless named, its whole graph."""
    return TemplateRef(name=name, template=template or name)


FAILURE = {"alert": "WorkflowFailed", "subject": "{{workflow.name}}", "text": "{{workflow.failures}}"}


def hook(template: TemplateRef, arguments: dict[str, str]) -> LifecycleHook:
    """What runs when a Workflow or a task has ended."""
    parameters = [{"name": name, "value": text} for name, text in arguments.items()]
    return LifecycleHook(template_ref=template, arguments={"parameters": parameters})


def step(name: str, *arguments: str, **more: Any) -> Container:
    """One pod that runs the platform's command line: `python -m plumbline <arguments>`."""
    return pod(name, "plumbline/platform", ["python", "-m", "plumbline"], *arguments, **more)


def postgres(name: str, command: list[str], *arguments: str, **more: Any) -> Container:
    """One pod with PostgreSQL's own tools, of the server's version: another's may not read what it wrote."""
    return pod(
        name,
        "docker.io/library/postgres:17.6",
        command,
        *arguments,
        minutes=60,
        secrets=("postgresql",),
        service_account_name="backup",
        **more,
    )


def pod(
    name: str,
    image: str,
    command: list[str],
    *arguments: str,
    minutes: int = 10,
    resources: Resources = SMALL,
    secrets: tuple[str, ...] = (),
    env: tuple[Any, ...] = (),
    volumes: tuple[Any, ...] = (),
    **more: Any,
) -> Container:
    """One pod. What it reads and writes lies below /var/step, empty when each try begins: a step can be run again."""
    return Container(
        name=name,
        image=image,
        command=command,
        args=list(arguments) or None,
        env=list(env) or None,
        env_from=[
            ConfigMapEnvFrom(name="services"),
            ConfigMapEnvFrom(name="settings"),
            # docs/secrets.md. In AWS the object store asks for no keys: the pod's account has a role.
            *(SecretEnvFrom(name=item, optional=item in ("object-store", "releases") or None) for item in secrets),
        ],
        resources=resources,
        active_deadline_seconds=60 * minutes,
        # `Always`: a pod that was killed with its node is an error, not a failure.
        retry_strategy=RetryStrategy(
            limit=3,
            retry_policy="Always",
            backoff=Backoff(duration="10s", factor=3),
            expression=f"asInt(lastRetry.exitCode) not in {FINAL}",
        ),
        security_context=SecurityContext(
            allow_privilege_escalation=False, read_only_root_filesystem=True, capabilities=Capabilities(drop=["ALL"])
        ),
        volumes=[
            EmptyDirVolume(name="work", mount_path=WORK, size_limit=Quantity("4Gi")),
            # A volume of the pod's own.
            EmptyDirVolume(name="tmp", mount_path="/tmp", size_limit=Quantity("1Gi")),  # noqa: S108
            *volumes,
        ],
        **more,
    )


def promotion(
    name: str,
    command: str,
    *arguments: str,
    pushes: bool = False,
    store: str = "releases",
    env: tuple[Any, ...] = (),
    volumes: tuple[Any, ...] = (),
    **more: Any,
) -> Container:
    """A pod that reads the registry, releases and git; `pushes`: with git's token; `object-store` writes releases."""
    return step(
        name,
        "promote",
        command,
        *arguments,
        secrets=("mlflow-workflows", "git" if pushes else "git-read", store),
        env=(Env(name="PROMOTION_PUBLIC_KEY", value="/etc/public-key/signing-key.pub"), *env),
        volumes=(SecretVolume(name="public-key", secret_name="public-key", mount_path="/etc/public-key"), *volumes),
        **more,
    )


def served() -> Container:
    """What git says that the environment serves: a list to fan out over, and releases and policies as files."""
    return promotion(
        "served",
        "served",
        "--env={{workflow.parameters.environment}}",
        f"--out={WORK}/git",
        outputs=[value("models", "git/models.json"), file("git", "git")],
    )


def each_served(name: str, *fields: str) -> None:
    """The graph `name`: the template `model` for everything served, with these of its fields and the artifact `git`."""
    with DAG(name=name):
        Task(name="served", template="served")
        Task(
            name="model",
            template="model",
            arguments=[
                *(Parameter(name=field, value=f"{{{{item.{field}}}}}") for field in fields),
                Artifact(name="git", from_="{{tasks.served.outputs.artifacts.git}}"),
            ],
            with_param="{{tasks.served.outputs.parameters.models}}",
            dependencies=["served"],
        )


def file(name: str, path: str) -> Artifact:
    """A file or folder below /var/step that travels between pods by the object store."""
    return Artifact(name=name, path=f"{WORK}/{path}")


def value(name: str, path: str) -> Parameter:
    """A text in a file below /var/step that travels between pods as a parameter."""
    return Parameter(name=name, value_from=ValueFrom(path=f"{WORK}/{path}"))


def setting(name: str) -> Parameter:
    """An argument whose value, unless given, is the environment's own."""
    selector = ConfigMapKeySelector(name="settings", key=name)
    return Parameter(name=name, value_from=ValueFrom(config_map_key_ref=selector))
