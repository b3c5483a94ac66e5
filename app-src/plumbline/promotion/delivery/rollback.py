"""Back to what is stable: the commit that takes a failed release, or one that may not be served, out of an environment.

It concerns one environment. Another one that serves the same keeps what it has proved; a barred digest is promoted
nowhere further.
"""

from collections.abc import Callable, Iterator

from plumbline.core.errors import Refused
from plumbline.core.names import one_line
from plumbline.core.release import Release
from plumbline.promotion.delivery.cause import CONFIGURATION, Cause, cause_of
from plumbline.promotion.delivery.cluster import Failure, Running, Served
from plumbline.promotion.delivery.documents import Barred, Lineage, checked, dump, release_path
from plumbline.promotion.delivery.git import Change, Checkout, Subject, checkout
from plumbline.promotion.delivery.governance import stranded
from plumbline.promotion.delivery.hold import refuse_held
from plumbline.promotion.delivery.past import back_to, gave_up, past
from plumbline.promotion.delivery.proposal import write
from plumbline.promotion.delivery.records import barred_place, read_barred, read_served
from plumbline.promotion.delivery.release_text import move
from plumbline.promotion.delivery.state import bar_of, digests_of, environments_of
from plumbline.promotion.settings import Settings

Warn = Callable[[str], None]


def take_back(
    settings: Settings,
    environment: str,
    failed: Release,
    running: Running,
    failure: Failure,
    warn: Warn,
    lineage: Callable[[str], Lineage | None] = lambda _: None,
) -> Iterator[str]:
    """Undo what an aborted canary of `failed` brought, by what differs from stable; yields what was done, a line each.

    Nothing is done where main names another release by now: a person or another run was faster. `warn` is told of a
    canary that failed though its release is stable; `lineage` tells what else bars a digest.
    """
    work = _TakeBack(environment, failed, running, failure, lineage)
    with checkout(settings) as tree:
        delivered = write(tree, lambda: work.change(tree))
    yield from dict.fromkeys(work.skipped)
    version, reason = failed.spec.version, _line(failure.reason)
    verdict = f"failed {failure.metric} ({reason})" if failure.metric else f"gave no verdict ({reason})"
    cause = work.cause
    if cause is None:
        yield f"{version}: {verdict}; main names another release by now"
    elif not cause.of_release:
        changed = cause.commits[0] if cause.commits else "no commit of this repository: look at what was done by hand"
        text = (
            f"{version}: canary of a {CONFIGURATION} change {verdict}; the release is stable, so nothing is barred or "
            f"taken back. The pods were changed by {changed}: revert or mend that"
        )
        warn(text)
        yield text
    elif delivered is None:
        yield f"{version}: {verdict}; commit none: nothing to go back to"
        yield stranded(environment, failed.model, version)
    elif work.barred:
        yield f"{version}: rejected by {failure.metric} ({reason}); {delivered}"
        if not work.found:
            yield stranded(environment, failed.model, version)
        for other in work.keeping:
            yield f"{other} keeps {version}, which it served before; it is promoted nowhere further"
    elif failure.metric:
        yield f"{version}: given up, {verdict}; none is barred, for {cause} changed; {delivered}"
    else:
        yield f"{version}: given up ({reason}); {delivered}"


def take_out(settings: Settings, environment: str, served: Release, stable: Served | None) -> Iterator[str]:
    """Take a barred release out of an environment, however it came to be there; yields what was done."""
    proved = stable.digests if stable is not None else None
    skipped: list[str] = []
    barred: Barred | None = None

    def change() -> Change | None:
        nonlocal barred
        now = read_served(tree, environment, served.model)
        barred = bar_of(tree, environment, now, proved) if now is not None and now.spec == served.spec else None
        if barred is None:
            return None
        refuse_held(tree, environment, served.model)
        good = back_to(tree, environment, served, stable, past(tree, environment, served.model, skipped.append))
        if good is None:
            return None
        body = f"Barred: {barred.digest}\nFailed: {barred.metric}\nReason: {barred.reason}\n"
        title = f"{served.model}({environment}): {move(served, good.release)}, which is barred"
        subject = Subject("rollback", served.model, served.spec.version, environment)
        return Change({release_path(environment, served.model): good.text}, f"{title}\n\n{body}", subject)

    with checkout(settings) as tree:
        delivered = write(tree, change)
    yield from dict.fromkeys(skipped)
    version = served.spec.version
    if delivered is not None and barred is not None:
        yield f"{version}: taken out, for it is barred for {barred.metric}; {delivered}"
    elif barred is not None:
        yield f"barred, and {stranded(environment, served.model, version)}"


class _TakeBack:
    """One failed canary, judged anew on each newest main."""

    def __init__(
        self,
        environment: str,
        failed: Release,
        running: Running,
        failure: Failure,
        lineage: Callable[[str], Lineage | None],
    ) -> None:
        self._environment, self._failed, self._running, self._failure = environment, failed, running, failure
        self._lineage = lineage
        self.cause: Cause | None = None
        self.skipped: list[str] = []
        self.keeping: tuple[str, ...] = ()
        self.barred = ""
        self.found = False
        """Whether there is a release to go back to."""

    def change(self, tree: Checkout) -> Change | None:
        """The commit to make on the clone as it stands, if any."""
        environment, failed = self._environment, self._failed
        self.cause, self.keeping, self.barred = None, (), ""
        served = read_served(tree, environment, failed.model)
        if served is None or served.spec != failed.spec:
            return None
        refuse_held(tree, environment, failed.model)
        entries = past(tree, environment, failed.model, self.skipped.append)
        self.cause = cause_of(tree, environment, failed, self._running, entries)
        if not self.cause.of_release:
            return None
        good = back_to(tree, environment, failed, self._running.stable, entries)
        files = self._bar(tree) if self._failure.metric else {}
        self.found = good is not None
        if good is not None:
            files[release_path(environment, failed.model)] = good.text
        subject = Subject("rollback", failed.model, failed.spec.version, environment)
        return Change(files, self._message(good.release if good else None), subject) if files else None

    def _bar(self, tree: Checkout) -> dict[str, str]:
        failed, digest = self._failed, self.cause.culprit if self.cause is not None else ""
        if not digest:
            return {}
        self.barred = digest
        recorded = read_barred(tree, failed.model, digest)
        if recorded is not None and recorded.applies(self._environment):
            return {}
        unread = self._others(tree, digest)
        record = checked(
            Barred,
            model=failed.model,
            version=failed.spec.version,
            digest=digest,
            metric=_line(self._failure.metric),
            reason=_line(self._failure.reason),
            stays=(*self.keeping, *unread) or None,
            lineage=self._lineage(digest),
        )
        return {barred_place(tree, failed.model, digest): dump(record)}

    def _others(self, tree: Checkout, digest: str) -> list[str]:
        """Note who else serves a digest; returns those whose file can't be read, which holds up nobody's rollback.

        Whether one of those has proved the digest, its own cluster tells, once the file is mended.
        """
        keeping, unread = [], []
        for name in environments_of(tree, self._failed.model):
            if name == self._environment:
                continue
            try:
                other = read_served(tree, name, self._failed.model)
            except Refused as error:
                unread.append(name)
                self.skipped.append(f"{name} is left as it is: {error}")
                continue
            if other is not None and digest in digests_of(other):
                keeping.append(name)
        self.keeping = tuple(keeping)
        return unread

    def _message(self, good: Release | None) -> str:
        failed, cause, failure = self._failed, self.cause, self._failure
        moved = move(failed, good) if good is not None else f"{failed.spec.version} stays, no earlier release"
        how = f"rejected by {_line(failure.metric)}" if self.barred else "given up"
        lines = [f"Failed: {_line(failure.metric)}"] if failure.metric else []
        lines.append(f"Reason: {_line(failure.reason)}")
        if self.barred:
            lines.append(f"Barred: {self.barred}")
            lines += [f"{name}: keeps {failed.spec.version}, which it served before" for name in self.keeping]
        elif failure.metric:
            lines += ["Not barred: several things changed, or none that has a digest; the next canary tells."]
        else:
            lines.append("Not barred: no analysis judged it.")
        lines += [f"Candidate: {candidate}" for candidate in (cause.differs if cause is not None else ())]
        title = f"{failed.model}({self._environment}): {moved}, {how}"
        return f"{title}\n\n" + "\n".join(lines) + "\n" + gave_up(Served.of(failed))


def _line(text: str) -> str:
    """A cluster's words as one line of a commit message."""
    return one_line(text) or "no reason given"
