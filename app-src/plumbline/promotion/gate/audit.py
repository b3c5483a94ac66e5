"""A work tree judged before it is merged: what its release.yaml files name must exist, and be what was registered.

A commit of `plumbline promote run` passes by construction. One that was written by hand, or by somebody who should not,
is caught here, by a check that a pull request runs.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from plumbline.core.digests import sha256
from plumbline.core.errors import Accident, Misuse, Refused
from plumbline.core.evidence import parse_evidence
from plumbline.core.release import Release
from plumbline.core.stated import differences
from plumbline.promotion.delivery import approval
from plumbline.promotion.delivery.approval import Wanted, read_approval
from plumbline.promotion.delivery.documents import BY_MERGE, evidence_path, gate_name
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.records import barred_problems, read_policy, read_served
from plumbline.promotion.delivery.state import forbidden
from plumbline.promotion.gate import lineage
from plumbline.promotion.gate.evaluation import read_evaluation
from plumbline.promotion.gate.integrity import require_registered
from plumbline.promotion.gate.rules import repository_of
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings


def audit(
    registry: Registry, settings: Settings, path: Path, since: str = "", warn: Callable[[str], None] = lambda _: None
) -> tuple[list[str], int]:
    """Judge a work tree: (problems, each with its file; files judged).

    A release.yaml as the commit `since` or its first parents had it came through this before: where the registry does
    not answer, `warn` is told of it. So a rollback waits for no registry, and nothing else for one more than it needs.

    Raises Accident where the registry does not answer: what could not be judged has not passed.
    """
    problems, judged, tree = [], 0, Checkout(path.resolve(), settings)
    for name, check in _checks(registry, settings, tree):
        judged += 1
        try:
            check()
        except (Refused, Misuse) as error:
            problems.append(f"{name}: {str(error).removeprefix(f'{name}: ')}")
        except Accident as error:
            if not _stood(tree, since, name):
                raise
            warn(f"{name}: not asked of the registry, as it stood here before: {error}")
    return problems, judged


def _stood(tree: Checkout, since: str, name: str) -> bool:
    """Whether a commit or its first parents had the file byte for byte as it is."""
    if not since:
        return False
    commits = tree.git("log", "--first-parent", "--format=%H", since, "--", name).text.split()
    return any(tree.git("show", f"{commit}:{name}", check=False).text == tree.read(name) for commit in commits)


def _checks(registry: Registry, settings: Settings, tree: Checkout) -> Iterator[tuple[str, Callable[[], None]]]:
    for name in tree.names("policies/promotion", "*.yaml"):
        yield name, partial(_policy, tree, name)
    wrong = dict(approval.problems(tree))
    approvals = tree.names("policies/approvals", "*/*")
    for name in [*([approval.APPROVERS] if tree.read(approval.APPROVERS) is not None else []), *approvals]:
        yield name, partial(_refuse, wrong.get(name, ""))
    wrong = dict(barred_problems(tree))
    for name in sorted({*tree.names("policies/barred", "*/*.yaml"), *wrong}):
        yield name, partial(_refuse, wrong.get(name, ""))
    for name in tree.names("clusters", "*/models/*/release.yaml"):
        yield name, partial(_release, registry, settings, tree, name)


def _policy(tree: Checkout, name: str) -> None:
    read_policy(tree, Path(name).stem)


def _refuse(wrong: str) -> None:
    if wrong:
        raise Refused(wrong)


def _release(registry: Registry, settings: Settings, tree: Checkout, name: str) -> None:
    _, environment, _, model, _ = name.split("/")
    release = read_served(tree, environment, model)
    if release is None:
        raise Refused("is not a plain file")
    policy = read_policy(tree, model)
    if environment not in policy.spec.environments:
        raise Refused(f"the policy of {model} has no environment {environment!r}")
    version = registry.find(model, release.spec.version)
    _same(release, version)
    images = policy.spec.rules_of(environment).images
    if (repository := repository_of(release.spec.image)) not in images:
        raise Refused(f"spec.image: {repository} is not among {', '.join(images)}")
    if reasons := "; ".join(forbidden(tree, environment, release, registry.trainers(version))):
        raise Refused(reasons)
    given = read_approval(tree, Wanted.of(environment, release))
    if (by := release.spec.evidence.approvedBy) not in {"", BY_MERGE, given.by.id if given is not None else ""}:
        raise Refused(f"spec.evidence.approvedBy: {by}, of whom there is no approval of this release")
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        evaluation = read_evaluation(registry, version.run, model, Path(folder))
        require_registered(registry, settings, version, evaluation)
        _not_like_barred(tree, registry, version, environment, evaluation.bundle.weights)
        _gate(registry, tree, release, environment, Path(folder))
        if given is not None:
            _report(registry, release, environment, given.approval.gate, Path(folder))


def _not_like_barred(tree: Checkout, registry: Registry, version: Version, environment: str, weights: str) -> None:
    """What git can't tell by itself: the same model in another file than the barred one."""
    for record in lineage.records(tree, registry, version, weights, recipe=False):
        if record.applies(environment):
            raise Refused(f"{version.semver} is {record.version}, which is barred for {record.metric}: {record.reason}")


def _same(release: Release, version: Version) -> None:
    """Every value of the release that the registry knows must be the registry's."""
    facts = version.tags | {"name": version.model, "number": version.number, "run": version.run}
    wrong = differences(release, facts)
    if (uri := release.spec.artifact.uri) != version.released:
        wrong.append(f"spec.artifact.uri is {uri}, registered {version.released}")
    if wrong:
        raise Refused("; ".join(wrong))


def _gate(registry: Registry, tree: Checkout, release: Release, environment: str, folder: Path) -> None:
    """The report that git refers to must have the evidence beside the release."""
    report = _report(registry, release, environment, release.spec.evidence.gate, folder)
    beside = tree.read(evidence_path(environment, release.model))
    of_it = beside is not None and parse_evidence(beside).spec.artifact == release.spec.artifact.digest
    if of_it and beside != report.get("evidence"):
        raise Refused(f"{evidence_path(environment, release.model)} is not what the gate wrote")


def _report(registry: Registry, release: Release, environment: str, digest: str, folder: Path) -> dict[str, Any]:
    """A report that git refers to: it must be there, unchanged, of this release, and a pass."""
    where = "spec.evidence.gate" if digest == release.spec.evidence.gate else "the approval"
    name = gate_name(environment, release.spec.version, digest)
    if name not in registry.names(release.spec.lineage.run, "gate"):
        raise Refused(f"{where}: the run has no report gate/{name}; `plumbline promote run` or `approve` writes it")
    data = (registry.download(release.spec.lineage.run, "gate", folder) / name).read_bytes()
    if sha256(data) != digest:
        raise Refused(f"{where}: gate/{name} was changed after the gate wrote it")
    report: dict[str, Any] = json.loads(data)
    expected = {
        "outcome": "pass",
        "environment": environment,
        "digest": release.spec.artifact.digest,
        "image": release.spec.image,
    }
    if wrong := {key: report.get(key) for key, value in expected.items() if report.get(key) != value}:
        raise Refused(f"{where}: the report is of something else: {wrong}")
    return report
