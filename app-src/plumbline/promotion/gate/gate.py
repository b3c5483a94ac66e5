"""The gate: gathers what git, the registry and the artifact say, and applies the rules. Reads only, never writes."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError
from tabulate import tabulate

from plumbline.core import documents
from plumbline.core.digests import sha256
from plumbline.core.errors import Inconclusive, Refused
from plumbline.core.names import SemVer, plain_line, plain_name
from plumbline.core.release import Release
from plumbline.promotion.delivery.approval import Given, Wanted, read_approvers, require_approval
from plumbline.promotion.delivery.documents import dump, gate_name, policy_path
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.past import past
from plumbline.promotion.delivery.records import read_barred, read_policy, read_served, require_environment
from plumbline.promotion.gate import expected, lineage
from plumbline.promotion.gate.evaluation import Evaluation, read_evaluation
from plumbline.promotion.gate.integrity import require_registered
from plumbline.promotion.gate.measured import Comparer, Measured
from plumbline.promotion.gate.rules import Evidence, Standing, judge
from plumbline.promotion.gate.verdict import Outcome, Verdict, worst
from plumbline.promotion.policy import Rules
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import ROWS_OF, Version
from plumbline.promotion.settings import Settings


@dataclass(frozen=True)
class Request:
    """What somebody wants an environment to serve."""

    model: str
    version: str
    environment: str
    image: str | None = None
    """None where only the model is judged."""
    again: str = ""
    pull_request: bool = False
    awaiting: bool = False
    """Whether the approval is still to come."""

    def __post_init__(self) -> None:
        # These become paths and branch names: nothing but the three plain shapes gets that far.
        plain_name(self.model, "model", like="flights")
        plain_name(self.environment, "environment", like="staging")
        SemVer.parse(self.version)
        if self.again:  # it stands in the commit's message
            plain_line(self.again, "--again")


@dataclass(frozen=True)
class Judgement:
    """A gate's report; its digest stands in release.yaml as the evidence."""

    model: str
    version: str
    digest: str
    environment: str
    image: str
    champion: str
    """Version and digest of what the environment serves, or empty."""
    policy: str
    """Digest of the policy's text."""
    verdicts: tuple[Verdict, ...]
    slices: str = ""
    """The paired test of each slice, as a Markdown table."""
    evidence: str = ""
    """The text of evidence.yaml, which promotion writes beside release.yaml."""

    @property
    def outcome(self) -> Outcome:
        """The worst verdict."""
        return worst(self.verdicts)

    def to_json(self) -> str:
        """The stored text: equal judgements are equal bytes."""
        return json.dumps({"kind": "GateReport", "outcome": self.outcome} | asdict(self), indent=2) + "\n"

    def sha256(self) -> str:
        """`sha256:…` of the stored text."""
        return sha256(self.to_json())

    def table(self) -> str:
        """A Markdown table that is also readable as it is; what to do follows below it."""
        head = ("rule", "value", "limit", "verdict")
        rows = [(item.rule, item.value, item.limit, item.outcome) for item in self.verdicts]
        cells = [[cell.replace("|", "/").replace("\n", " ") for cell in row] for row in rows]
        table = tabulate(cells, head, tablefmt="github", disable_numparse=True)
        fixes = [f"- {item.rule}: {item.fix}" for item in self.verdicts if item.fix]
        return "\n".join([table, *(["", *fixes] if fixes else []), *(["", self.slices] if self.slices else [])])

    def require(self) -> None:
        """Raise Refused or Inconclusive unless every rule passed."""
        if self.outcome == "pass":
            return
        names = "; ".join(
            f"{item.rule}: {item.value} ({item.limit})" for item in self.verdicts if item.outcome == self.outcome
        )
        error = Refused if self.outcome == "refused" else Inconclusive
        raise error(f"the gate of {self.environment} says {self.outcome} to {self.model} {self.version}: {names}")


@dataclass
class Candidate:
    """A version under judgement. What is costly is measured once, however often git moves meanwhile."""

    registry: Registry
    settings: Settings
    version: Version
    folder: Path
    _tests: dict[tuple[str, ...], Measured] = field(default_factory=dict)
    _evidence: dict[str, Evidence] = field(default_factory=dict)
    _kept: set[str] = field(default_factory=set)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The run's artifacts as they are now."""
        return read_evaluation(self.registry, self.version.run, self.version.model, self.folder)

    @cached_property
    def integrity(self) -> str:
        """Why the artifacts are not what was registered and signed; empty where they are."""
        try:
            require_registered(self.registry, self.settings, self.version, self.evaluation)
        except Refused as refusal:
            return str(refusal)
        return ""

    def evidence(self, rules: Rules) -> Evidence:
        """The measurements that rules ask for, on the artifact as it is now."""
        key = rules.model_dump_json()
        if key not in self._evidence:
            evaluation, seed = self.evaluation, rules.champion.seed
            self._evidence[key] = Evidence(
                report=evaluation.report,
                metrics=evaluation.metrics(seed),
                slices=evaluation.slices(rules.slices, seed),
                without_views=evaluation.without_views(rules.without_views, seed),
                parity=evaluation.parity(rules.parity.rows),
                p95_ms=evaluation.p95_ms(),
                peak_mb=evaluation.peak_mb(),
                bytes=evaluation.bundle.bytes,
                card=evaluation.card,
                card_rendered={"card.md", "card.html"} <= self.registry.names(self.version.run, "card").keys(),
                code_dirty=self.version.tags.get("code.dirty", "").lower() not in ("", "false"),
                integrity=self.integrity,
                rows_of=self.version.tags.get(ROWS_OF, ""),
            )
        return self._evidence[key]

    def measured(self, served: Release | None, recent: tuple[Release, ...], rules: Rules) -> Measured:
        """The paired tests against what is served, what was before it, the baseline and a constant."""
        key = (*(release.spec.artifact.digest for release in (served, *recent) if release), rules.model_dump_json())
        if key not in self._tests:
            comparer = Comparer(self.registry, self.version, self.evaluation, self.folder, rules)
            self._tests[key] = comparer.measure(served, recent)
        return self._tests[key]

    def keep(self, judgement: Judgement) -> None:
        """Store a report beside the run before git names its digest; equal reports are written once."""
        if judgement.sha256() in self._kept:
            return
        path = self.folder / gate_name(judgement.environment, judgement.version, judgement.sha256())
        path.write_text(judgement.to_json(), encoding="utf-8")
        self.registry.upload(self.version.run, path, "gate")
        self._kept.add(judgement.sha256())

    def wanted(self, request: Request) -> Wanted:
        """What is to be approved; raises Refused where no release could be made of it."""
        if request.image is None:
            raise Refused("none is looked for without --image: an approval is of one image")
        try:
            return Wanted(
                environment=request.environment,
                model=self.version.model,
                version=request.version,
                artifact=self.version.digest,
                threshold=self.version.threshold,
                image=request.image,
            )
        except ValidationError as error:
            raise Refused(documents.worded(error)) from error

    def approval(self, tree: Checkout, request: Request) -> Given:
        """The approval of what is asked for that stands now; raises Refused where there is none."""
        settings = self.settings
        promoter = dict.fromkeys((settings.author_name, settings.author_email), "promotes it")
        persons = {**promoter, **self.registry.trainers(self.version)}
        return require_approval(tree, self.wanted(request), datetime.now(UTC), persons)


@contextmanager
def candidate(registry: Registry, settings: Settings, model: str, version: str) -> Iterator[Candidate]:
    """A version of the registry and a temporary folder for its artifacts."""
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        yield Candidate(registry, settings, registry.find(model, version), Path(folder))


def examine(tree: Checkout, request: Request, subject: Candidate) -> Judgement:
    """Judge a candidate by the clone as it stands now.

    Raises Refused where git has no place for it, DocumentError where the gate names what the model does not have.
    """
    require_environment(tree, request.environment)
    if not tree.is_folder(folder := f"clusters/{request.environment}/models/{request.model}"):
        raise Refused(f"{folder}/ is not in git: add canary.yaml and kustomization.yaml as other models have them")
    policy, version = read_policy(tree, request.model), subject.version
    if request.environment not in policy.spec.environments:
        names = sorted(policy.spec.environments)
        raise Refused(f"{policy_path(request.model)}: no environment {request.environment!r} in it, only {names}")
    documents.require(policy.faults(subject.evaluation.subject), policy_path(request.model))
    environment = policy.spec.environments[request.environment]
    rules = policy.spec.rules_of(request.environment)
    served = read_served(tree, request.environment, request.model)
    image_digest = (request.image or "").rpartition("@")[2]
    approved, unapproved = _approved(tree, request, subject) if environment.approval else ("", "")
    records = lineage.records(tree, subject.registry, version, subject.evaluation.bundle.weights, image_digest)
    barred = [record for record in records if request.environment not in (record.stays or ())]
    standing = Standing(
        version=SemVer.parse(request.version),
        lifecycle=version.lifecycle,
        rejected=version.rejected,
        # One that stands before one that was lifted: an override of the model lifts nothing from the image.
        barred=min(barred, key=lambda record: record.override is not None, default=None),
        digest=version.digest,
        image=request.image,
        approved=approved,
        unapproved=unapproved,
        served=None if served is None else SemVer.parse(served.spec.version),
        served_before=_moved_away(tree, request.environment, request.model, version.digest, served),
        again=request.again,
        defined=tree.is_folder(f"app-src/models/{request.model}"),
        after_done=environment.after is None
        or (version.proved(environment.after) and any(_named(tree, environment.after, request.model, version.digest))),
    )
    measured = subject.measured(served, _recent(tree, request, version.digest, served, rules.champion.recent), rules)
    comparable = not isinstance(measured.comparisons.fault, Refused | Inconclusive)
    evidence = expected.evidence(subject.evaluation, request.version, measured.expected) if comparable else None
    policy_text = tree.read(policy_path(request.model)) or ""
    return Judgement(
        model=request.model,
        version=request.version,
        digest=version.digest,
        environment=request.environment,
        image=request.image or "",
        champion="" if served is None else f"{served.spec.version} {served.spec.artifact.digest}",
        policy=sha256(policy_text),
        verdicts=judge(rules, environment, subject.evidence(rules), standing, measured.comparisons),
        slices=measured.comparisons.slice_table(rules.slice_test[1], 1 - rules.champion.confidence),
        evidence=dump(evidence) if evidence is not None else "",
    )


def _approved(tree: Checkout, request: Request, subject: Candidate) -> tuple[str, str]:
    """(who approved it, or is to; why nobody did)."""
    if request.awaiting:
        return "still to come", ""
    try:
        return str(subject.approval(tree, request)), ""
    except Refused as refusal:
        if request.pull_request and read_approvers(tree).reviews:
            return "whoever reviews the pull request", ""
        return "", str(refusal)


def _named(tree: Checkout, environment: str, model: str, digest: str) -> Iterator[str]:
    """Commits whose release.yaml served a digest, newest first; one that stands in a comment was not served."""
    for entry in past(tree, environment, model, lambda _: None):
        if entry.release.spec.artifact.digest == digest:
            yield entry.commit


def _recent(tree: Checkout, request: Request, digest: str, served: Release | None, count: int) -> tuple[Release, ...]:
    """The newest releases before the one that is served that nobody barred, each of other bytes."""
    passed = {digest, *([served.spec.artifact.digest] if served is not None else [])}
    recent: list[Release] = []
    for entry in past(tree, request.environment, request.model, lambda _: None):
        artifact = entry.release.spec.artifact.digest
        if len(recent) == count:
            break
        if artifact not in passed and read_barred(tree, request.model, artifact) is None:
            recent.append(entry.release)
        passed.add(artifact)
    return tuple(recent)


def _moved_away(tree: Checkout, environment: str, model: str, digest: str, served: Release | None) -> str:
    """The newest commit that served a digest which is not served now, or empty."""
    if served is not None and served.spec.artifact.digest == digest:
        return ""
    return next(_named(tree, environment, model, digest), "")
