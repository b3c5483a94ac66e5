"""One step towards git, cluster and registry saying the same of a model. Level-triggered: late or twice does no harm.

| the Rollout of what git names | the step |
| --- | --- |
| is not there yet, has not seen it, or is on its way | wait |
| paused by an inconclusive analysis | wait for a person; nothing is promoted |
| aborted, an analysis failed | bar the digest and revert the bump, in one commit that names the metric |
| aborted without a verdict (never ready, no metrics) | revert the bump; nothing is barred |
| Healthy | the registry follows: alias and life cycle |

Where git names none any more: wait until Argo CD has taken the Rollout away, then the registry follows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from plumbline.core.errors import PlumblineError
from plumbline.core.release import Release, parse_release
from plumbline.promotion.delivery.cluster import Cluster, Failure, Running, Served
from plumbline.promotion.delivery.documents import release_path
from plumbline.promotion.delivery.follow import sync
from plumbline.promotion.delivery.git import Checkout, checkout
from plumbline.promotion.delivery.governance import bar, digests_of, stranded, take_back
from plumbline.promotion.delivery.records import read_barred, read_served, require_environment
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
    registry: Registry, settings: Settings, cluster: Cluster, environment: str, models: list[str]
) -> Iterator[Step]:
    """Do the one next step for each model, every one that git or the registry names if none is given.

    Yields each thing done. Raises the last error at the end, so that one model does not wait for another.
    """
    failed: PlumblineError | None = None
    with checkout(settings) as tree:
        require_environment(tree, environment)
        for model in models or _reconciled(registry, tree, environment):
            try:
                for line in _step(registry, settings, cluster, tree, environment, model):
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
    registry: Registry, settings: Settings, cluster: Cluster, tree: Checkout, environment: str, model: str
) -> Iterator[str]:
    # Git and cluster come first: a rollback is committed even while the registry is down.
    release, running = read_served(tree, environment, model), cluster.running(model)
    if release is None:
        if running is not None:
            yield "git names none: waiting for Argo CD to take it out of the cluster"
        else:
            yield from sync(registry, tree, model, environment)
        return
    version = release.spec.version
    if running is None or running.wanted != Served.of(release) or running.phase == "Unseen":
        yield f"{version}: waiting for Argo CD to hand it to the cluster"
    elif running.failure is not None:
        yield from _roll_back(settings, environment, release, running.failure)
        tree.refresh()
        yield from sync(registry, tree, model, environment)
    elif running.phase == "Healthy":
        yield from sync(registry, tree, model, environment)
    else:
        yield f"{version}: {running.phase} at {running.weight} % {running.message}".rstrip()


def _roll_back(settings: Settings, environment: str, release: Release, failure: Failure) -> Iterator[str]:
    model, version = release.model, release.spec.version
    if not failure.metric:
        commit = take_back(settings, environment, model, release, failure.reason)
        yield f"{version}: given up ({failure.reason}); commit {commit or 'none: nothing to go back to'}"
        return

    def culprit(newest: Checkout) -> str:
        return _culprit(newest, environment, release)

    done = bar(settings, model, version, culprit, failure.metric, failure.reason)
    yield f"{version}: rejected by {failure.metric} ({failure.reason}); commit {done.commit or 'none'}"
    for left in done.stranded:
        yield stranded(left, model, version)


def _culprit(tree: Checkout, environment: str, failed: Release) -> str:
    """The digest that the failed release brought: the artifact's, or the image's where the artifact was served before.

    Empty where the newest main names another release: a person or another run was faster.
    """
    served = read_served(tree, environment, failed.model)
    if served is None or served.spec != failed.spec:
        return ""
    path = release_path(environment, failed.model)
    earlier = (parse_release(text, source=path) for _, text in tree.history(path))
    before = next((release for release in earlier if release.spec != failed.spec), None)
    artifact, image = digests_of(failed)
    return image if before is not None and digests_of(before)[0] == artifact else artifact


class Status(NamedTuple):
    """What the three say of a model, in words; `-` for nothing."""

    model: str
    git: str
    cluster: str
    registry: str
    verdict: str
    """`agree`, `differ`, or `barred` where git names what may not be served."""


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
            rows.append(Status(model, in_git, in_cluster, view.registry or "-", _verdict(tree, view, cluster)))
    return rows


def _verdict(tree: Checkout, view: Views, cluster: Cluster | None) -> str:
    if view.git is not None:
        records = [read_barred(tree, view.git.model, digest) for digest in digests_of(view.git)]
        if any(record is not None and record.override is None for record in records):
            return "barred"
    agree = view.agree if cluster else view.registry == (view.git.spec.version if view.git else "")
    return "agree" if agree else "differ"


def _short(served: Served) -> str:
    return f"{served.version} {served.digest.removeprefix('sha256:')[:12]}"


def _described(running: Running | None) -> str:
    if running is None:
        return "-"
    stable = _short(running.stable) if running.stable else "-"
    canary = f", {running.wanted.version} at {running.weight} %" if running.wanted != running.stable else ""
    return f"{stable}{canary} {running.phase}"
