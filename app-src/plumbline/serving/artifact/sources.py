"""Where artifacts come from: a folder, an S3 bucket, or MLflow's artifact proxy. Libraries are imported when needed."""

import posixpath
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from plumbline.core.artifact import ArtifactError
from plumbline.core.errors import Accident
from plumbline.serving.settings import Settings

CHUNK = 1024 * 1024


class FetchError(Accident):
    """The source can't be read now; a later try may succeed. The message names the address and the reason."""


class Source(Protocol):
    """A folder of files somewhere."""

    def names(self) -> list[str]:
        """The paths of its files, relative to it, as the source gives them."""

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of one file in chunks."""


def open_source(uri: str, settings: Settings) -> AbstractContextManager[Source]:
    """Open what a release's URI names; raises FetchError for a scheme that is not known."""
    match urlsplit(uri).scheme:
        case "file":
            return _folder(uri)
        case "s3":
            return _bucket(uri, settings)
        case "mlflow-artifacts":
            return _mlflow(uri, settings)
        case scheme:
            raise FetchError(f"{uri}: {scheme!r} is not file, s3 or mlflow-artifacts")


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        files = []
        for path in self.path.rglob("*"):
            name = path.relative_to(self.path).as_posix()
            if path.is_symlink():
                raise ArtifactError(f"{name}: a link may not stand in a model artifact")
            if path.is_file():
                files.append(name)
        return files

    def read(self, name: str) -> Iterator[bytes]:
        with (self.path / name).open("rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk


@contextmanager
def _folder(uri: str) -> Iterator[Source]:
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute():
        raise FetchError(f"{uri}: expected file:///absolute/path")
    if not path.is_dir():
        raise FetchError(f"{uri}: there is no such folder")
    yield _Folder(path)


class _Bucket:
    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.client, self.bucket, self.prefix = client, bucket, prefix.rstrip("/") + "/"

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        return [item["Key"].removeprefix(self.prefix) for page in pages for item in page.get("Contents", ())]

    def read(self, name: str) -> Iterator[bytes]:
        body = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"]
        yield from body.iter_chunks(CHUNK)


@contextmanager
def _bucket(uri: str, settings: Settings) -> Iterator[Source]:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(uri)
    timeout = settings.fetch_timeout_seconds
    config = Config(connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 2})
    try:
        yield _Bucket(boto3.client("s3", config=config), parts.netloc, unquote(parts.path.lstrip("/")))
    except (BotoCoreError, ClientError) as error:
        raise FetchError(f"{uri}: {error}") from error


class _MlflowFolder:
    """MLflow's REST API of proxied artifacts (`/api/2.0/mlflow-artifacts/artifacts`)."""

    def __init__(self, client: Any, root: str) -> None:
        self.client, self.root = client, root
        self.address = "api/2.0/mlflow-artifacts/artifacts"

    def names(self) -> list[str]:
        response = self.client.get(self.address, params={"path": self.root})
        response.raise_for_status()
        files = response.json().get("files", [])
        # A server of today lists plain names; one that lists a folder or a path is refused by its name.
        return [str(item["path"]) + ("/" if item.get("is_dir") else "") for item in files]

    def read(self, name: str) -> Iterator[bytes]:
        with self.client.stream("GET", f"{self.address}/{quote(posixpath.join(self.root, name))}") as response:
            response.raise_for_status()
            yield from response.iter_bytes(CHUNK)


@contextmanager
def _mlflow(uri: str, settings: Settings) -> Iterator[Source]:
    import httpx

    if not settings.mlflow_tracking_uri:
        raise FetchError(f"{uri}: MLFLOW_TRACKING_URI must name the MLflow server that holds it")
    parts = urlsplit(uri)
    root = unquote(parts.path).lstrip("/")
    if not root or ".." in root.split("/"):
        raise ArtifactError(f"{uri}: not a plain path below the artifact root")
    password = settings.mlflow_tracking_password.get_secret_value()
    auth = (settings.mlflow_tracking_username, password) if settings.mlflow_tracking_username else None
    client = httpx.Client(
        base_url=settings.mlflow_tracking_uri, auth=auth, timeout=settings.fetch_timeout_seconds, trust_env=False
    )
    try:
        with client:
            yield _MlflowFolder(client, root)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise FetchError(f"{uri} at {settings.mlflow_tracking_uri}: {error}") from error
