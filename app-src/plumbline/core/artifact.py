"""The bytes of a model: one digest for the whole folder, and the OpenSSF model signature over it.

The signature is the standard `model.sig` of the `model-signing` tool (a Sigstore bundle: a DSSE envelope around an
in-toto statement that lists every file with its sha256). Training and promotion sign with that tool. The server
checks it here with `cryptography` alone: importing the tool costs 1.6 s and 75 MB, half of the time that a pod has to
be ready. A test holds the two verifiers to the same verdicts.
"""

import json
from pathlib import Path
from typing import Any

from plumbline.core.digests import file_hex, sha256
from plumbline.core.dsse import PublicKeyError, SignatureError, opened
from plumbline.core.errors import Refused

MODEL, SCHEMA, SIGNATURE = "model.onnx", "schema.json", "model.sig"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"


class ArtifactError(Refused):
    """The artifact is not what the release names; the message says which file and how."""


def file_digests(directory: Path) -> dict[str, str]:
    """Hash every file below `directory` but the signature: {path with slashes: sha256 in hex}, sorted by path.

    Raises ArtifactError for a symbolic link or anything that is neither file nor folder.
    """
    digests = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ArtifactError(f"{name}: only plain files may stand in a model artifact")
        if path.is_file() and name != SIGNATURE:
            digests[name] = file_hex(path)
    if not digests:
        raise ArtifactError(f"{directory}: the artifact holds no files")
    return dict(sorted(digests.items()))


def digest_of(directory: Path) -> str:
    """One `sha256:…` for the folder: the hash of its `<sha256>  <path>` lines, as sha256sum prints them."""
    return _digest_of(file_digests(directory))


def _digest_of(files: dict[str, str]) -> str:
    return sha256("".join(f"{digest}  {name}\n" for name, digest in files.items()))


def verify_artifact(directory: Path, digest: str, public_keys: bytes) -> None:
    """Check a folder against git's digest and its signature against PEM public keys, of which one must have made it.

    Raises ArtifactError with the reason: a changed, added or missing file, another digest, a missing, malformed or
    foreign signature.
    """
    files = file_digests(directory)
    actual = _digest_of(files)
    if actual != digest:
        raise ArtifactError(f"the artifact hashes to {actual}, the release names {digest}; files: {sorted(files)}")
    signed = _signed_files(directory / SIGNATURE, public_keys)
    if signed != files:
        differing = sorted(name for name in files.keys() | signed.keys() if files.get(name) != signed.get(name))
        raise ArtifactError(f"{SIGNATURE} does not cover these files as they are: {differing}")


def _signed_files(path: Path, public_keys: bytes) -> dict[str, str]:
    """{file: sha256} of the signed statement."""
    try:
        statement = opened(json.loads(path.read_bytes())["dsseEnvelope"], public_keys)
        if statement["predicateType"] != _PREDICATE_TYPE:
            raise ArtifactError(f"{SIGNATURE}: not a model signature (predicate {statement['predicateType']!r})")
        return {item["name"]: _sha256(item) for item in statement["predicate"]["resources"]}
    except FileNotFoundError as error:
        raise ArtifactError(f"{SIGNATURE} is missing: the model was not signed at registration") from error
    except IsADirectoryError as error:
        raise ArtifactError(f"{SIGNATURE} is a folder, expected a file") from error
    except RecursionError as error:
        raise ArtifactError(f"{SIGNATURE} is not a signature bundle: nested too deeply") from error
    except (ArtifactError, PublicKeyError):
        raise
    except SignatureError as error:
        raise ArtifactError(f"{SIGNATURE} {error}") from error
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ArtifactError(f"{SIGNATURE} is not a signature bundle: {error!r:.200}") from error


def _sha256(resource: dict[str, Any]) -> str:
    if resource["algorithm"] != "sha256":
        raise ArtifactError(f"{SIGNATURE}: {resource['name']} is hashed with {resource['algorithm']}, expected sha256")
    return str(resource["digest"])
