"""A promotion: judged on the newest main, written as one commit, pushed without force."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from plumbline.core.documents import worded
from plumbline.core.errors import PlumblineError, Refused
from plumbline.core.release import Artifact, Evidence, Lineage, Metadata, Release, Spec
from plumbline.promotion.delivery.documents import BY_MERGE, evidence_path, release_path
from plumbline.promotion.delivery.git import Change, Checkout, LostRace, Subject, checkout
from plumbline.promotion.delivery.hold import refuse_held
from plumbline.promotion.delivery.proposal import merges_itself, write
from plumbline.promotion.delivery.records import read_served
from plumbline.promotion.delivery.release_text import edit, move, new_text
from plumbline.promotion.gate.gate import Candidate, Judgement, Request, candidate, examine
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.settings import Settings

How = Literal["dry run", "commit", "pull request"]


@dataclass(frozen=True)
class Outcome:
    """What a promotion did."""

    judgement: Judgement | None
    """None where the environment serves the version already."""
    diff: str
    commit: str
    """Empty where nothing was committed."""
    branch: str
    waiting: str = ""
    """The pull request that is to be merged, in words."""


def promote(registry: Registry, settings: Settings, request: Request, how: How) -> Outcome:
    """Make an environment's release.yaml name a version, or raise and change nothing.

    Whatever git says (policy, champion, barred digests, approvals) is read again on the newest main after each lost
    race, so a version is never committed on the strength of a champion that is no longer served.
    """
    with checkout(settings) as tree, candidate(registry, settings, request.model, request.version) as subject:
        if settings.forge and not merges_itself(tree, request.model, {request.environment}):
            request = replace(request, pull_request=True)  # a person looks at it first
        work = _Promotion(tree, request, subject, how)
        if how == "commit" or (settings.forge and how == "pull request"):
            delivered = write(tree, work.change)
            if delivered is None:
                return Outcome(work.judgement, work.diff, "", "")
            return Outcome(work.judgement, work.diff, delivered.commit, delivered.branch, delivered.waiting)
        change = work.change()
        if change is None or how == "dry run":
            return Outcome(work.judgement, work.diff, "", "")
        branch = f"promote/{request.environment}/{request.model}/{request.version}"
        return Outcome(work.judgement, work.diff, _push_branch(tree, branch, change), branch)


class _Promotion:
    """One request and the last thing that was decided about it."""

    def __init__(self, tree: Checkout, request: Request, subject: Candidate, how: How) -> None:
        self.tree, self.request, self.subject, self.how = tree, request, subject, how
        self._asked = request
        self.judgement: Judgement | None = None
        self.diff = ""

    def change(self) -> Change | None:
        """The commit to make on the clone as it stands; None where it serves the version already."""
        self.judgement, self.diff = None, ""
        self.request = with_image(self.tree, self._asked)
        served = read_served(self.tree, self.request.environment, self.request.model)
        if served is not None and self._is(served):
            return None
        refuse_held(self.tree, self.request.environment, self.request.model)
        self.judgement = examine(self.tree, self.request, self.subject)
        if self.how != "dry run":
            self.judgement.require()
        release = self._release(self.judgement)
        path = release_path(self.request.environment, self.request.model)
        text = self.tree.read(path)
        beside = evidence_path(self.request.environment, self.request.model)
        edited = {path: new_text(release) if text is None else edit(text, release, source=path)}
        message = _message(self.request, served, release, self.judgement)
        # What people read is the release; the evidence beside it is a page of figures.
        self.diff = self.tree.diff(Change(edited, message))
        details = f"## Gate\n\n{self.judgement.table()}\n\nReport: `{self.judgement.sha256()}`"
        about = Subject("promotion", self.request.model, self.request.version, self.request.environment, details)
        files = edited | ({beside: self.judgement.evidence} if self.judgement.evidence else {})
        change = Change(files, message, about)
        if self.how != "dry run":
            self.subject.keep(self.judgement)
        return change

    def _is(self, served: Release) -> bool:
        spec, version = served.spec, self.subject.version
        return (spec.version, spec.artifact.digest, spec.image) == (
            self.request.version,
            version.digest,
            self.request.image,
        )

    def _release(self, judgement: Judgement) -> Release:
        version, tags = self.subject.version, self.subject.version.tags
        try:
            by = self.subject.approval(self.tree, self.request).by.id
        except Refused:  # said by the gate, where one is asked for
            by = BY_MERGE if self.request.pull_request else ""
        try:
            return Release(
                apiVersion="plumbline.dev/v1",
                kind="Release",
                metadata=Metadata(name=version.model, annotations={"config.kubernetes.io/local-config": "true"}),
                spec=Spec(
                    version=self.request.version,
                    image=self.request.image or "",
                    artifact=Artifact(uri=version.released, digest=version.digest, schemaDigest=tags["schema.digest"]),
                    threshold=version.threshold,
                    lineage=Lineage(
                        registryVersion=version.number,
                        run=version.run,
                        code=tags["code.commit"],
                        data=tags["data.digest"],
                        workflow=tags["workflow"],
                    ),
                    evidence=Evidence(gate=judgement.sha256(), approvedBy=by),
                ),
            )
        except ValidationError as error:
            raise Refused(f"{version.model} {self.request.version} makes no legal release: {worded(error)}") from error


def with_image(tree: Checkout, request: Request) -> Request:
    """The request with the image that the environment serves with now, where it names none."""
    if request.image is not None:
        return request
    served = read_served(tree, request.environment, request.model)
    if served is None:
        raise Refused(f"{request.environment} serves no {request.model} yet: name an image with --image")
    return replace(request, image=served.spec.image)


def _message(request: Request, served: Release | None, release: Release, judgement: Judgement) -> str:
    title = f"{request.model}({request.environment}): {move(served, release)}"
    spec = release.spec
    lines = [
        f"Artifact: {spec.artifact.digest}",
        f"Image: {spec.image}",
        f"Run: {spec.lineage.run}",
        f"Code: {spec.lineage.code}",
        f"Data: {spec.lineage.data}",
        f"Gate: {judgement.sha256()} ({len(judgement.verdicts)} rules passed)",
    ]
    if spec.evidence.approvedBy:
        lines.append(f"Approved-by: {spec.evidence.approvedBy}")
    if request.again:
        lines.append(f"Again: {request.again}")
    return title + "\n\n" + "\n".join(lines) + "\n"


def _push_branch(tree: Checkout, branch: str, change: Change) -> str:
    commit = tree.commit(change)
    try:
        tree.push(branch)
    except LostRace as error:
        if tree.git("rev-parse", "--verify", "--quiet", f"origin/{branch}", check=False).code:
            raise
        raise Refused(f"the branch {branch} exists: merge or delete it first; it is never overwritten") from error
    return commit


def card_of(registry: Registry, model: str, version: str) -> str:
    """The stored model card as Markdown."""
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        run = registry.find(model, version).run
        return (registry.download(run, "card", Path(folder)) / "card.md").read_text(encoding="utf-8")


def pull_request(request: Request, outcome: Outcome, card: str) -> str:
    """The description of a pull request, as Markdown."""
    if outcome.judgement is None:
        raise PlumblineError(f"{request.environment} serves {request.model} {request.version} already")
    judgement = outcome.judgement
    return "\n".join(
        [
            f"# {request.model}({request.environment}): serve {request.version}",
            "",
            f"Against {judgement.champion.split(' ')[0] or 'nothing'}, which {request.environment} serves. "
            "Its review approves it, where reviews count; main may have moved since, and git shows a conflict if the "
            "release did.",
            "",
            "## Change",
            "",
            "```diff",
            outcome.diff.rstrip(),
            "```",
            "",
            "## Gate",
            "",
            judgement.table(),
            "",
            f"Report: `{judgement.sha256()}`",
            "",
            "## Model card",
            "",
            # The card's first half, one level down; slices and fields are in the run.
            card.split("\n## Slices")[0].replace("\n## ", "\n### ").replace("# ", "### ", 1),
        ]
    )
