"""One step towards git, cluster and registry saying the same of a model. Level-triggered: late or twice does no harm.

| the Rollout of what git names | the step |
| --- | --- |
| (git names what is barred) | back to what is stable, whoever committed it |
| is not there yet, has not seen it, or is on its way | wait |
| paused by an inconclusive analysis | wait for a person; nothing is promoted |
| aborted, an analysis failed | back to stable in one commit; barred is what alone differs from stable (cause.py) |
| aborted without a verdict (never ready, no metrics) | back to stable; nothing is barred |
| aborted, and the release is stable | nothing but an alert: the pods were changed around it |
| Healthy | the registry follows what is stable: alias and life cycle |

Where git names none any more: wait until Argo CD has taken the Rollout away, then the registry follows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from plumbline.core.errors import PlumblineError
from plumbline.core.release import Release
from plumbline.promotion.delivery.cause import cause_of, is_configuration
from plumbline.promotion.delivery.cluster import Cluster, Running, Served
from plumbline.promotion.delivery.follow import sync, unjudged
from plumbline.promotion.delivery.git import Checkout, checkout
from plumbline.promotion.delivery.records import read_served, require_environment
from plumbline.promotion.delivery.rollback import Warn, take_back, take_out
from plumbline.promotion.delivery.state import bar_of, forbidden, unapproved
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings


@dataclass(frozen=True, slots=True)
class Views:
    """What the three say about one model in one environment."""

    git: Release | None
    cluster: Running | None
    registry: str
    """The version that carries the environment's alias, or empty."""

    @property
    def agree(self) -> bool:
        """Whether all three name one release, and it is up; or all three none."""
        if self.git is None:
            return self.cluster is None and not self.registry
        cluster, served = self.cluster, Served.of(self.git)
        up = cluster is not None and cluster.phase == "Healthy" and served == cluster.wanted == cluster.stable
        return up and self.registry == self.git.spec.version


class Step(NamedTuple):
    """One thing that `reconcile` did for a model, found, or could not do."""

    model: str
    environment: str
    did: str


def models_of(tree: Checkout, environment: str) -> list[str]:
    """Models that git says the environment serves."""
    return [path.split("/")[3] for path in tree.names(f"clusters/{environment}", "models/*/release.yaml")]


def views(tree: Checkout, cluster: Cluster | None, registry: Registry, environment: str, model: str) -> Views:
    """Ask git, cluster and registry."""
    release = read_served(tree, environment, model)
    named = [str(item.semver) for item in registry.versions(model) if item.semver and environment in item.aliases]
    return Views(release, cluster.running(model) if cluster else None, ", ".join(named))


def reconcile(
    registry: Registry,
    settings: Settings,
    cluster: Cluster,
    environment: str,
    models: list[str],
    warn: Callable[[str, str], None] = lambda *_: None,
) -> Iterator[Step]:
    """Do the one next step for each model, every one that git or the registry names if none is given.

    Yields each thing done. Raises the last error at the end, so that one model does not wait for another. `warn` is
    told (model, text) of what a person must mend: a canary that failed although its release is innocent.
    """
    failed: PlumblineError | None = None
    with checkout(settings) as tree:
        require_environment(tree, environment)
        for model in models or _reconciled(registry, tree, environment):
            try:
                for line in _step(registry, settings, cluster, tree, environment, model, partial(warn, model)):
                    yield Step(model, environment, line)
            except PlumblineError as error:
                yield Step(model, environment, str(error))
                failed = error
    if failed is not None:
        raise failed


def _reconciled(registry: Registry, tree: Checkout, environment: str) -> Iterator[str]:
    """Git's models first: they do not wait for a registry that is down."""
    in_git = models_of(tree, environment)
    yield from in_git
    yield from (model for model in registry.models_with(environment) if model not in in_git)


def _step(
    registry: Registry, settings: Settings, cluster: Cluster, tree: Checkout, environment: str, model: str, warn: Warn
) -> Iterator[str]:
    # Git and cluster come first: a rollback is committed even while the registry is down.
    release, running = read_served(tree, environment, model), cluster.running(model)
    if release is None:
        if running is not None:
            yield "git names none: waiting for Argo CD to take it out of the cluster"
        else:
            yield from sync(registry, tree, model, {environment: None})
        return
    version, stable = release.spec.version, running.stable if running is not None else None
    seen = running is not None and running.wanted == Served.of(release) and running.phase != "Unseen"
    # A cluster with nothing stable, such as one that was built anew, does not say what the environment has proved.
    if bar_of(tree, environment, release, stable.digests if stable is not None else None) is not None:
        # Whoever committed it, and whether or not the cluster has it yet.
        yield from take_out(settings, environment, release, stable)
        tree.refresh()
    elif running is None or not seen:
        yield f"{version}: waiting for Argo CD to hand it to the cluster"
    elif running.failure is not None:
        yield from take_back(settings, environment, release, running, running.failure, warn)
        tree.refresh()
    elif running.phase != "Healthy":
        what = ", canary of a configuration change" if is_configuration(running) else ""
        yield f"{version}: {running.phase} at {running.weight} %{what} {running.message}".rstrip()
    yield from _objections(registry, tree, environment, model)
    # What is stable is a fact; what git and a canary intend is none.
    now = read_served(tree, environment, model)
    settled = (running is not None and running.phase == "Healthy") or (now is not None and Served.of(now) == stable)
    yield from sync(registry, tree, model, {environment: stable} if settled and stable is not None else {})


def _objections(registry: Registry, tree: Checkout, environment: str, model: str) -> Iterator[str]:
    """What is against the release that git names by now and is not taken back by itself."""
    release = read_served(tree, environment, model)
    if release is not None:
        for reason in (*unapproved(tree, environment, release), *unjudged(registry, environment, release)):
            yield f"{release.spec.version}: differ, {reason}"


class Status(NamedTuple):
    """What the three say of a model, in words; `-` for nothing."""

    model: str
    git: str
    cluster: str
    registry: str
    verdict: str
    """`agree`, `differ`, or `barred` where git names what may not be served."""
    reason: str
    """Why they do not agree, as far as one of them says it."""


def status(
    registry: Registry, settings: Settings, cluster: Cluster | None, environment: str, models: list[str]
) -> list[Status]:
    """The three side by side; git and registry alone where no cluster is given.

    On every model that one of them names if none is given: what runs though git forgot it is told too.
    """
    rows = []
    with checkout(settings) as tree:
        require_environment(tree, environment)
        running = cluster.models() if cluster else []
        asked = models or sorted({*models_of(tree, environment), *running, *registry.models_with(environment)})
        for model in asked:
            view = views(tree, cluster, registry, environment, model)
            in_git = _short(Served.of(view.git)) if view.git is not None else "-"
            in_cluster = _described(view.cluster) if cluster else "not asked"
            reasons = list(_reasons(tree, view, registry, environment))
            verdict = _verdict(tree, view, environment, bool(cluster), reasons)
            rows.append(Status(model, in_git, in_cluster, view.registry or "-", verdict, "; ".join(reasons)))
    return rows


def _reasons(tree: Checkout, view: Views, registry: Registry, environment: str) -> Iterator[str]:
    """What is against the release that git names, and what a canary is that is none of a release."""
    release, running = view.git, view.cluster
    if release is None:
        return
    yield from forbidden(tree, environment, release)
    yield from unjudged(registry, environment, release)
    if running is not None and is_configuration(running):
        aborted = f", {running.failure.metric or 'never ready'}: {running.failure.reason}" if running.failure else ""
        cause = cause_of(tree, environment, release, running, lambda _: None)
        commit = f"; the pods were changed by {cause.commits[0]}" if cause.commits else ""
        yield f"canary of a configuration change{aborted}{commit}"


def _verdict(tree: Checkout, view: Views, environment: str, asked: bool, reasons: list[str]) -> str:
    if view.git is not None and bar_of(tree, environment, view.git) is not None:
        return "barred"
    agree = view.agree if asked else view.registry == (view.git.spec.version if view.git else "")
    return "agree" if agree and not reasons else "differ"


def _short(served: Served) -> str:
    return f"{served.version} {served.digest.removeprefix('sha256:')[:12]}"


def _described(running: Running | None) -> str:
    if running is None:
        return "-"
    stable = _short(running.stable) if running.stable else "-"
    canary = f", {running.wanted.version} at {running.weight} %" if running.wanted != running.stable else ""
    return f"{stable}{canary} {running.phase}"
