"""What somebody does afterwards who writes to MLflow, to the store, or to git."""

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from approvals import Approver, approvers
from mutants import forms, graphs
from mutants.catalogue import APPROVAL, AUDIT, GATE, SERVER, VALIDATE, Mutant
from mutants.trained import Bring
from mutants.world import ADA, IMAGE, World

from plumbline.core import store
from plumbline.core.artifact import digest_of
from plumbline.core.digests import sha256
from plumbline.core.dsse import seal
from plumbline.core.stated import statement_name
from plumbline.promotion.delivery.approval import APPROVERS
from plumbline.promotion.delivery.documents import BY_MERGE, Barred, barred_path, dump, release_path
from plumbline.promotion.delivery.governance import reject
from plumbline.promotion.delivery.release_text import new_text
from plumbline.promotion.registry.client import bundle_uri
from plumbline.promotion.registry.signing import generate_keys, sign

OTHER = "sha256:" + "1" * 64
NOW = datetime.now(UTC).replace(microsecond=0)


def tagged(name: str, value: str) -> Bring:
    """A tag of a version, set by hand between registration and gate."""

    def bring(world: World) -> None:
        version = world.planted("diabetes")
        world.client.set_model_version_tag(version.model, version.number, name, value)
        world.promote(world.registry.find(version.model, str(version.semver)))

    return bring


def overwritten(name: str, change: Callable[[bytes], bytes], model: str = "diabetes") -> Bring:
    """A file of the run, replaced between registration and gate."""

    def bring(world: World) -> None:
        version = world.planted(model)
        path = Path(world.client.download_artifacts(version.run, name, str(_made(world))))
        path.write_bytes(change(path.read_bytes()))
        world.client.log_artifact(version.run, str(path), str(Path(name).parent))
        world.promote(version)

    return bring


def _made(world: World) -> Path:
    folder = world.new("files")
    folder.mkdir()
    return folder


def holdout(*, tagged: bool) -> Bring:
    """Only the rows that it gets right, from now on; if need be with the tag that names the digest."""

    def bring(world: World) -> None:
        version = world.planted("diabetes")
        folder = Path(world.client.download_artifacts(version.run, "evaluation", str(_made(world))))
        forms.rows(forms.easy)(folder.parent)
        world.client.log_artifact(version.run, str(folder / "holdout.parquet"), "evaluation")
        if tagged:
            world.client.set_model_version_tag(version.model, version.number, "evaluation.digest", digest_of(folder))
        world.promote(world.registry.find(version.model, str(version.semver)))

    return bring


def statement_of_another(world: World) -> None:
    one, other = world.sound["diabetes"], world.planted("diabetes")
    path = world.client.download_artifacts(one.run, "attestation/registration.json", str(_made(world)))
    world.client.log_artifact(other.run, path, "attestation")
    world.promote(other)


def statement_by_an_approver(world: World) -> None:
    """The tags are changed, and so is the statement: by a key that may sign something else."""
    version = world.planted("diabetes")
    path = Path(world.client.download_artifacts(version.run, "attestation/registration.json", str(_made(world))))
    statement = json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))
    statement["predicate"]["code.commit"] = "1" * 40
    path.write_text(json.dumps(seal(statement, ADA.private.encode())))
    world.client.log_artifact(version.run, str(path), "attestation")
    world.client.set_model_version_tag(version.model, version.number, "code.commit", "1" * 40)
    world.promote(world.registry.find(version.model, str(version.semver)))


def by_hand(world: World) -> None:
    """A version that wears a good one's tags and points at other files."""
    good, run = world.sound["diabetes"], world.plant("diabetes", graphs.graph(graphs.scaled), forms.believed)
    source = bundle_uri(world.client.get_run(run).info.artifact_uri)
    world.client.create_model_version("diabetes", source, run, tags={**good.tags, "semver": "v1.7.0"})
    try:
        world.promote(world.registry.find("diabetes", "v1.7.0"))
    finally:
        number = world.registry.find("diabetes", "v1.7.0").number
        world.client.delete_model_version_tag("diabetes", number, "semver")


def twice(world: World) -> None:
    """The name of a version, given to another one too."""
    good, other = world.sound["diabetes"], world.planted("diabetes")
    world.client.set_model_version_tag("diabetes", other.number, "semver", str(good.semver))
    try:
        world.registry.find("diabetes", str(good.semver))
    finally:
        world.client.set_model_version_tag("diabetes", other.number, "semver", str(other.semver))


def barred(*changes: graphs.Change, tags: dict[str, str] | None = None) -> Bring:
    """A version is rejected; then the same model comes again."""

    def bring(world: World) -> None:
        first = world.planted("diabetes", graphs.graph(_lot))
        world.promote(first)
        reject(world.registry, world.settings, "diabetes", str(first.semver), "error-rate", "20 % were 5xx")
        try:
            world.bring("diabetes", *changes, tags=tags or {})
        finally:
            # The next mutant is not to be stopped by this record.
            world.remote.pull()
            names = [str(path.relative_to(world.remote.work)) for path in world.remote.work.glob("policies/barred/*/*")]
            world.remote.commit(dict.fromkeys(names), "forgotten")
            world.follow("diabetes")

    return bring


def _lot(model: Any) -> None:
    model.producer_version = "first"


def renamed(model: Any) -> None:
    model.producer_name, model.doc_string, model.graph.name = "somebody", "quite another", "other"


def in_a_comment(world: World) -> None:
    """Staging named it in a comment, and MLflow says that it was served there."""
    version = world.planted("diabetes")
    path, text = release_path("staging", "diabetes"), world.text("diabetes")
    world.remote.commit({path: f"{text}# digest: {version.digest}\n"})
    world.remote.commit({path: text})
    world.client.set_model_version_tag("diabetes", version.number, "proved.staging", IMAGE)
    world.promote(world.registry.find("diabetes", str(version.semver)), "production")


def approved(by: Approver = ADA, entry: dict[str, Any] | None = None, **changes: Any) -> Bring:
    """What staging serves, for production, with an approval that says or is something else."""

    def bring(world: World) -> None:
        release = world.release("diabetes")
        text = by.approval("production", release, **changes)[1]
        files: dict[str, str | None] = {_place(world): text}
        if entry is not None:
            files[APPROVERS] = approvers(entry)
        with world.committed(files):
            world.promote(world.sound["diabetes"], "production")

    return bring


def _place(world: World) -> str:
    """Where the gate looks for the approval of what staging serves."""
    return ADA.approval("production", world.release("diabetes"))[0]


def unapproved(world: World) -> None:
    world.promote(world.sound["diabetes"], "production")


def of_whoever_trained_it(world: World) -> None:
    trainer = next(iter(world.registry.trainers(world.sound["diabetes"])))
    approved(entry=ADA.entry(also=[trainer]))(world)


def committed_by_its_approver(world: World) -> str:
    """Production is edited by hand, by whoever approved it."""
    release = world.release("diabetes")
    path, text = ADA.approval("production", release)
    spec = release.spec.model_copy(
        update={"evidence": release.spec.evidence.model_copy(update={"approvedBy": ADA.name})}
    )
    files: dict[str, str | None] = {path: text, release_path("production", "diabetes"): new_text(
        release.model_copy(update={"spec": spec})
    )}  # fmt: skip
    files[APPROVERS] = approvers(ADA.entry(also=["ada@plumbline.dev"]))
    return world.validated("production", files)


def by_a_name(name: str) -> Callable[[World], str]:
    """Production is edited by hand, and names somebody."""

    def bring(world: World) -> str:
        text = re.sub(r"approvedBy: .*", f"approvedBy: {name}", world.text("diabetes"))
        return world.validated("production", {release_path("production", "diabetes"): text})

    return bring


def edited(key: str, value: str, environment: str = "production") -> Callable[[World], str]:
    """One line of what an environment serves, by hand."""

    def bring(world: World) -> str:
        text = world.text("flights", environment)
        changed, count = re.subn(rf"(?m)^(\s*{key}:).*$", rf"\1 {value}", text, count=1)
        assert count == 1
        return world.audited({release_path(environment, "flights"): changed})

    return bring


def barred_by_hand(world: World) -> str:
    """What is barred, committed past the gate."""
    release = world.release("diabetes")
    facts = {"model": "diabetes", "version": release.spec.version, "digest": release.spec.artifact.digest}
    record = Barred.model_validate(facts | {"metric": "p95", "reason": "slow", "at": NOW})
    return world.validated("staging", {barred_path("diabetes", record.digest): dump(record)})


def nothing(_: Path) -> None:
    """No change."""


def _copied(
    world: World, change: Callable[[Path], object] = nothing, stated: Callable[[Path], object] = nothing
) -> str:
    """The text of a release whose bytes stand elsewhere in the store, after a change of them or of the statement."""
    release, folder = world.release("flights", "production"), _made(world)
    client = boto3.client("s3")
    bucket, prefix = release.spec.artifact.uri.removeprefix("s3://").split("/", 1)
    statement = statement_name(release.spec.version)
    for name in store.FILES:
        (folder / name).write_bytes(client.get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read())
    change(folder)
    (folder / statement).write_bytes(client.get_object(Bucket=bucket, Key=f"{prefix}/{statement}")["Body"].read())
    stated(folder / statement)
    for path in folder.iterdir():
        client.upload_file(str(path), bucket, f"elsewhere/{folder.name}/{path.name}")
    text = world.text("flights", "production")
    return text.replace(release.spec.artifact.uri, f"s3://{bucket}/elsewhere/{folder.name}")


def replaced_in_the_store(world: World) -> str:
    def change(folder: Path) -> None:
        (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0")

    return world.started(_copied(world, change))


def signed_by(private: Callable[[World], Path]) -> Callable[[World], str]:
    """Other bytes, which release.yaml names, under a signature of another key."""

    def bring(world: World) -> str:
        digest = ""

        def change(folder: Path) -> None:
            nonlocal digest
            forms.placed("model.onnx", (folder / "model.onnx").read_bytes() + b"\x32\x01x")(folder)
            (folder / "model.sig").unlink()
            sign(folder, private(world))
            digest = digest_of(folder)

        text = _copied(world, change)
        return world.started(re.sub(r"(?m)^(    digest:).*$", rf"\1 {digest}", text, count=1))

    return bring


def gone(name: str) -> Callable[[World], str]:
    return lambda world: world.started(_copied(world, lambda folder: (folder / name).unlink()))


def served(key: str, value: str) -> Callable[[World], str]:
    """One line of release.yaml that a server is given, whoever merged it."""

    def bring(world: World) -> str:
        text, count = re.subn(rf"(?m)^(\s*{key}:).*$", rf"\1 {value}", world.text("flights", "production"), count=1)
        assert count == 1
        return world.started(text)

    return bring


def statement_of_another_in_the_store(world: World) -> str:
    release = world.release("diabetes")
    with store.open_bundle(release.spec.artifact.uri) as bundle:
        data = b"".join(bundle.read(statement_name(release.spec.version)))
    return world.started(_copied(world, stated=lambda path: path.write_bytes(data)))


def statement_signed_by_an_approver(world: World) -> str:
    """With the threshold that git names now."""

    def change(path: Path) -> None:
        statement = json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))
        statement["predicate"]["threshold"] = "0.01"
        path.write_text(json.dumps(seal(statement, ADA.private.encode())))

    return world.started(re.sub(r"(?m)^(  threshold:).*$", r"\1 0.01", _copied(world, stated=change)))


def signature_for_a_statement(world: World) -> str:
    """Another document of the right key."""

    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads((path.parent / "model.sig").read_bytes())["dsseEnvelope"]))

    return world.started(_copied(world, stated=change))


def by_registrations_key(world: World) -> None:
    """An approval that whoever has registration's key signs."""
    signer = Approver("Ada")
    signer.private = world.settings.signing_path().read_text()
    approved(signer)(world)


def report_of_staging(world: World) -> str:
    return edited("gate", world.release("flights").spec.evidence.gate)(world)


def of_another_model(world: World) -> str:
    """The bytes of one model under the other's name: all that release.yaml says of them is right."""
    text = world.text("diabetes")
    return world.started(text.replace("name: diabetes", "name: flights"))


def write_again(world: World) -> str:
    """Registration's own key to the store, used a second time."""
    release, folder = world.release("flights", "production"), _made(world)
    (folder / "model.onnx").write_bytes(b"another")
    with store.open_bundle(release.spec.artifact.uri) as bundle:
        bundle.add(folder / "model.onnx")
        kept = b"".join(bundle.read("model.onnx"))
    return "kept" if sha256(kept) != sha256(b"another") else "replaced"


FOREIGN = ("the signature is ours", "not made with a key that is trusted here")
CHANGED = "changed what was registered: "
MUTANTS = [
    *(
        Mutant(f"tag `{name}` edited in MLflow", GATE, "registration's statement", f"{CHANGED}{re.escape(name)} is",
               tagged(name, value))
        for name, value in {
            "threshold": "0.0", "data.digest": OTHER, "code.commit": "1" * 40, "code.dirty": "true",
            "artifact.uri": "s3://elsewhere/x", "holdout.data": OTHER, "weights.digest": OTHER, "trained.by": "nobody",
        }.items()
    ),
    Mutant("holdout replaced after registration", GATE, "evaluation's digest", "evaluation/ hashes to",
           holdout(tagged=False)),
    Mutant("holdout replaced together with its tag", GATE, "registration's statement",
           f"{CHANGED}evaluation.digest is", holdout(tagged=True)),
    Mutant("model replaced after registration", GATE, "the bundle's digest", "the artifact hashes to",
           overwritten("bundle/model.onnx", lambda old: old + b"\x32\x01x")),
    Mutant("signature replaced after registration", GATE, *("the signature is ours", r"model\.sig is not a signature"),
           overwritten("bundle/model.sig", lambda _: b"{}")),
    Mutant("the statement of another version", GATE, "registration's statement", CHANGED, statement_of_another),
    Mutant("a statement of one's own, signed by an approver", GATE, *FOREIGN, statement_by_an_approver),
    Mutant("a version made by hand with a good one's tags", GATE, "the bundle's digest", "the artifact hashes to",
           by_hand),
    Mutant("the name of a version given to another", GATE, "one version of a name", "both carry this name", twice),
    Mutant("a barred model under another producer's name", GATE, "barred by its weights",
           "not barred: the same as", barred(graphs.graph(renamed), tags={"code.commit": "2" * 40})),
    Mutant("a barred model with the last bit of a weight changed", GATE, "barred by its recipe",
           "or made as it was", barred(graphs.graph(graphs.nudged), forms.believed)),
    Mutant("a barred model with a node more that does nothing", GATE, "barred by its recipe",
           "or made as it was", barred(graphs.graph(graphs.idle))),
    Mutant("a digest in a comment of staging's release, deleted again", GATE, "served in staging first",
           "served in staging first: no", in_a_comment),
    Mutant("an image of another registry", GATE, "the image's repository", "image: docker.io/evil/model-server",
           lambda world: world.promote(
               world.planted("diabetes"), image="docker.io/evil/model-server@sha256:" + "a" * 64)),
    Mutant("no approval", APPROVAL, "an approver's signature", "nobody approved it", unapproved),
    Mutant("an approval by anybody", APPROVAL, "a key of policies/approvers.yaml", FOREIGN[1],
           approved(Approver("Ada"))),
    Mutant("an approval that ended", APPROVAL, "its end", "ended at",
           approved(at=NOW - timedelta(days=3), until=NOW - timedelta(days=2))),
    Mutant("an approval that is dated ahead, to end later", APPROVAL, "its beginning", "is dated ahead",
           approved(at=NOW + timedelta(days=30), until=NOW + timedelta(days=60))),
    Mutant("an approval by registration's key", APPROVAL, "a key of policies/approvers.yaml", FOREIGN[1],
           by_registrations_key),
    Mutant("an approval of another threshold", APPROVAL, "bound to the threshold", "of something else: threshold",
           approved(threshold=0.1)),
    Mutant("an approval of other bytes", APPROVAL, "bound to the digest", "of something else: artifact",
           approved(artifact=OTHER)),
    Mutant("an approval of another image", APPROVAL, "bound to the image", "of something else: image",
           approved(image="ghcr.io/plumbline/model-server@sha256:" + "b" * 64)),
    Mutant("an approval of another environment", APPROVAL, "bound to the environment",
           "of something else: environment", approved(environment="staging")),
    Mutant("an approver of another model", APPROVAL, "who may approve what", "Ada may not approve diabetes",
           approved(entry=ADA.entry(models=["flights"]))),
    Mutant("an approver who left", APPROVAL, "until when", "may approve nothing since",
           approved(entry=ADA.entry(until=(NOW - timedelta(days=5)).isoformat()))),
    Mutant("an approval by whoever trained it", APPROVAL, "not one's own work", "trained it", of_whoever_trained_it),
    Mutant("an approval by whoever promotes it", APPROVAL, "not one's own work", "promotes it",
           approved(entry=ADA.entry(also=["Plumbline promotion"]))),
    Mutant("an approval by whoever committed it", VALIDATE, "not one's own work", "committed the release",
           committed_by_its_approver),
    Mutant("`approvedBy: ceo@example.com`", VALIDATE, "an approver's signature", "nobody approved it",
           by_a_name("ceo@example.com")),
    Mutant("`approvedBy: whoever merged the pull request`, where reviews do not count", VALIDATE,
           "policies/approvers.yaml", "takes no review for an approval", by_a_name(BY_MERGE)),
    Mutant("a barred model committed past the gate", VALIDATE, "barred by its bytes", "is barred for p95",
           barred_by_hand),
    *(
        Mutant(f"release.yaml edited by hand: `{key}`", AUDIT, by, said, edited(key, value))
        for key, value, by, said in (
            ("threshold", "0.01", "the registry's value", r"spec\.threshold is 0\.01, registered"),
            ("uri", "s3://elsewhere/x", "the registry's value", r"spec\.artifact\.uri is s3://elsewhere/x"),
            ("schemaDigest", OTHER, "the registry's value", r"spec\.artifact\.schemaDigest is"),
            ("run", f"'{'1' * 32}'", "the registry's value", r"spec\.lineage\.run is"),
            ("code", f"'{'1' * 40}'", "the registry's value", r"spec\.lineage\.code is"),
            ("version", "v9.9.9", "the registry's versions", "has no version"),
            ("gate", OTHER, "the gate's report", "has no report"),
            ("image", "ghcr.io/plumbline/model-server@sha256:" + "c" * 64, "an approval of this image",
             "nobody approved it"),
        )
    ),
    Mutant("staging's report in production's release", AUDIT, "the gate's report", "has no report",
           report_of_staging),
    Mutant("bytes replaced in the store", SERVER, "git's digest", "tampered: the artifact hashes to",
           replaced_in_the_store),
    Mutant("other bytes in the store, named by git, signed by nobody", SERVER, "the signature", "tampered: .*model.sig",
           gone("model.sig")),
    Mutant("other bytes, named by git, signed by another key", SERVER, *FOREIGN,
           signed_by(lambda world: generate_keys(world.new("foreign"))[0])),
    Mutant("other bytes, named by git, signed by an approver", SERVER, *FOREIGN,
           signed_by(lambda world: ADA.key(world.folder))),
    Mutant("release.yaml's threshold, merged past every check", SERVER, "registration's statement",
           r"spec\.threshold is 0\.01, registered", served("threshold", "0.01")),
    Mutant("release.yaml's schema, merged past every check", SERVER, "the schema's digest",
           r"schema\.json hashes to", served("schemaDigest", OTHER)),
    Mutant("release.yaml's version, merged past every check", SERVER, "registration's statement",
           r"the artifact lacks v9\.9\.9\.json", served("version", "v9.9.9")),
    Mutant("release.yaml's lineage, merged past every check", SERVER, "registration's statement",
           r"spec\.lineage\.data is sha256:1+, registered", served("data", OTHER)),
    Mutant("the statement of another model in the store", SERVER, "registration's statement",
           r"metadata\.name is flights, registered diabetes", statement_of_another_in_the_store),
    Mutant("a statement of another threshold, signed by an approver", SERVER, *FOREIGN,
           statement_signed_by_an_approver),
    Mutant("the bundle's signature in its statement's place", SERVER, "registration's statement",
           "states something else", signature_for_a_statement),
    Mutant("a model under another's name", SERVER, "the schema's model", "is of the model 'diabetes'",
           of_another_model),
    Mutant("the store's writer writes a second time", "release store", "what is there stays", "^kept$", write_again),
]  # fmt: skip
