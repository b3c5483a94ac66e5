"""GitHub and GitHub Enterprise, by PyGithub."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from github import Auth, Github, GithubException
from requests import RequestException

from plumbline.promotion.delivery.forge import CHECKS, THINKS, Pull, Review, Wanted, answer

if TYPE_CHECKING:
    from github.PullRequest import PullRequest


class GitHub:
    """The pull requests of one repository; `url` is the API's base."""

    def __init__(self, url: str, project: str, token: str) -> None:
        # Retries are the caller's: a pod's step is tried again as a whole.
        client = Github(base_url=url.rstrip("/"), auth=Auth.Token(token), retry=0, timeout=20)
        self._owner = project.partition("/")[0]
        with _told(f"look for {project}"):
            self._repository = client.get_repo(project)

    def newest(self, branch: str) -> Pull | None:
        """The newest pull request from that branch."""
        with _told(f"list the pull requests of {branch}"):
            head = f"{self._owner}:{branch}"
            pulls = self._repository.get_pulls(state="all", head=head, sort="created", direction="desc")
            return next((_pull(item) for item in pulls), None)

    def opened(self) -> list[Pull]:
        """All open pull requests."""
        with _told("list the open pull requests"):
            return [_pull(item) for item in self._repository.get_pulls(state="open")]

    def create(self, base: str, wanted: Wanted) -> Pull:
        """Open a pull request; labels that are missing are made by GitHub."""
        with _told(f"open a pull request from {wanted.branch}"):
            made = self._repository.create_pull(base, wanted.branch, title=wanted.title, body=wanted.body)
            made.add_to_labels(*wanted.labels)
            return _pull(made)

    def update(self, pull: Pull, wanted: Wanted) -> None:
        """Title, body and labels."""
        with _told(f"update {pull}"):
            item = self._repository.get_pull(pull.number)
            item.edit(title=wanted.title, body=wanted.body)
            item.add_to_labels(*wanted.labels)

    def close(self, pull: Pull, why: str) -> None:
        """Close it with a comment."""
        with _told(f"close {pull}"):
            item = self._repository.get_pull(pull.number)
            item.create_issue_comment(why)
            item.edit(state="closed")

    def merge(self, pull: Pull) -> None:
        """A pull request that waits for nothing takes no automatic merge, so it is merged."""
        with _told(f"merge {pull}"):
            item = self._repository.get_pull(pull.number)
            for seconds in THINKS:
                if item.mergeable_state != "unknown":
                    break
                time.sleep(seconds)
                item = self._repository.get_pull(pull.number)
            if item.mergeable_state == "clean":
                item.merge(merge_method="merge", sha=item.head.sha)
            elif not item.raw_data.get("auto_merge"):
                item.enable_automerge(merge_method="MERGE", expected_head_oid=item.head.sha)

    def review(self, commit: str) -> Review | None:
        """A review of an earlier push than the last one is none of what was merged."""
        with _told(f"look for the pull request of {commit[:12]}"):
            merged = (item for item in self._repository.get_commit(commit).get_pulls() if item.merged_at)
            if (item := next(merged, None)) is None:
                return None
            states = {
                review.user.login: review.state
                for review in item.get_reviews()  # the oldest first
                if review.commit_id == item.head.sha and review.state != "COMMENTED" and review.user
            }
            approved = frozenset(login for login, state in states.items() if state == "APPROVED")
            return Review(item.number, item.user.login, approved)

    def rules(self, branch: str) -> dict[str, bool | None]:
        """What the rulesets say that apply to the branch."""
        with _told(f"read the rules of {branch}"):
            requester = self._repository._requester  # PyGithub has no call for it
            _, rules = requester.requestJsonAndCheck("GET", f"{self._repository.url}/rules/branches/{branch}")
        by_type = {rule["type"]: rule.get("parameters", {}) for rule in rules}
        pulls = by_type.get("pull_request")
        # Several rulesets may require some each.
        required = [rule["parameters"] for rule in rules if rule["type"] == "required_status_checks"]
        contexts = {check["context"] for one in required for check in one["required_status_checks"]}
        return {
            "pull requests only": pulls is not None,
            "review by code owners": bool(pulls and pulls.get("require_code_owner_review")),
            "checks required": contexts >= CHECKS,
            "no force push": "non_fast_forward" in by_type,
            "no deletion": "deletion" in by_type,
        }


def _pull(item: "PullRequest") -> Pull:
    state = "open" if item.state == "open" else "merged" if item.merged_at else "closed"
    labels = frozenset(label.name for label in item.labels)
    return Pull(item.number, item.html_url, item.head.ref, state, labels)  # type: ignore[arg-type]


@contextmanager
def _told(doing: str) -> Iterator[None]:
    try:
        yield
    except GithubException as error:
        data = error.data if isinstance(error.data, dict) else {}
        words = [data.get("message") or error.message or error.data]
        words += [item.get("message") or item.get("code") for item in data.get("errors", []) if isinstance(item, dict)]
        raise answer(error.status, ", ".join(str(word) for word in words if word), doing) from None
    except RequestException as error:
        raise answer(None, type(error).__name__, doing) from None
    except (AssertionError, TypeError) as error:  # PyGithub takes a page to sign in at for an object without fields
        raise answer(HTTPStatus.OK, f"what is no object of GitHub's ({type(error).__name__})", doing) from error
