"""One step towards git, cluster and registry saying the same of a model. Level-triggered: late or twice does no harm.

| the Rollout of what git names | the step |
| --- | --- |
| (git names what is barred) | back to what is stable, whoever committed it |
| is not there yet, has not seen it, or is on its way | wait |
| paused by an inconclusive analysis | wait for a person; nothing is promoted |
| aborted, an analysis failed | back to stable in one commit; barred is what alone differs from stable (cause.py) |
| aborted without a verdict (never ready, no metrics) | back to stable; nothing is barred |
| aborted, and the release is stable | nothing but an alert: the pods were changed around it |
| (a person holds the model or froze the environment) | nothing is committed; who, why and until when is said |
| Healthy | the registry follows what is stable: alias and life cycle |

Where git names none any more: wait until Argo CD has taken the Rollout away, then the registry follows.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from plumbline.core.documents import DocumentError
from plumbline.core.errors import Accident, PlumblineError, Refused
from plumbline.core.release import Release
from plumbline.promotion.delivery.cause import cause_of, is_configuration
from plumbline.promotion.delivery.cluster import Cluster, Running, Served
from plumbline.promotion.delivery.follow import sync, trainers, unjudged
from plumbline.promotion.delivery.git import Checkout, checkout
from plumbline.promotion.delivery.governance import lineage_of
from plumbline.promotion.delivery.hold import HeldError, held
from plumbline.promotion.delivery.overtaken import close_overtaken
from plumbline.promotion.delivery.past import past
from plumbline.promotion.delivery.records import read_served, require_environment
from plumbline.promotion.delivery.review import unreviewed
from plumbline.promotion.delivery.rollback import Warn, take_back, take_out
from plumbline.promotion.delivery.seen import Quiet, Seen
from plumbline.promotion.delivery.state import bar_of, forbidden, unapproved
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings

ROUND = 60.0
"""Seconds from one round's begin to the next one's."""


class Step(NamedTuple):
    """One thing that `reconcile` did for a model, found, or could not do."""

    model: str
    environment: str
    did: str


def models_of(tree: Checkout, environment: str) -> list[str]:
    """Models that git says the environment serves."""
    return [path.split("/")[3] for path in tree.names(f"clusters/{environment}", "models/*/release.yaml")]


def reconcile(
    registry: Registry,
    settings: Settings,
    cluster: Cluster,
    environment: str,
    models: list[str],
    warn: Callable[[str, str], None] = lambda *_: None,
    lasts: timedelta = timedelta(0),
) -> Iterator[Step]:
    """Do the one next step for each model, every one that git or the registry names if none is given.

    Yields each thing done. Raises the last error at the end, so that one model does not wait for another. `warn` is
    told (model, text) of what a person must mend: a canary that failed although its release is innocent. With `lasts`
    a round is begun each minute for so long, on one clone that fetches what is new; an error ends it.
    """
    due = time.monotonic()
    ends = due + lasts.total_seconds()
    with closing(rounds(registry, settings, cluster, environment, models, warn)) as each:
        for steps in each:
            due += ROUND
            yield from steps
            if due >= ends:
                return
            time.sleep(max(0.0, due - time.monotonic()))


def rounds(
    registry: Registry,
    settings: Settings,
    cluster: Cluster,
    environment: str,
    models: list[str],
    warn: Callable[[str, str], None] = lambda *_: None,
) -> Generator[Iterator[Step]]:
    """The steps of a round, whenever the next one is asked for: on one clone, which fetches what is new in between."""
    quiet = Quiet()
    with checkout(settings) as tree:
        while True:
            yield _round(registry, settings, Seen(registry, cluster, models), quiet, tree, environment, models, warn)
            tree.refresh()


def _round(
    registry: Registry,
    settings: Settings,
    seen: Seen,
    quiet: Quiet,
    tree: Checkout,
    environment: str,
    models: list[str],
    warn: Callable[[str, str], None],
) -> Iterator[Step]:
    failed: PlumblineError | None = None
    require_environment(tree, environment)
    quiet.begin(tree)
    for model in models or _reconciled(seen, tree, environment):
        try:
            running, said = seen.running(model), False
            if quiet.still(model, running, seen.versions):
                continue
            quiet.note(model, None)
            for line in _step(registry, settings, seen, tree, environment, model, running, partial(warn, model)):
                said = True
                yield Step(model, environment, line)
            if not said:
                quiet.note(model, (running, seen.versions(model)))
        except PlumblineError as error:
            yield Step(model, environment, str(error))
            failed = error
    if quiet.moved and settings.forge:
        try:
            yield from (Step(model, environment, did) for model, did in close_overtaken(tree, environment, models))
            quiet.moved = False
        except PlumblineError as error:  # a forge that is away, or refuses, holds up nothing else
            yield Step("pull requests", environment, str(error))
    if failed is not None:
        raise failed


def _reconciled(seen: Seen, tree: Checkout, environment: str) -> Iterator[str]:
    """Git's models first: they do not wait for a registry that is down."""
    in_git = models_of(tree, environment)
    yield from in_git
    yield from (model for model in seen.served(environment) if model not in in_git)


def _step(
    registry: Registry,
    settings: Settings,
    seen: Seen,
    tree: Checkout,
    environment: str,
    model: str,
    running: Running | None,
    warn: Warn,
) -> Iterator[str]:
    # Git and cluster come first: a rollback is committed even while the registry is down.
    release = read_served(tree, environment, model)
    if release is None:
        if running is not None:
            yield "git names none: waiting for Argo CD to take it out of the cluster"
        else:
            yield from sync(registry, tree, model, {environment: None}, seen.versions(model))
        return
    version, stable = release.spec.version, running.stable if running is not None else None
    told = running is not None and running.wanted == Served.of(release) and running.phase != "Unseen"
    # A cluster with nothing stable, such as one that was built anew, does not say what the environment has proved.
    if bar_of(tree, environment, release, stable.digests if stable is not None else None) is not None:
        # Whoever committed it, and whether or not the cluster has it yet.
        yield from _unless_held(version, take_out(settings, environment, release, stable))
        tree.refresh()
    elif running is None or not told:
        yield f"{version}: waiting for Argo CD to hand it to the cluster"
    elif running.failure is not None:
        lineage = partial(lineage_of, registry, settings, model)
        back = take_back(settings, environment, release, running, running.failure, warn, lineage)
        yield from _unless_held(version, back)
        tree.refresh()
    elif running.phase != "Healthy":
        what = ", canary of a configuration change" if is_configuration(running) else ""
        yield f"{version}: {running.phase} at {running.weight} %{what} {running.message}".rstrip()
    versions = seen.versions(model)
    yield from _objections(registry, tree, environment, model, versions)
    # What is stable is a fact; what git and a canary intend is none.
    now = read_served(tree, environment, model)
    settled = (running is not None and running.phase == "Healthy") or (now is not None and Served.of(now) == stable)
    yield from sync(registry, tree, model, {environment: stable} if settled and stable is not None else {}, versions)


def _unless_held(version: str, lines: Iterator[str]) -> Iterator[str]:
    """What was done, or by whose word nothing was."""
    try:
        yield from lines
    except HeldError as hold:
        yield f"{version}: left as it is, for {hold}"


def _objections(
    registry: Registry, tree: Checkout, environment: str, model: str, versions: list[Version]
) -> Iterator[str]:
    """What is against the release that git names by now and is not taken back by itself."""
    release = read_served(tree, environment, model)
    if release is not None:
        for reason in (
            *unapproved(tree, environment, release, persons := trainers(registry, release, versions)),
            *unjudged(registry, environment, release, versions),
        ):
            yield f"{release.spec.version}: differ, {reason}"
        try:
            for reason in unreviewed(tree, environment, release, persons):
                yield f"{release.spec.version}: differ, {reason}"
        except Accident as error:  # who reviewed is not known, which holds up nothing else
            yield f"{release.spec.version}: {error}"


class Status(NamedTuple):
    """What the three say of a model, in words; `-` for nothing."""

    model: str
    git: str
    cluster: str
    registry: str
    verdict: str
    """`agree`, `differ`, `barred` where git names what may not be served, `unknown` where its files can't be read."""
    reason: str
    """Why they do not agree, as far as one of them says it."""


def status(
    registry: Registry, settings: Settings, cluster: Cluster | None, environment: str, models: list[str]
) -> list[Status]:
    """The three side by side; git and registry alone where no cluster is given.

    On every model that one of them names if none is given: what runs though git forgot it is told too.
    """
    with checkout(settings) as tree:
        require_environment(tree, environment)
        seen = Seen(registry, cluster, models)
        asked = models or sorted({*models_of(tree, environment), *seen.models(environment)})
        return [_row(registry, tree, cluster, seen, environment, model) for model in asked]


def _row(
    registry: Registry, tree: Checkout, cluster: Cluster | None, seen: Seen, environment: str, model: str
) -> Status:
    versions = seen.versions(model)
    named = ", ".join(str(item.semver) for item in versions if item.semver and environment in item.aliases)
    in_git, in_cluster = "unreadable", "unreadable" if cluster else "not asked"
    try:
        running = seen.running(model)
        in_cluster = _described(running) if cluster else in_cluster
        release = read_served(tree, environment, model)
        in_git = _short(Served.of(release)) if release is not None else "-"
        reasons = list(_reasons(tree, release, running, registry, versions, environment))
        up = cluster is None or _is_up(release, running)
        verdict = "agree" if up and not reasons and named == (release.spec.version if release else "") else "differ"
        if release is not None and bar_of(tree, environment, release) is not None:
            verdict = "barred"
        if (hold := held(tree, environment, model)) is not None:
            reasons.append(str(hold))  # told, and no reason to differ
    except (Refused, DocumentError) as error:  # of this model: the others' rows are told
        verdict, reasons = "unknown", [str(error)]
    return Status(model, in_git, in_cluster, named or "-", verdict, "; ".join(reasons))


def _is_up(release: Release | None, running: Running | None) -> bool:
    """Whether the cluster has as stable and Healthy what git names, or nothing as git names nothing."""
    if release is None or running is None:
        return release is None and running is None
    return running.phase == "Healthy" and Served.of(release) == running.wanted == running.stable


def _reasons(
    tree: Checkout,
    release: Release | None,
    running: Running | None,
    registry: Registry,
    versions: list[Version],
    environment: str,
) -> Iterator[str]:
    """What is against the release that git names, and what a canary is that is none of a release."""
    if release is None:
        return
    persons = trainers(registry, release, versions)
    yield from forbidden(tree, environment, release, persons)
    yield from unreviewed(tree, environment, release, persons)
    yield from unjudged(registry, environment, release, versions)
    if running is not None and is_configuration(running):
        aborted = f", {running.failure.metric or 'never ready'}: {running.failure.reason}" if running.failure else ""
        entries = past(tree, environment, release.model, lambda _: None)
        cause = cause_of(tree, environment, release, running, entries)
        commit = f"; the pods were changed by {cause.commits[0]}" if cause.commits else ""
        yield f"canary of a configuration change{aborted}{commit}"


def _short(served: Served) -> str:
    return f"{served.version} {served.digest.removeprefix('sha256:')[:12]}"


def _described(running: Running | None) -> str:
    if running is None:
        return "-"
    stable = _short(running.stable) if running.stable else "-"
    canary = f", {running.wanted.version} at {running.weight} %" if running.wanted != running.stable else ""
    return f"{stable}{canary} {running.phase}"
