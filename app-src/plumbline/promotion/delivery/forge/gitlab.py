"""GitLab, by python-gitlab."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from gitlab import Gitlab
from gitlab.exceptions import GitlabError, GitlabGetError, GitlabParsingError
from requests import RequestException

from plumbline.promotion.delivery.forge import THINKS, Pull, Review, Wanted, answer

_THINKING = {"preparing", "unchecked", "checking"}
_STATES = {"opened": "open", "locked": "open", "merged": "merged", "closed": "closed"}


class GitLab:
    """The merge requests of one project."""

    def __init__(self, url: str, project: str, token: str) -> None:
        client = Gitlab(url.rstrip("/"), private_token=token, timeout=20)
        with _told(f"look for {project}"):
            self._project = client.projects.get(project)

    def newest(self, branch: str) -> Pull | None:
        """The newest merge request from that branch."""
        with _told(f"list the merge requests of {branch}"):
            requests = self._project.mergerequests.list(
                source_branch=branch, state="all", order_by="created_at", sort="desc", get_all=False
            )
            return next((_pull(item) for item in requests), None)

    def opened(self) -> list[Pull]:
        """All open merge requests."""
        with _told("list the open merge requests"):
            return [_pull(item) for item in self._project.mergerequests.list(state="opened", iterator=True)]

    def create(self, base: str, wanted: Wanted) -> Pull:
        """Open a merge request."""
        with _told(f"open a merge request from {wanted.branch}"):
            places = {"source_branch": wanted.branch, "target_branch": base, "remove_source_branch": True}
            return _pull(self._project.mergerequests.create(places | _said(wanted)))

    def update(self, pull: Pull, wanted: Wanted) -> None:
        """Title, description and labels."""
        with _told(f"update {pull}"):
            self._project.mergerequests.update(pull.number, _said(wanted))

    def close(self, pull: Pull, why: str) -> None:
        """Close it with a note."""
        with _told(f"close {pull}"):
            self._project.mergerequests.get(pull.number, lazy=True).notes.create({"body": why})
            self._project.mergerequests.update(pull.number, {"state_event": "close"})

    def merge(self, pull: Pull) -> None:
        """Merge it once its pipeline has succeeded."""
        with _told(f"merge {pull}"):
            item = self._project.mergerequests.get(pull.number)
            for seconds in THINKS:
                if getattr(item, "detailed_merge_status", "") not in _THINKING:
                    break
                time.sleep(seconds)
                item = self._project.mergerequests.get(pull.number)
            item.merge(merge_when_pipeline_succeeds=True)

    def review(self, commit: str) -> Review | None:
        """GitLab takes approvals back at a push where the project says so."""
        with _told(f"look for the merge request of {commit[:12]}"):
            requests = self._project.commits.get(commit, lazy=True).merge_requests()
            item = next((item for item in requests if item["state"] == "merged"), None)
            if item is None:
                return None
            given = self._project.mergerequests.get(item["iid"], lazy=True).approvals.get()
            approved = frozenset(each["user"]["username"] for each in given.approved_by)
            return Review(item["iid"], item["author"]["username"], approved)

    def rules(self, branch: str) -> dict[str, bool | None]:
        """What the protected branch says; approvals are seen by maintainers alone."""
        with _told(f"read the rules of {branch}"):
            try:
                protection = self._project.protectedbranches.get(branch)
            except GitlabGetError as error:
                if error.response_code != 404:
                    raise
                return dict.fromkeys(("pull requests only", "no force push", "no deletion"), False)
        nobody = all(level["access_level"] == 0 for level in protection.push_access_levels)
        owners = getattr(protection, "code_owner_approval_required", None)
        checks = getattr(self._project, "only_allow_merge_if_pipeline_succeeds", None)
        return {
            "pull requests only": nobody,
            "review by code owners": owners,
            "checks required": checks,
            "no force push": not protection.allow_force_push,
            "no deletion": True,
        }


def _said(wanted: Wanted) -> dict[str, Any]:
    return {"title": wanted.title, "description": wanted.body, "labels": ",".join(wanted.labels)}


def _pull(item: Any) -> Pull:
    return Pull(item.iid, item.web_url, item.source_branch, _STATES[item.state], frozenset(item.labels))  # type: ignore[arg-type]


@contextmanager
def _told(doing: str) -> Iterator[None]:
    try:
        yield
    except GitlabParsingError as error:  # it does not keep the status
        raise answer(HTTPStatus.OK, error.error_message, doing) from None
    except GitlabError as error:
        raise answer(error.response_code, error.error_message, doing) from None
    except RequestException as error:
        raise answer(None, type(error).__name__, doing) from None
