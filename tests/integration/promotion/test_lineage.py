"""A barred model stays barred in another file, from another run, and made again by the same recipe."""

from collections.abc import Callable

import onnx
import pytest
from mlflow import MlflowClient

from plumbline.core.documents import parse
from plumbline.core.errors import Refused
from plumbline.promotion.delivery.documents import Barred, Override, barred_path, dump
from plumbline.promotion.delivery.governance import reject
from plumbline.promotion.delivery.promote import Outcome
from plumbline.promotion.delivery.release_text import new_text
from plumbline.promotion.gate.audit import audit
from plumbline.promotion.registry.client import Registry
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings

from .conftest import Remote, trained

Make = Callable[..., Version]
Bump = Callable[..., Outcome]
OTHER_DATA = {"data.digest": "sha256:" + "e" * 64}


def producer(model: onnx.ModelProto) -> None:
    model.producer_name, model.producer_version, model.doc_string = "somebody", "9", "quite another"


def metadata(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="author", value="somebody")
    model.graph.doc_string = "new"


def names(model: onnx.ModelProto) -> None:
    model.graph.name = "other"
    for number, node in enumerate(model.graph.node):
        node.name, node.doc_string = f"renamed {number}", "said"


def initialisers(model: onnx.ModelProto) -> None:
    """One more that nothing reads, in front, would be other weights; their order is not."""
    kept = list(model.graph.initializer)
    del model.graph.initializer[:]
    model.graph.initializer.extend(reversed(kept))
    model.producer_name = "shuffled"


@pytest.mark.parametrize("disguise", [producer, metadata, names, initialisers])
def test_a_barred_model_in_another_file(
    registered: Make,
    bump: Bump,
    registry: Registry,
    settings: Settings,
    remote: Remote,
    client: MlflowClient,
    model: str,
    disguise: Callable[[onnx.ModelProto], None],
) -> None:
    """The record in git knows its weights, so that nothing that is done in MLflow afterwards helps."""
    first = registered()
    bump("v1.0.0")
    reject(registry, settings, model, "v1.0.0", "error-rate", "20 % of answers were 5xx")
    remote.pull()
    record = parse((remote.work / barred_path(model, first.digest)).read_text(), Barred, "barred")
    assert record.lineage is not None
    assert (record.lineage.weights, record.lineage.run) == (first.tags["weights.digest"], first.run)
    client.set_model_version_tag(model, first.number, "weights.digest", "sha256:" + "0" * 64)
    client.set_model_version_tag(model, first.number, "data.digest", "sha256:" + "0" * 64)
    file = onnx.load_model_from_string(trained(0.0, 0)[0])
    disguise(file)
    second = registered(files={"bundle/model.onnx": file.SerializeToString()}, tags=OTHER_DATA)
    assert second.digest != first.digest
    said = "not barred: the same as v1.0.0, or made as it was, which failed error-rate"
    with pytest.raises(Refused, match=said):
        bump(str(second.semver))
    # Committed past the gate: what git says alone is innocent, and the audit opens the file.
    release = remote.release("staging", model)
    artifact = release.spec.artifact.model_copy(update={"digest": second.digest, "uri": second.released})
    lineage = release.spec.lineage.model_copy(
        update={"run": second.run, "registryVersion": second.number, "data": OTHER_DATA["data.digest"]}
    )
    spec = release.spec.model_copy(update={"version": str(second.semver), "artifact": artifact, "lineage": lineage})
    remote.commit(
        {f"clusters/staging/models/{model}/release.yaml": new_text(release.model_copy(update={"spec": spec}))}
    )
    (problem,) = [item for item in audit(registry, settings, remote.work)[0] if "staging" in item]
    assert "is v1.0.0, which is barred for error-rate" in problem


def test_a_barred_recipe_made_again(
    registered: Make, bump: Bump, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    """Same code, data and parameters, other weights by chance; a written override lets it pass, as it does bytes."""
    first = registered()
    bump("v1.0.0")
    reject(registry, settings, model, "v1.0.0", "error-rate", "20 % of answers were 5xx")
    again, other = registered(noise=0.02), registered(noise=0.03, tags=OTHER_DATA)
    assert again.tags["weights.digest"] != first.tags["weights.digest"]
    with pytest.raises(Refused, match="made as it was, which failed error-rate"):
        bump(str(again.semver))
    assert bump(str(other.semver)).commit, "other data is another recipe"
    path = barred_path(model, first.digest)
    remote.pull()
    record = parse((remote.work / path).read_text(), Barred, "barred")
    override = Override(by="Ada", reason="the gateway was at fault", at=record.at)
    remote.commit({path: dump(record.model_copy(update={"override": override}))})
    assert bump(str(again.semver), again="the gateway is mended").commit


def test_a_record_of_before_asks_the_registry(
    registered: Make, bump: Bump, registry: Registry, settings: Settings, remote: Remote, model: str
) -> None:
    """And one that was written while MLflow was away: it has no lineage, and the digest tells."""
    first = registered()
    bump("v1.0.0")
    reject(registry, settings, model, "v1.0.0", "error-rate", "slow")
    path = barred_path(model, first.digest)
    remote.pull()
    record = parse((remote.work / path).read_text(), Barred, "barred")
    remote.commit({path: dump(record.model_copy(update={"lineage": None}))})
    again = registered(noise=0.02)
    with pytest.raises(Refused, match="made as it was, which failed error-rate"):
        bump(str(again.semver))
