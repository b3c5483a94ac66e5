"""Releases written by hand, which the registry knows where a test makes them `known` to it."""

from collections.abc import Iterable

from plumbline.core.release import Artifact, Evidence, Lineage, Metadata, Release, Spec
from plumbline.promotion.delivery.documents import BY_MERGE, gate_name, release_path
from plumbline.promotion.delivery.release_text import new_text
from plumbline.promotion.registry.client import Registry

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


def known(registry: Registry, release: Release, environments: Iterable[str] = ("staging",)) -> Release:
    """The release as the registry knows it: a version of its bytes, with a report of the gate of each environment."""
    client, spec = registry.client, release.spec
    found = client.get_experiment_by_name("by-hand")
    run = client.create_run(found.experiment_id if found else client.create_experiment("by-hand")).info.run_id
    for environment in environments:
        client.log_text(run, "{}", f"gate/{gate_name(environment, spec.version, spec.evidence.gate)}")
    tags = dict.fromkeys(("schema.interface", "schema.digest", "code.commit", "model.kind"), "x")
    tags |= {
        "parameters.digest": "x",
        "evaluation.digest": "x",
        "data.digest": "x",
        "workflow": "",
        "trained.by": "Eve",
    }
    tags |= {"lifecycle": "None", "digest": spec.artifact.digest, "threshold": str(spec.threshold)}
    version = registry.create(release.model, spec.artifact.uri, run, tags)
    registry.name(version, spec.version)
    lineage = spec.lineage.model_copy(update={"registryVersion": version.number, "run": run})
    return release.model_copy(update={"spec": spec.model_copy(update={"lineage": lineage})})


def serve(remote: Remote, environment: str, release: Release, message: str = "") -> None:
    """Commit that an environment serves it."""
    path = release_path(environment, release.model)
    remote.commit({path: new_text(release)}, message or f"{release.model}({environment}): {release.spec.version}")
