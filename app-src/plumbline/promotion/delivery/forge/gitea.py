"""Gitea and Forgejo, by their REST API: the few calls that promotion makes."""

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx

from plumbline.core.errors import Accident, Refused
from plumbline.promotion.delivery.forge import THINKS, Pull, Review, Wanted, answer


class Gitea:
    """The pull requests of one repository."""

    def __init__(self, url: str, project: str, token: str) -> None:
        base = f"{url.rstrip('/')}/api/v1/repos/{project}/"
        self._http = httpx.Client(base_url=base, headers={"Authorization": f"token {token}"}, timeout=20)

    def newest(self, branch: str) -> Pull | None:
        """The newest pull request from that branch: Gitea lists the newest first."""
        return next(
            (pull for item in self._pages("pulls", state="all") if (pull := _pull(item)).branch == branch), None
        )

    def opened(self) -> list[Pull]:
        """All open pull requests."""
        return [_pull(item) for item in self._pages("pulls", state="open")]

    def create(self, base: str, wanted: Wanted) -> Pull:
        """Open a pull request."""
        body = {"head": wanted.branch, "base": base, "title": wanted.title, "body": wanted.body}
        return _pull(self._ask("POST", "pulls", body | {"labels": self._labels(wanted.labels)}))

    def update(self, pull: Pull, wanted: Wanted) -> None:
        """Title, body and labels."""
        body = {"title": wanted.title, "body": wanted.body, "labels": self._labels(wanted.labels)}
        self._ask("PATCH", f"pulls/{pull.number}", body)

    def close(self, pull: Pull, why: str) -> None:
        """Close it with a comment."""
        self._ask("POST", f"issues/{pull.number}/comments", {"body": why})
        self._ask("PATCH", f"pulls/{pull.number}", {"state": "closed"})

    def merge(self, pull: Pull) -> None:
        """Merge it, or as soon as its checks have passed."""
        for seconds in (*THINKS, 0):
            try:
                self._ask("POST", f"pulls/{pull.number}/merge", {"Do": "merge", "merge_when_checks_succeed": True})
                return
            except Refused as error:
                if "already scheduled" not in str(error):
                    raise
                return
            except Accident as error:
                if " 405 " not in str(error) or not seconds:
                    raise
            time.sleep(seconds)

    def review(self, commit: str) -> Review | None:
        """What is stale was of an earlier push."""
        item = self._ask("GET", f"commits/{commit}/pull", absent=True)
        if item is None:
            return None
        states = {
            review["user"]["login"]: review["state"]
            for review in self._pages(f"pulls/{item['number']}/reviews")
            if review["state"] in ("APPROVED", "REQUEST_CHANGES") and not (review["stale"] or review["dismissed"])
        }
        approved = frozenset(login for login, state in states.items() if state == "APPROVED")
        return Review(item["number"], item["user"]["login"], approved) if item["merged"] else None

    def rules(self, branch: str) -> dict[str, bool | None]:
        """What the branch's protection says."""
        protection = next((item for item in self._pages("branch_protections") if item["rule_name"] == branch), None)
        return {
            "pull requests only": protection is not None and not protection["enable_push"],
            "review by code owners": None,
            "checks required": protection is not None and protection["enable_status_check"],
            "no force push": protection is not None and not protection.get("enable_force_push", False),
            "no deletion": protection is not None,
        }

    def _labels(self, names: tuple[str, ...]) -> list[int]:
        """Gitea knows labels by number; those that are missing are made."""
        ids = {item["name"]: item["id"] for item in self._pages("labels")}
        for name in names:
            if name not in ids:
                ids[name] = self._ask("POST", "labels", {"name": name, "color": "#5319e7"})["id"]
        return [ids[name] for name in names]

    def _pages(self, path: str, **asked: str) -> Iterator[Any]:
        """Until a page is empty: how many items one has at most is the server's to say."""
        for page in count(1):
            items = self._ask("GET", path, params=asked | {"page": str(page), "limit": "50"})
            if not items:
                return
            yield from items

    def _ask(
        self,
        method: str,
        path: str,
        body: object = None,
        params: dict[str, str] | None = None,
        *,
        absent: bool = False,
    ) -> Any:
        """What it answers; None for nothing, and with `absent` for what is not there."""
        doing = f"{method} {path}"
        try:
            response = self._http.request(method, path, json=body, params=params)
        except httpx.HTTPError as error:
            raise answer(None, type(error).__name__, doing) from None
        if absent and response.status_code == httpx.codes.NOT_FOUND:
            return None
        if not response.is_success:
            raise answer(response.status_code, _words(response), doing)
        try:
            return response.json() if response.content else None
        except ValueError:
            raise answer(response.status_code, response.text, doing) from None


def _words(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text or response.headers.get("Location", "")


def _pull(item: Any) -> Pull:
    state = "merged" if item["merged"] else item["state"]
    labels = frozenset(label["name"] for label in item["labels"])
    return Pull(item["number"], item["html_url"], item["head"]["ref"], state, labels)  # type: ignore[arg-type]
