"""A release that nobody promoted, so that a model that serves nothing yet is rendered and checked all the same."""

from plumbline.core.release import Artifact, Evidence, Lineage, Metadata, Release, Spec
from plumbline.promotion.delivery.release_text import new_text

_DIGEST = "sha256:" + "0" * 64


def example_release(model: str, registry: str = "registry.example/plumbline") -> str:
    """The text of a release.yaml of `model`: of the right shape, version v0.0.0, and every digest zeros."""
    spec = Spec(
        version="v0.0.0",
        image=f"{registry}/model-server@{_DIGEST}",
        artifact=Artifact(uri="s3://example/no-release-yet", digest=_DIGEST, schemaDigest=_DIGEST),
        lineage=Lineage(registryVersion="1", run="0" * 32, code="0" * 40, data=_DIGEST),
        evidence=Evidence(gate=_DIGEST, approvedBy="example, no release yet"),
    )
    metadata = Metadata(name=model, annotations={"config.kubernetes.io/local-config": "true"})
    return new_text(Release(apiVersion="plumbline.dev/v1", kind="Release", metadata=metadata, spec=spec))
