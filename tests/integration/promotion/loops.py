"""One model's release in git and a cluster that says what the test told it; git is real."""

from plumbline.core.release import Release
from plumbline.promotion.delivery.cluster import Cluster, Failure, Running, Served
from plumbline.promotion.delivery.reconcile import reconcile, status
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings

from .conftest import Remote
from .releases import made, serve

SLOW = Failure("p95", "failed (1) > failureLimit (0); last value [0.9]")
NEVER_READY = Failure("", "ReplicaSet has timed out progressing")


class Loop:
    """One model's release in git and a cluster that says what the test told it."""

    def __init__(self, remote: Remote, settings: Settings, registry: Registry, model: str) -> None:
        self.remote, self.settings, self.registry, self.model = remote, settings, registry, model
        self.warned: list[str] = []

    def release(self, *arguments: object, **more: object) -> Release:
        return made(self.model, *arguments, **more)  # type: ignore[arg-type]

    def serve(self, release: Release, environment: str = "staging") -> None:
        serve(self.remote, environment, release)

    def served(self, environment: str = "staging") -> Release:
        return self.remote.release(environment, self.model)

    def cluster(
        self,
        stable: Release | None,
        failure: Failure | None,
        environment: str,
        phase: str = "Degraded",
        pods: tuple[str, ...] | None = None,
    ) -> Cluster:
        running = Running(
            wanted=Served.of(self.served(environment)),
            stable=None if stable is None else Served.of(stable),
            phase=phase,
            weight=0,
            message="",
            failure=failure,
            pods=pods,
        )

        class Says(Cluster):
            def running(self, model: str) -> Running:  # noqa: ARG002 - it knows one model
                return running

        return Says()

    def minute(
        self,
        stable: Release | None,
        failure: Failure | None = SLOW,
        environment: str = "staging",
        phase: str = "Degraded",
        pods: tuple[str, ...] | None = None,
    ) -> list[str]:
        """What reconcile did about git, as the cluster is."""
        return self.minute_of(self.cluster(stable, failure, environment, phase, pods), environment)

    def minute_of(self, cluster: Cluster, environment: str = "staging") -> list[str]:
        """The same of a cluster that is at hand."""
        steps = reconcile(self.registry, self.settings, cluster, environment, [self.model], self._warn)
        return [step.did for step in steps if "which the registry does not know" not in step.did]

    def said(self, stable: Release, failure: Failure) -> str:
        (row,) = status(self.registry, self.settings, self.cluster(stable, failure, "staging"), "staging", [self.model])
        return f"{row.verdict}: {row.reason}"

    def barred(self) -> list[str]:
        """The first digits of each digest that is barred."""
        self.remote.pull()
        return sorted(path.stem[:12] for path in self.remote.work.glob("policies/barred/*/*.yaml"))

    def _warn(self, model: str, text: str) -> None:
        self.warned.append(f"{model}: {text}")
