"""The release store: the bytes of every release, written once and named by their digest, for all environments to read.

A bundle stands in a folder or below a prefix of a bucket, `<store>/<model>/<sha256 in hex>/`. Its files are asked for
by name and never listed, so that a file which somebody puts beside them is of no consequence. Libraries are imported
when they are needed.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from plumbline.core.artifact import MODEL, SCHEMA, SIGNATURE, ArtifactError
from plumbline.core.errors import Accident

FILES = (MODEL, SCHEMA, SIGNATURE)
"""What a bundle holds; the signature is last, so that one that was half written is none."""
_CHUNK = 1024 * 1024


class StoreError(Accident):
    """The store can't be read or written now; a later try may succeed. The message names the address and the reason."""


class Bundle(Protocol):
    """The files of one bundle, somewhere."""

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of one file in chunks; raises ArtifactError where there is none."""

    def add(self, path: Path) -> None:
        """Write a file that is not there yet; one that is stays as it is."""


def address(store: str, model: str, digest: str) -> str:
    """Where a bundle stands in a store."""
    return f"{store.rstrip('/')}/{model}/{digest.removeprefix('sha256:')}"


def open_bundle(uri: str, timeout: float = 30) -> AbstractContextManager[Bundle]:
    """Open the bundle at a URI, which need not be there yet; `timeout` in seconds is that of each request.

    Raises StoreError for a scheme that is not known, and while it is open where the store does not answer.
    """
    match urlsplit(uri).scheme:
        case "file":
            return _folder(uri)
        case "s3":
            return _prefix(uri, timeout)
        case scheme:
            raise StoreError(f"{uri}: {scheme!r} is not file or s3")


def download(bundle: Bundle, target: Path, max_bytes: int = sys.maxsize, names: tuple[str, ...] = FILES) -> None:
    """Copy files of a bundle into a folder; raises ArtifactError for a missing file or too many bytes."""
    left = max_bytes
    for name in names:
        with (target / name).open("xb") as stream:
            for chunk in bundle.read(name):
                left -= len(chunk)
                if left < 0:
                    raise ArtifactError(f"the artifact is larger than {max_bytes} bytes (SERVING_MAX_ARTIFACT_BYTES)")
                stream.write(chunk)


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> Iterator[bytes]:
        path = self.path / name
        if not self.path.is_dir():
            raise StoreError(f"{self.path}: there is no such folder")
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(f"the artifact lacks {name}: no plain file in {self.path}")
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk

    def add(self, path: Path) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".incoming-", dir=self.path) as folder:
                whole = shutil.copyfile(path, Path(folder) / path.name)
                whole.chmod(0o444)
                with suppress(FileExistsError):
                    (self.path / path.name).hardlink_to(whole)  # unlike a rename, it replaces nothing
        except OSError as error:
            raise StoreError(f"{self.path}: {error}") from error


@contextmanager
def _folder(uri: str) -> Iterator[Bundle]:
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute():
        raise StoreError(f"{uri}: expected file:///absolute/path")
    yield _Folder(path)


class _Prefix:
    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.client, self.bucket, self.prefix = client, bucket, prefix.rstrip("/")

    def _place(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{name}"}

    def read(self, name: str) -> Iterator[bytes]:
        try:
            body = self.client.get_object(**self._place(name))["Body"]
        except self.client.exceptions.NoSuchKey as error:
            raise ArtifactError(f"the artifact lacks {name}: s3://{self.bucket}/{self.prefix} has none") from error
        yield from body.iter_chunks(_CHUNK)

    def add(self, path: Path) -> None:
        from botocore.exceptions import ClientError

        try:
            with path.open("rb") as stream:
                self.client.put_object(**self._place(path.name), Body=stream, IfNoneMatch="*")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:  # it is there
                raise


@contextmanager
def _prefix(uri: str, timeout: float) -> Iterator[Bundle]:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(uri)
    config = Config(connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 2})
    try:
        yield _Prefix(boto3.client("s3", config=config), parts.netloc, unquote(parts.path.lstrip("/")))
    except (BotoCoreError, ClientError) as error:
        raise StoreError(f"{uri}: {error}") from error
