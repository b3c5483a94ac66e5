"""Whether a version is still what was registered: its bytes, its evaluation and all that its tags say."""

from plumbline.core.artifact import verify_artifact
from plumbline.core.errors import Refused
from plumbline.promotion.gate.evaluation import Evaluation
from plumbline.promotion.registry.attestation import require_attested
from plumbline.promotion.registry.client import Registry, bundle_uri
from plumbline.promotion.registry.version import Version
from plumbline.promotion.settings import Settings


def require_registered(registry: Registry, settings: Settings, version: Version, evaluation: Evaluation) -> None:
    """Raise Refused with what is not as it was registered and signed; `evaluation` are the run's artifacts of now."""
    uri = bundle_uri(registry.run(version.run).info.artifact_uri)
    if version.source != uri:
        raise Refused(f"the registry names {version.source} as its source, its run has {uri}")
    verify_artifact(evaluation.bundle.folder, version.digest, settings.public_pem())
    if evaluation.evidence != version.tags["evaluation.digest"]:
        raise Refused(f"evaluation/ hashes to {evaluation.evidence}, registered was another")
    require_attested(registry, settings, version)
