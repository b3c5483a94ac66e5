"""Settings by environment, prefix PROMOTION_; MLflow's client reads its own (MLFLOW_TRACKING_URI, user, password)."""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
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
    store: str = ""
    """The release store, `s3://bucket/prefix` or `file:///folder`; only `register` needs it."""
    approver_key: Path | None = None
    """PEM, ECDSA P-256, of the person who approves; its public half stands in policies/approvers.yaml."""
    attempts: int = Field(default=60, ge=1)
    """How often a bump that lost a race is made anew on the newest main before it gives up."""
    follows: Literal["git", "cluster"] = "git"
    """What moves the registry: git alone, or `plumbline promote reconcile` once the cluster really serves it."""
    forge: Literal["", "github", "gitlab", "gitea"] = ""
    """Where pull requests are opened; while it is empty, commits are pushed to the branch."""
    forge_url: str = ""
    """The forge's address; GitHub Enterprise: of its API, https://host/api/v3. Empty: github.com, gitlab.com."""
    forge_project: str = ""
    """`owner/name` where PROMOTION_REPO does not tell it."""
    forge_token: SecretStr | None = None
    forge_token_file: Path | None = None
    commit_key: Path | None = None
    """Private SSH key that commits are signed with, if any."""
    author_name: str = "plumbline promotion"
    author_email: str = "promotion@plumbline.dev"

    def token(self) -> str:
        """The forge's token; raises Misuse where there is none."""
        if self.forge_token is not None and self.forge_token.get_secret_value():
            return self.forge_token.get_secret_value()
        name = "PROMOTION_FORGE_TOKEN_FILE"
        if self.forge_token_file is None:
            raise Misuse(f"{name} is not set: name a file that holds the token of the forge's bot (docs/promotion.md)")
        try:
            token = self.forge_token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misuse(f"{name}={self.forge_token_file}: cannot be read: {error}") from None
        if not token:
            raise Misuse(f"{name}={self.forge_token_file}: it is empty; expected a token")
        return token

    def release_store(self) -> str:
        """Where released bundles are kept; raises Misuse where it is not said."""
        if urlsplit(self.store).scheme not in ("s3", "file"):
            raise Misuse(
                f"PROMOTION_STORE={self.store}: expected the release store, like s3://releases or file:///srv/releases"
            )
        return self.store

    def public_pem(self) -> bytes:
        """The bytes of the public key; raises Misuse where there is none."""
        return _key(self.public_key, "PROMOTION_PUBLIC_KEY")

    def approver_pem(self) -> bytes:
        """The approver's private key; raises Misuse where there is none."""
        return _key(self.approver_key, "PROMOTION_APPROVER_KEY")

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
