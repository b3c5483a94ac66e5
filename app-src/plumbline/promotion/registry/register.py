"""From a run that was judged to a version of the registry: signed, numbered, described. Neither graph nor rows are
opened here, where the key is; nothing is ever unpickled.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from plumbline.core import store
from plumbline.core.artifact import SIGNATURE, ArtifactError, verify_artifact
from plumbline.core.digests import sha256_of_json
from plumbline.core.errors import Accident, Refused
from plumbline.core.names import plain_name
from plumbline.core.stated import threshold_text
from plumbline.promotion.gate.evaluation import Papers, read_papers
from plumbline.promotion.gate.holdout import Parity
from plumbline.promotion.gate.judged import Judged, judge, lineage_of
from plumbline.promotion.registry import card
from plumbline.promotion.registry.attestation import attest, publish
from plumbline.promotion.registry.client import Registry, bundle_uri
from plumbline.promotion.registry.lifecycle import Lifecycle
from plumbline.promotion.registry.signing import sign
from plumbline.promotion.registry.version import HOLDOUT, RECIPE, ROWS_OF, STORED, TRAINED_BY, WEIGHTS, Version
from plumbline.promotion.registry.versioning import Recipe, interface_digest, number
from plumbline.promotion.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Registered:
    """What a registration did."""

    version: Version
    parity: Parity | None
    """None where the run was registered before and nothing was done."""
    same_bytes: bool = False
    """Whether the run brought the bytes of a version that there was: then it is in that version's lineage now."""


def register(registry: Registry, settings: Settings, run_id: str, found: Judged | None = None) -> Registered:
    """Register a finished run as the next version of its model; the same run twice is the same version.

    A run that made the bytes and the threshold of an earlier version makes no new one: it joins that one's lineage.
    `found` is what the judge found of it, in a place without the key; without one it is judged here.

    Raises Refused as `judge` does, where the run's files are not those that were judged, and for a signature that does
    not verify. Until the last write (the tag `semver`) the version can't be found, let alone be promoted; running the
    command again resumes it.
    """
    if found is not None and found.run != run_id:
        raise Refused(f"what was judged is run {found.run}, not {run_id}")
    run = registry.run(run_id)
    name = run.data.tags.get("model")
    versions = registry.versions(plain_name(name, "the run's tag model", like="flights")) if name else []
    mine = [version for version in versions if version.run == run_id]
    if finished := [version for version in mine if version.semver is not None]:
        publish(registry, settings, finished[0])
        return Registered(finished[0], None)
    found = found or judge(registry, settings, run_id)
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        papers = read_papers(registry, run_id, found.model, Path(folder))
        if (papers.digest, papers.evidence, lineage_of(run)) != (found.bundle, found.evaluation, found.lineage):
            raise Refused(
                f"run {run_id}: its files or its lineage are not those that were judged: somebody changed them"
            )
        parity = Parity(found.parity, found.rows)
        if (same := _earliest(versions, papers)) is not None and same.semver is not None:
            return Registered(_also_made_by(registry, run_id, same, mine), parity, same_bytes=True)
        _signed(registry, settings, run_id, papers)
        tags = _tags(registry, run, papers, found) | {STORED: _stored(settings, found.model, papers)}
        version = _claim(registry, run, mine, tags)
        same = _earliest(registry.versions(found.model), papers)
        if same is not None and same.run != run_id:
            registry.drop_unfinished(version)
            raise Accident(
                f"run {same.run} has the same bytes and is being registered: try again when it is; "
                f"if that ended early, `plumbline promote register --run {same.run}` finishes it"
            )
        version = replace(version, tags=tags)
        return Registered(_finish(registry, settings, run, version, papers, Path(folder)), parity)


def _earliest(versions: list[Version], papers: Papers) -> Version | None:
    """The first version with the same bytes and threshold, finished or not: another threshold makes other answers."""
    identity = papers.digest, _threshold(papers)
    same = [item for item in versions if (item.tags.get("digest"), item.tags.get("threshold")) == identity]
    return min(same, key=lambda item: int(item.number), default=None)


def _also_made_by(registry: Registry, run_id: str, version: Version, unfinished: list[Version]) -> Version:
    """Add a run to the lineage of the version whose bytes it made; drop what it had begun for itself."""
    for begun in unfinished:
        registry.drop_unfinished(begun)
    if run_id not in version.runs:
        registry.tag(version, {"runs": ",".join([*version.runs[1:], run_id])})
    registry.tag_run(run_id, {"semver": str(version.semver)})
    return registry.find(version.model, str(version.semver))


def _signed(registry: Registry, settings: Settings, run_id: str, papers: Papers) -> None:
    """Sign, check with the server's own verifier, and store the signature beside the model; a good one is kept."""
    bundle, key = papers.folder, settings.public_pem()
    if (bundle / SIGNATURE).exists():
        try:
            return verify_artifact(bundle, papers.digest, key)
        except ArtifactError as error:
            raise Refused(f"bundle/ came with a signature that is not ours: {error}") from error
    signature = sign(bundle, settings.signing_path())
    try:
        verify_artifact(bundle, papers.digest, key)
    except ArtifactError as error:
        raise Refused(f"the new signature does not verify; are the two keys a pair? {error}") from error
    registry.upload(run_id, signature, "bundle")
    return None


def _stored(settings: Settings, model: str, papers: Papers) -> str:
    """Copy the signed bundle to the release store; returns its address there. What is there already stays.

    It is read back as a server reads it: raises Refused where somebody has put something else there.
    """
    uri = store.address(settings.release_store(), model, papers.digest)
    with store.open_bundle(uri) as bundle, tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        for name in store.FILES:
            bundle.add(papers.folder / name)
        try:
            store.download(bundle, Path(folder))
            verify_artifact(Path(folder), papers.digest, settings.public_pem())
        except ArtifactError as error:
            raise Refused(f"{uri} holds something else, which is never replaced: {error}") from error
    return uri


def _tags(registry: Registry, run: "Run", papers: Papers, found: Judged) -> dict[str, str]:
    """Everything that is known before the version has a number."""
    tags, schema = run.data.tags, papers.schema
    recipe = Recipe(
        interface=interface_digest(schema),
        schema=schema.digest(),
        code=tags["code.commit"],
        kind=found.kind,
        parameters=sha256_of_json(dict(run.data.params)),
    )
    measured = {f"metric.{name}": f"{interval.value:.6g}" for name, interval in papers.report.metrics.items()}
    lineage = {name: tags.get(name, "") for name in ("model", "data.version", "data.digest", "code.dirty", "workflow")}
    return {
        "lifecycle": Lifecycle.NONE.value,
        "digest": papers.digest,
        WEIGHTS: found.weights,
        "evaluation.digest": papers.evidence,
        TRAINED_BY: tags.get("mlflow.user", ""),
        HOLDOUT: found.holdout,
        ROWS_OF: found.data or "",
        "task": schema.output.task,
        "threshold": _threshold(papers),
        "parity.max_abs_difference": f"{found.parity:.6g}",
        "parity.rows": str(found.rows),
        "memory.peak_mb": f"{found.peak_mb:.0f}",
        "latency.p95_ms": f"{found.p95_ms:.4g}",
        "bytes": str(papers.bytes),
        "flavours": ",".join(registry.flavours(run.info.run_id)),
        **{RECIPE[field]: getattr(recipe, field) for field in RECIPE},
        **lineage,
        **measured,
    }


def _threshold(papers: Papers) -> str:
    return threshold_text(papers.report.threshold)


def _claim(registry: Registry, run: "Run", mine: list[Version], tags: dict[str, str]) -> Version:
    """The unfinished version of this run: the one that died, or a new one. Two registrations at once agree on one."""
    if mine:
        registry.tag(mine[0], tags)
        return mine[0]
    model, run_id = tags["model"], run.info.run_id
    created = registry.create(model, bundle_uri(run.info.artifact_uri), run_id, tags)
    first = next(version for version in registry.versions(model) if version.run == run_id)
    if first.number != created.number:
        registry.drop_unfinished(created)
    return first


def _finish(
    registry: Registry, settings: Settings, run: "Run", version: Version, papers: Papers, folder: Path
) -> Version:
    """Number the version, write its card, sign what it is, and only then give it its name."""
    earlier = [item for item in registry.versions(version.model) if int(item.number) <= int(version.number)]
    semver = str(number((item.semver, item.recipe) for item in earlier))
    facts = card.facts(version, semver, papers, approvals=[])
    plots = registry.download(run.info.run_id, "plots", folder) if registry.names(run.info.run_id, "plots") else None
    for path in card.write(facts, plots, folder / "card"):
        registry.upload(run.info.run_id, path, "card")
    attest(registry, settings, version, semver, folder)
    registry.name(version, semver)
    return registry.find(version.model, semver)
