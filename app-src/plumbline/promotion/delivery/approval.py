"""Approvals: a person's signed word that an environment may serve one release, kept in git, and who may give it.

`policies/approvers.yaml` names the persons, their public keys and what each may approve. An approval is an in-toto
statement in a DSSE envelope, `policies/approvals/<model>/<environment>-<version>-<image>.json`: of these bytes with
this threshold, in this image, for this environment, after this report of the gate, until a day.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AwareDatetime, Field, ValidationError, field_validator, model_validator

from plumbline.core.documents import DocumentError, Strict, parse, worded
from plumbline.core.dsse import STATEMENT, SignatureError, opened, read_public_keys, signed_by
from plumbline.core.errors import Accident, Refused
from plumbline.core.names import Digest, Line, Name, Version
from plumbline.core.release import Image, Release, parse_release
from plumbline.promotion.delivery.documents import release_path
from plumbline.promotion.delivery.git import Checkout

APPROVERS = "policies/approvers.yaml"
LONGEST = timedelta(days=90)
"""What was read that long ago is read again."""
_SKEW = timedelta(minutes=5)
"""By which clocks may differ."""
_PREDICATE = "https://plumbline.dev/approval/v1"


class Approver(Strict):
    """Somebody who may approve, and by what they are known."""

    id: Line
    """What release.yaml names."""
    environments: Annotated[tuple[Name, ...], Field(min_length=1)]
    models: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """All where none is named."""
    keys: tuple[str, ...] = ()
    """Public halves, PEM, ECDSA P-256: of a file, a hardware key or a KMS. None where only the forge knows them."""
    login: str = ""
    """At the forge, where its reviews are approvals."""
    also: tuple[Line, ...] = ()
    """Other names of theirs, of commits and of MLflow: nobody approves what they made themselves."""
    until: AwareDatetime | None = None
    """When they left: what they approved before stands."""

    @field_validator("keys")
    @classmethod
    def _public(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for key in keys:
            read_public_keys(key.encode())
        return keys

    @property
    def pem(self) -> bytes:
        """All keys."""
        return "\n".join(self.keys).encode()

    def may(self, environment: str, model: str) -> bool:
        """Whether that is theirs to approve."""
        return environment in self.environments and (self.models is None or model in self.models)

    def own(self, persons: Mapping[str, str]) -> str:
        """What they did themselves, by {name: what somebody of that name did}; empty for nothing."""
        mine = {name.casefold() for name in (self.id, self.login, *self.also) if name}
        return next((f"{name} {did}" for name, did in persons.items() if name.casefold() in mine), "")


class Approvers(Strict):
    """`policies/approvers.yaml`."""

    apiVersion: Literal["plumbline.dev/v1"] = "plumbline.dev/v1"
    kind: Literal["Approvers"] = "Approvers"
    reviews: bool = False
    """Whether a review that the forge authenticates, of the pull request of the release, is an approval as well."""
    approvers: tuple[Approver, ...] = ()

    @model_validator(mode="after")
    def _one_person_each(self) -> Self:
        names = [name for item in self.approvers for name in {item.id, item.login} - {""}]
        keys = [key for item in self.approvers for key in read_public_keys(item.pem)] if self.pem else []
        if len(set(names)) != len(names) or len(set(keys)) != len(keys):
            raise ValueError("approvers: an id, a login or a key stands for two persons")
        return self

    @property
    def pem(self) -> bytes:
        """The keys of all."""
        return b"\n".join(item.pem for item in self.approvers if item.keys)


class Wanted(Strict):
    """What an approval is of."""

    environment: Name
    model: Name
    version: Version
    artifact: Digest
    threshold: float | None
    image: Image

    @classmethod
    def of(cls, environment: str, release: Release) -> "Wanted":
        """A release in an environment."""
        spec = release.spec
        return cls(
            environment=environment,
            model=release.model,
            version=spec.version,
            artifact=spec.artifact.digest,
            threshold=spec.threshold,
            image=spec.image,
        )

    @property
    def path(self) -> str:
        """Where git holds its approval."""
        image = self.image.rpartition(":")[2][:12]
        return f"policies/approvals/{self.model}/{self.environment}-{self.version}-{image}.json"


class Approval(Wanted):
    """What is signed."""

    gate: Digest
    """Of the report that the approver's own gate wrote."""
    reason: Line
    at: AwareDatetime
    until: AwareDatetime

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if not timedelta(0) <= self.until - self.at <= LONGEST:
            raise ValueError(f"until: expected a time that is not before `at`, {LONGEST.days} days later at most")
        return self

    def statement(self) -> dict[str, Any]:
        """As in-toto has it: its subjects are the bytes and the image."""
        artifact, (repository, _, image) = self.artifact, self.image.partition("@")
        digests = {self.model: artifact, repository: image}
        return {
            "_type": STATEMENT,
            "subject": [
                {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}} for name, digest in digests.items()
            ],
            "predicateType": _PREDICATE,
            "predicate": self.model_dump(mode="json"),
        }


class Given(NamedTuple):
    """An approval and whose key signed it."""

    by: Approver
    approval: Approval

    def __str__(self) -> str:
        approval = self.approval
        return f"{self.by.id} for {approval.environment} on {approval.at:%Y-%m-%d}: {approval.reason}"


def read_approvers(tree: Checkout) -> Approvers:
    """Who may approve; nobody where git does not say. Raises DocumentError for a file of another shape."""
    text = tree.read(APPROVERS)
    return Approvers() if text is None else parse(text, Approvers, APPROVERS)


def open_approval(text: str, approvers: Approvers, source: str) -> Given:
    """An approval and whose it is; raises Refused with `source` for what is none, or of nobody's key."""
    if not approvers.pem:
        raise Refused(f"{source}: {APPROVERS} names no key, so nobody's signature is believed")
    try:
        envelope = json.loads(text)
        statement = opened(envelope, approvers.pem)
        by = next(item for item in approvers.approvers if item.keys and signed_by(envelope, item.pem))
        approval = Approval.model_validate(statement.get("predicate"))
    except SignatureError as error:
        raise Refused(f"{source} {error}; keys are named in {APPROVERS}") from error
    except ValidationError as error:
        raise Refused(f"{source}: {worded(error)}") from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"{source} is no JSON: {error}") from error
    if statement != approval.statement():
        raise Refused(f"{source} states something else than an approval of its subjects")
    return Given(by, approval)


def read_approval(tree: Checkout, wanted: Wanted) -> Given | None:
    """The approval where git holds it, whatever it is of; None where there is none."""
    text = tree.read(wanted.path)
    return None if text is None else open_approval(text, read_approvers(tree), wanted.path)


def approvals(tree: Checkout, model: str, version: str) -> list[Given]:
    """Every approval of a version by a key that is known, newest first."""
    approvers, given = read_approvers(tree), []
    for name in tree.names("policies/approvals", f"{model}/*-{version}-*.json"):
        try:
            given.append(open_approval(tree.read(name) or "", approvers, name))
        except Refused:
            continue  # said by whoever judges it
    return sorted(given, key=lambda item: item.approval.at, reverse=True)


def require_approval(tree: Checkout, wanted: Wanted, when: datetime | None, persons: Mapping[str, str]) -> Given:
    """The approval of exactly this that stood at a moment, by somebody who did not make it themselves.

    Raises Refused with the reason. `when` is None where nobody can tell the moment: then nothing is called expired.
    `persons` are {name: what somebody of that name did, as "trained it"}.
    """
    given = read_approval(tree, wanted)
    if given is None:
        raise Refused(f"nobody approved it: {wanted.path} is missing")
    require_given(given, wanted, when, persons, wanted.path)
    return given


def require_given(given: Given, wanted: Wanted, when: datetime | None, persons: Mapping[str, str], source: str) -> None:
    """The same of an approval that is at hand; raises Refused with `source`."""
    by, approval = given
    fields = [name for name in Wanted.model_fields if getattr(approval, name) != getattr(wanted, name)]
    if fields:
        differences = ", ".join(f"{name} {getattr(approval, name)}, not {getattr(wanted, name)}" for name in fields)
        raise Refused(f"{source} is of something else: {differences}")
    if not by.may(wanted.environment, wanted.model):
        raise Refused(f"{source}: {by.id} may not approve {wanted.model} in {wanted.environment} ({APPROVERS})")
    if own := by.own(persons):
        raise Refused(f"{source}: {by.id} approves their own work: {own}")
    if approval.at > datetime.now(UTC) + _SKEW:
        raise Refused(f"{source} is dated ahead, {approval.at:%Y-%m-%d %H:%M}: so it could end later than it may")
    if when is not None and when > approval.until:
        raise Refused(f"{source} ended at {approval.until:%Y-%m-%d %H:%M}, before the release was committed")
    if by.until is not None and when is not None and max(when, approval.at) > by.until:
        raise Refused(f"{source}: {by.id} may approve nothing since {by.until:%Y-%m-%d} ({APPROVERS})")


@dataclass(frozen=True, slots=True)
class Begun:
    """When an environment first named a release, and who wrote that commit."""

    at: datetime | None
    """None where the history is not at hand."""
    persons: Mapping[str, str]
    commit: str = ""
    """Of the branch; for a pull request, its merge."""


def begun(tree: Checkout, environment: str, release: Release) -> Begun:
    """The moment by which an approval must have been given: a release that stood once may come back by a rollback.

    The moment is of the branch's own commit, which for a pull request is its merge; what was not committed yet begins
    now. Both are what git says: whoever can write the branch can also write another date.
    """
    path, wanted = release_path(environment, release.model), Wanted.of(environment, release)

    def first(commits: Iterator[tuple[str, str]]) -> str:
        return next(reversed([commit for commit, text in commits if _is(wanted, environment, text)]), "")

    try:
        written = first(tree.history(path))
        if not written:
            return Begun(datetime.now(UTC), {})
        merged = first(tree.history(path, mainline=True)) or written
        at = tree.git("show", "--no-patch", "--format=%cI", merged).text.strip()
        author = tree.git("show", "--no-patch", "--format=%an%n%ae%n%cn%n%ce", written).text.strip().split("\n")
    except Accident:  # no repository, or a shallow one without its remote
        return Begun(None, {})
    return Begun(datetime.fromisoformat(at), dict.fromkeys(author, "committed the release"), merged)


def _is(wanted: Wanted, environment: str, text: str) -> bool:
    try:
        return Wanted.of(environment, parse_release(text)) == wanted
    except DocumentError:
        return False


def problems(tree: Checkout) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) of the approvers and of every approval: its shape, its place, its key."""
    try:
        approvers = read_approvers(tree)
    except DocumentError as error:
        yield APPROVERS, error.reason
        return
    for name in tree.names("policies/approvals", "**/*"):
        if tree.is_folder(name):
            continue
        try:
            given = open_approval(tree.read(name) or "", approvers, name)
        except Refused as refusal:
            yield name, str(refusal).removeprefix(name).removeprefix(": ").strip()
            continue
        if name != given.approval.path:
            yield name, f"what it says belongs into {given.approval.path}, where promotion looks for it"
