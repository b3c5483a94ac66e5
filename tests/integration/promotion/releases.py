"""Releases written by hand, of a model that the registry does not know: what a verdict does in git needs no more."""

from plumbline.core.release import Artifact, Evidence, Lineage, Metadata, Release, Spec
from plumbline.promotion.delivery.documents import BY_MERGE, release_path
from plumbline.promotion.delivery.release_text import new_text

from .conftest import Remote


def digest(letter: str) -> str:
    """A digest that is told from others at a glance."""
    return "sha256:" + letter * 64


def made(model: str, version: str, artifact: str, image: str = "1", threshold: float = 0.5) -> Release:
    """A release of these bytes in this image."""
    return Release(
        apiVersion="plumbline.dev/v1",
        kind="Release",
        metadata=Metadata(name=model, annotations={"config.kubernetes.io/local-config": "true"}),
        spec=Spec(
            version=version,
            image="ghcr.io/plumbline/model-server@" + digest(image),
            artifact=Artifact(uri=f"s3://m/{artifact}", digest=digest(artifact), schemaDigest=digest("0")),
            threshold=threshold,
            lineage=Lineage(registryVersion="1", run="1" * 32, code="c" * 40, data=digest("0")),
            evidence=Evidence(gate=digest("9"), approvedBy=BY_MERGE),
        ),
    )


def serve(remote: Remote, environment: str, release: Release, message: str = "") -> None:
    """Commit that an environment serves it."""
    path = release_path(environment, release.model)
    remote.commit({path: new_text(release)}, message or f"{release.model}({environment}): {release.spec.version}")
