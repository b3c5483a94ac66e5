"""What a round of `reconcile` sees: each side is asked once for all models, and what stands still is passed over."""

from collections.abc import Callable, Mapping
from functools import cached_property

from plumbline.core.errors import PlumblineError
from plumbline.promotion.delivery.cluster import Cluster, Running
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import Version


class Seen:
    """Cluster and registry at one moment; of all models by one listing each, or of the few that are named."""

    def __init__(self, registry: Registry, cluster: Cluster | None, models: list[str]) -> None:
        self._registry, self._cluster, self._named = registry, cluster, models
        self._versions: dict[str, list[Version]] | None = {} if models else None
        self._down: PlumblineError | None = None

    @cached_property
    def _rollouts(self) -> Mapping[str, Callable[[], Running]]:
        return self._cluster.models() if self._cluster is not None else {}

    def running(self, model: str) -> Running | None:
        """The model's Rollout; None where there is none, or no cluster is asked."""
        if self._named:
            return self._cluster.running(model) if self._cluster is not None else None
        return self._rollouts[model]() if model in self._rollouts else None

    def versions(self, model: str) -> list[Version]:
        """`Registry.versions`, asked for when the first model needs it: a rollback waits for no registry."""
        versions = self._all()
        if self._named and model not in versions:
            versions[model] = self._registry.versions(model)
        return versions.get(model, [])

    def models(self, environment: str) -> set[str]:
        """Models that have a Rollout, or a finished version that carries the environment's alias."""
        return {*self._rollouts, *self.served(environment)}

    def served(self, environment: str) -> list[str]:
        """Models of which a finished version carries the environment's alias, sorted."""
        carries = ((model, item) for model, versions in self._all().items() for item in versions)
        return sorted({model for model, item in carries if "semver" in item.tags and environment in item.aliases})

    def _all(self) -> dict[str, list[Version]]:
        if self._down is not None:  # said once a round: each model would wait for it anew
            raise self._down
        if self._versions is None:
            try:
                self._versions = self._registry.everything()
            except PlumblineError as error:
                self._down = error
                raise
        return self._versions


class Quiet:
    """Models of which the last round had nothing to say: passed over until git, cluster or registry say another thing.

    What none of these shows (a forge's reviews, a report that somebody deleted) is looked at when the process begins.
    """

    def __init__(self) -> None:
        self._commit = ""
        self.moved = False
        """Whether the branch has moved since its pull requests were all looked at."""
        self._models: dict[str, tuple[Running | None, list[Version]]] = {}

    def begin(self, tree: Checkout) -> None:
        """Forget the models that commits since the last round may be about."""
        before, self._commit = self._commit, tree.head()
        self.moved |= before != self._commit
        if not self._models or before == self._commit:
            return
        # A branch that was set back has another past as well, which rollbacks and approvals are read from.
        forward = tree.git("merge-base", "--is-ancestor", before, self._commit, check=False).code == 0
        listed = tree.git("diff", "--name-only", "--no-renames", before, self._commit).text if forward else ""
        changed = [name.split("/") for name in listed.split("\n")]
        if not forward or ["policies"] in (name[:1] for name in changed):
            self._models.clear()
        for name in changed:
            if name[0] == "clusters" and name[2:3] == ["models"]:
                self._models.pop("".join(name[3:4]), None)

    def still(self, model: str, running: Running | None, versions: Callable[[str], list[Version]]) -> bool:
        """Whether it is as it was; the registry is asked for it only where the cluster says the same."""
        known = self._models.get(model)
        return known is not None and known[0] == running and known[1] == versions(model)

    def note(self, model: str, seen: tuple[Running | None, list[Version]] | None) -> None:
        """Keep what was seen of a model that needs nothing; None for one that does."""
        self._models.pop(model, None)
        if seen is not None:
            self._models[model] = seen
