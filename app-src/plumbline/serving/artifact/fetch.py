"""Bring the artifact that a release names onto this disk, whole and verified, or not at all.

Files arrive in a temporary folder beside the cache and are renamed into place only after their digest, signature and
schema were checked, so that neither a full disk nor a killed process leaves a partial model to be found.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from plumbline.core.artifact import ArtifactError, verify_artifact
from plumbline.core.release import Release
from plumbline.core.schema import ModelSchema
from plumbline.core.stated import require_stated, statement_name
from plumbline.core.store import FILES, download, open_bundle
from plumbline.serving.settings import Settings

_BYTES = "bundle"
_MOST_STATED = 1 << 20
"""Bytes of a statement, which is read whole before its signature is known; one has some kB."""


def obtain(
    release: Release, settings: Settings, public_key: bytes, lap: Callable[[str], None]
) -> tuple[Path, ModelSchema]:
    """The verified folder of the release's bytes in the cache, and its schema; both are checked on every start.

    `lap` is told when a step has ended. Raises ArtifactError where the bytes are not those of the release (never
    worth a retry), StoreError where the source can't be read, OSError where the cache can't be written.
    """
    folder = folder_of(release, settings)
    if folder.exists():
        with suppress(ArtifactError):
            schema = verify(folder, release, public_key)
            lap("verify")
            return folder / _BYTES, schema
        shutil.rmtree(folder)
    settings.cache_dir.mkdir(parents=True, exist_ok=True)
    with _temporary(settings.cache_dir) as incoming:
        with open_bundle(release.spec.artifact.uri, settings.fetch_timeout_seconds) as bundle:
            # First: where it is missing, no bytes are fetched in vain.
            download(bundle, incoming, _MOST_STATED, (statement_name(release.spec.version),))
            (incoming / _BYTES).mkdir()
            download(bundle, incoming / _BYTES, settings.max_artifact_bytes)
        lap("fetch")
        schema = verify(incoming, release, public_key)
        try:
            incoming.rename(folder)
        except OSError:
            if not folder.exists():  # another process may have won the race with the same verified bytes
                raise
            verify(folder, release, public_key)
    lap("verify")
    return folder / _BYTES, schema


def folder_of(release: Release, settings: Settings) -> Path:
    """Where the release stands in the cache: its bytes, and beside them what was signed of its version."""
    return settings.cache_dir / f"{release.spec.artifact.digest.removeprefix('sha256:')}-{release.spec.version}"


def verify(folder: Path, release: Release, public_key: bytes) -> ModelSchema:
    """Check a folder against the release: names, digest, signature, schema digest, the schema's model, the statement.

    Raises ArtifactError that says what differs.
    """
    artifact, content = release.spec.artifact, folder / _BYTES
    names = {path.name for path in content.iterdir()} if content.is_dir() else set()
    if names != set(FILES):
        raise ArtifactError(f"the artifact holds {sorted(names)}, expected {sorted(FILES)}")
    verify_artifact(content, artifact.digest, public_key)
    try:
        schema = ModelSchema.model_validate_json((content / "schema.json").read_bytes())
    except ValidationError as error:
        raise ArtifactError(f"schema.json: not a model schema: {error}") from error
    if schema.digest() != artifact.schemaDigest:
        raise ArtifactError(f"schema.json hashes to {schema.digest()}, the release names {artifact.schemaDigest}")
    if schema.model != release.model:
        raise ArtifactError(f"schema.json is of the model {schema.model!r}, the release is of {release.model!r}")
    try:
        statement = (folder / statement_name(release.spec.version)).read_bytes()
    except FileNotFoundError as error:
        raise ArtifactError(f"nothing says what was signed of {release.spec.version}") from error
    require_stated(release, statement, public_key)
    return schema


@contextmanager
def _temporary(parent: Path) -> Iterator[Path]:
    """A folder that is gone at the end unless it was renamed."""
    path = Path(tempfile.mkdtemp(prefix=".incoming-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
