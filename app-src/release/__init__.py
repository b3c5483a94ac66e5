"""What is served: the typed release of git, and the checks that an artifact is what the release names."""

from release.artifact import ArtifactError, digest_of, verify_artifact
from release.spec import (
    Artifact,
    Evidence,
    Lineage,
    Release,
    ReleaseError,
    SemVer,
    parse_release,
    read_release,
)

__all__ = [
    "Artifact",
    "ArtifactError",
    "Evidence",
    "Lineage",
    "Release",
    "ReleaseError",
    "SemVer",
    "digest_of",
    "parse_release",
    "read_release",
    "verify_artifact",
]
