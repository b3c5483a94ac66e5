"""Settings by environment, prefix PROMOTION_; MLflow's client reads its own (MLFLOW_TRACKING_URI, user, password)."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from plumbline.core.errors import Misuse


class Settings(BaseSettings):
    """Where git is, and the key pair that models are signed with."""

    model_config = SettingsConfigDict(env_prefix="PROMOTION_", frozen=True)

    repo: str = ""
    """URL or path of the git repository that declares the environments."""
    branch: str = "main"
    signing_key: Path | None = None
    """PEM, ECDSA P-256; only `register` needs it."""
    public_key: Path | None = None
    attempts: int = Field(default=60, ge=1)
    """How often a bump that lost a race is made anew on the newest main before it gives up."""
    follows: Literal["git", "cluster"] = "git"
    """What moves the registry: git alone, or `plumbline promote reconcile` once the cluster really serves it."""
    author_name: str = "plumbline promotion"
    author_email: str = "promotion@plumbline.dev"

    def public_pem(self) -> bytes:
        """The bytes of the public key; raises Misuse where there is none."""
        return _key(self.public_key, "PROMOTION_PUBLIC_KEY")

    def signing_path(self) -> Path:
        """The path of the private key; raises Misuse where there is none."""
        _key(self.signing_key, "PROMOTION_SIGNING_KEY")
        assert self.signing_key is not None  # noqa: S101 - checked above
        return self.signing_key


def _key(path: Path | None, variable: str) -> bytes:
    if path is None:
        raise Misuse(f"{variable} is not set: name a PEM file; `plumbline promote keygen` makes a pair for local use")
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misuse(f"{variable}={path}: cannot be read: {error.strerror}") from error
