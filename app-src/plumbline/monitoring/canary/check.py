"""The canaries that answer now, each held against its signed model, and against what the gate expected of it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString, Protocol

from psycopg import Connection

from plumbline.core.errors import Inconclusive, Refused
from plumbline.core.evidence import Expected, parse_evidence
from plumbline.core.ids import floor
from plumbline.core.release import Release
from plumbline.core.values import RowsError
from plumbline.monitoring.canary.expected import Pair, unexpected
from plumbline.monitoring.canary.replay import Logged, Replay, compare, outputs_of, read
from plumbline.promotion.delivery.documents import evidence_path
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.records import read_served
from plumbline.promotion.delivery.releases import releases, served_as
from plumbline.promotion.gate.answers import Answers
from plumbline.scoring.scorer import Scorer

MEMORY = timedelta(hours=2)
"""Older answers are no evidence, as in kustomize/model-server/analysis/verdict.yaml."""
_CANARIES: LiteralString = """
    SELECT DISTINCT ON (model) model, version FROM monitoring.predictions
    WHERE role = 'canary' AND id >= %(low)s ORDER BY model, id DESC"""
_STABLE: LiteralString = """
    SELECT version FROM monitoring.predictions
    WHERE model = %(model)s AND role = 'stable' AND id >= %(low)s ORDER BY id DESC LIMIT 1"""


class Fetch(Protocol):
    """Fetches and verifies a release's model."""

    def __call__(self, release: Release) -> AbstractContextManager[Scorer]:
        """The model, while it is needed."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What one canary's logged answers say."""

    model: str
    version: str
    at: datetime
    replay: Replay
    stable: Replay | None
    """None where stable was not asked at the same time."""
    unexpected: tuple[str, ...]
    """Where it lies further from stable than the gate saw."""
    reason: str = ""
    """Why it could not be held against what the gate saw."""


def canaries(connection: Connection[Any], now: datetime) -> dict[str, str]:
    """{model: the version that answered last as a canary} of those that have lately."""
    return dict(connection.execute(_CANARIES, {"low": floor(now - MEMORY)}).fetchall())


def check(
    connection: Connection[Any], tree: Checkout, environment: str, fetch: Fetch, now: datetime, most: int
) -> Iterator[Checked]:
    """Each canary that has answered lately; one that git has taken out again is left to it."""
    for model, version in canaries(connection, now).items():
        release = read_served(tree, environment, model)
        if release is None or release.spec.version != version:
            continue
        # What an earlier image or configuration of the same version answered is not held against this one.
        begun = next(releases(tree, [model], environment)).since
        since = max(now - MEMORY, datetime.fromisoformat(begun))
        rows = read(connection, model, version, since, most, "canary")
        if rows:
            yield _checked(connection, tree, environment, fetch, release, rows, since, now)


def _checked(
    connection: Connection[Any], tree: Checkout, environment: str, fetch: Fetch, release: Release,
    rows: list[Logged], since: datetime, now: datetime,
) -> Checked:  # fmt: skip
    model, version = release.model, release.spec.version
    newest = connection.execute(_STABLE, {"model": model, "low": floor(since)}).fetchone()
    before = str(newest[0]) if newest else None
    stable_release = release if before == version else _of(tree, environment, model, before)
    of_stable = read(connection, model, before, since, len(rows), "stable") if before else []
    with fetch(release) as new:
        replay = compare(new, rows)
        if stable_release is None:
            return Checked(model, version, now, replay, None, (), "stable was not asked, or git does not know it")
        # A canary of an image or of settings alone has stable's own model.
        with nullcontext(new) if stable_release is release else fetch(stable_release) as old:
            stable = compare(old, of_stable) if of_stable else None
            try:
                expected = _expected(tree, environment, release, stable_release)
                return Checked(model, version, now, replay, stable, tuple(unexpected(_pair(new, old, rows), expected)))
            except (Inconclusive, Refused, RowsError) as error:
                return Checked(model, version, now, replay, stable, (), str(error))


def _of(tree: Checkout, environment: str, model: str, version: str | None) -> Release | None:
    """The release of that version here, else in another environment."""
    if version is None:
        return None
    served = [(since.environment != environment, release) for since, release in served_as(tree, model, version)]
    return min(served, key=lambda item: item[0])[1] if served else None


def _expected(tree: Checkout, environment: str, release: Release, before: Release) -> Expected:
    """What the gate saw between the two; raises Inconclusive where it has not compared them."""
    path = evidence_path(environment, release.model)
    text = tree.read(path)
    spec = parse_evidence(text, source=path).spec if text else None
    if spec is None or spec.artifact != release.spec.artifact.digest or spec.expected is None:
        raise Inconclusive(f"{path} says nothing of {release.spec.version} against another version")
    if spec.expected.artifact != before.spec.artifact.digest:
        raise Inconclusive(f"{path} compares with {spec.expected.version}, stable is {before.spec.version}")
    return spec.expected


def _pair(new: Scorer, old: Scorer, rows: list[Logged]) -> Pair:
    """Raises Inconclusive where the version before can't answer these rows, or with other labels."""
    if new.schema.output.labels != old.schema.output.labels:
        raise Inconclusive("the two versions have different labels")
    logged = {name for row in rows for name in row.features}
    if lacking := [field.name for field in old.schema.fields if field.name not in logged]:
        raise Inconclusive(f"the version before takes {lacking[0]!r}, which no logged row has")
    of_new, of_old = (Answers(outputs_of(one, rows), one.release.spec.threshold) for one in (new, old))
    return Pair(new.schema.output, rows, of_new, of_old)
