"""A forge: where a branch that refuses pushes takes pull requests. One small interface, an adapter for each kind.

Adapters raise what `answer` makes of their client's errors: one line with the forge's own words, never the token.
"""

from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import urlsplit

from plumbline.core.errors import Accident, Misuse, PlumblineError, Refused
from plumbline.promotion.settings import Settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a pull request is to say."""

    branch: str
    title: str
    body: str
    """Markdown."""
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull request (GitLab: merge request) as the forge has it."""

    number: int
    url: str
    branch: str
    state: Literal["open", "merged", "closed"]
    labels: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"pull request {self.number} ({self.url})"


@dataclass(frozen=True, slots=True)
class Review:
    """Who stood for a pull request that was merged, by the forge's own word."""

    pull: int
    author: str
    approved: frozenset[str]
    """Logins of those who approved what was merged, and took nothing back."""


RELIES_ON = {
    "pull requests only": "nobody's commit reaches an environment unseen",
    "review by code owners": "who may merge production's release.yaml is who may approve it",
    "checks required": "`plumbline promote audit` and `tree validate` judge it before it is merged",
    "no force push": "history is what rollbacks go back to",
    "no deletion": "the branch is what Argo CD follows",
}
"""{rule of the branch: why the design relies on it}; .github/rulesets/main.json holds them for GitHub."""

CHECKS = frozenset({"judge", "audit"})
"""Jobs of .github/workflows/pull-request.yaml that must have passed."""

THINKS = (0.5, 1, 2, 4, 8)
"""Seconds between questions: forges find out in the background whether a new pull request can be merged."""


class Forge(Protocol):
    """What promotion needs of a forge. Everything but `create` may be called again without harm."""

    def newest(self, branch: str) -> Pull | None:
        """The newest pull request from that branch, in whatever state."""

    def opened(self) -> list[Pull]:
        """All open pull requests."""

    def create(self, base: str, wanted: Wanted) -> Pull:
        """Open a pull request into `base`."""

    def update(self, pull: Pull, wanted: Wanted) -> None:
        """Make it say what is wanted."""

    def close(self, pull: Pull, why: str) -> None:
        """Close it with a comment."""

    def merge(self, pull: Pull) -> None:
        """Merge it, at once where its branch rules are met, else as soon as they are."""

    def review(self, commit: str) -> Review | None:
        """Of the merged pull request that brought a commit to its branch; None where none did."""

    def rules(self, branch: str) -> dict[str, bool | None]:
        """Which of RELIES_ON hold for a branch; None where the token may not see it."""


def answer(status: int | None, said: object, doing: str) -> PlumblineError:
    """The error for a forge's answer: an accident is tried again, the rest is not."""
    words = " ".join(str(said).split())[:300]
    if status is None:
        return Accident(f"the forge gave no answer to {doing}: {words}; try again: what was made already is found")
    text = f"the forge answered {status} to {doing}: {words}"
    if status == 401:
        return Misuse(f"{text}; PROMOTION_FORGE_TOKEN_FILE must name a file with a token that is valid")
    if status == 404:
        return Misuse(f"{text}; look at PROMOTION_FORGE_URL and PROMOTION_FORGE_PROJECT, and whether the token sees it")
    later = ("rate limit", "try again later")  # Gitea while it thinks
    if status == 429 or status >= 500 or (status >= 400 and any(words.lower().count(word) for word in later)):
        return Accident(f"{text}; try again later")
    if status < 400:  # a page to sign in at, or another address
        return Misuse(f"{text}; expected JSON: PROMOTION_FORGE_URL must be the API's own address")
    if status == 403:
        return Refused(f"{text}; allow the token to write pull requests and contents (docs/promotion.md)")
    return Refused(text)


def connect(settings: Settings) -> Forge:
    """The forge of PROMOTION_FORGE; raises Misuse where a setting is missing."""
    url, project, token = settings.forge_url, project_of(settings), settings.token()
    if settings.forge == "github":
        from plumbline.promotion.delivery.forge.github import GitHub

        return GitHub(url or "https://api.github.com", project, token)
    if settings.forge == "gitlab":
        from plumbline.promotion.delivery.forge.gitlab import GitLab

        return GitLab(url or "https://gitlab.com", project, token)
    if settings.forge == "gitea":
        from plumbline.promotion.delivery.forge.gitea import Gitea

        if not url:
            raise Misuse("PROMOTION_FORGE_URL is not set: Gitea's address, e.g. https://git.example.org")
        return Gitea(url, project, token)
    raise Misuse("PROMOTION_FORGE is not set: expected github, gitlab or gitea, and its token (docs/promotion.md)")


def project_of(settings: Settings) -> str:
    """`owner/name`, given or as PROMOTION_REPO ends: https://host/owner/name.git, git@host:owner/name.git."""
    if settings.forge_project:
        return settings.forge_project
    parts = urlsplit(settings.repo)
    path = parts.path if parts.scheme in {"https", "http", "ssh"} else settings.repo.partition(":")[2]
    path = path.strip("/").removesuffix(".git")
    if "/" not in path:
        raise Misuse(f"PROMOTION_FORGE_PROJECT is not set, and PROMOTION_REPO={settings.repo} does not tell owner/name")
    return path
