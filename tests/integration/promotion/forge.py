"""A stand-in of GitHub, GitLab and Gitea: their published answers, for the calls that we make, over a real repository.

Pull requests are kept in memory; a merge is a merge commit in the bare repository, whose hook refuses every push to
main. test_gitea.py asks a real Gitea.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "a-token-nobody-may-print"
REFUSED = "GH006: Protected branch update failed for refs/heads/main: Changes must be made through a pull request."


@dataclass
class Request:
    number: int
    branch: str
    title: str
    body: str
    labels: list[str]
    state: str = "open"
    merged: bool = False
    automatic: bool = False
    comments: list[str] = field(default_factory=list)
    author: str = "bot"
    reviews: list[tuple[str, str]] = field(default_factory=list)
    """(login, what GitHub and Gitea call what they said)."""
    commit: str = ""
    """The merge."""


class StandIn:
    """One repository's pull requests."""

    def __init__(self, remote: str, kind: str) -> None:
        self.remote, self.kind = remote, kind
        self.requests: list[Request] = []
        self.labels: list[str] = []
        self.checks_pending = False
        """Whether a check is still to pass: a pull request is merged later then."""
        self.checks = [{"context": "judge"}]
        """What GitHub requires."""
        self.faults: list[int] = []
        """Statuses of the next answers; 0 breaks the connection after the work was done, 200 is a page to sign in."""
        self.thinks = 0
        """How often it is asked until it has found out whether a pull request can be merged."""
        self.most = 50
        """Items of a page."""
        self.url = ""
        hook = Path(remote) / "hooks/update"
        hook.write_text(f'#!/bin/sh\n[ "$1" != refs/heads/main ] || {{ echo "{REFUSED}" >&2; exit 1; }}\n')
        hook.chmod(0o755)

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Grace", "-c", "user.email=grace@plumbline.dev")
        command = ["git", f"--git-dir={self.remote}", *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def merge(self, number: int) -> None:
        request = self.requests[number - 1]
        tree = self.git("merge-tree", "--write-tree", "main", request.branch)
        parents = ("-p", "main", "-p", request.branch)
        commit = self.git("commit-tree", tree, *parents, "-m", f"Merge pull request #{number}")
        self.git("update-ref", "refs/heads/main", commit)
        request.state, request.merged, request.commit = "closed", True, commit

    def thinking(self) -> bool:
        self.thinks -= 1
        return self.thinks >= 0

    def ask_merge(self, number: int) -> None:
        assert self.thinks <= 0, "it does not know yet whether that can be merged"
        if self.checks_pending:
            self.requests[number - 1].automatic = True
        else:
            self.merge(number)

    def open(self, branch: str, title: str, body: str, labels: list[str]) -> Request:
        self.git("rev-parse", "--verify", f"refs/heads/{branch}")
        if any(item.branch == branch and item.state == "open" for item in self.requests):
            raise Twice
        self.requests.append(Request(len(self.requests) + 1, branch, title, body, labels))
        return self.requests[-1]

    def answer(self, method: str, path: str, asked: dict[str, str], body: Any) -> Any:
        return {"github": self._github, "gitlab": self._gitlab, "gitea": self._gitea}[self.kind](
            method, path, asked, body
        )

    def _listed(self, **wanted: str) -> list[Request]:
        found = [r for r in reversed(self.requests) if wanted.get("branch", "") in ("", r.branch)]
        return [r for r in found if wanted.get("state") != "open" or r.state == "open"]

    def _github(self, method: str, path: str, asked: dict[str, str], body: Any) -> Any:
        base = f"{self.url}/api/v3/repos/o/r"

        def shown(r: Request) -> dict[str, Any]:
            mergeable = "unknown" if self.thinks > 0 else "blocked" if self.checks_pending else "clean"
            return {
                "number": r.number,
                "url": f"{base}/pulls/{r.number}",
                "issue_url": f"{base}/issues/{r.number}",
                "html_url": f"{self.url}/o/r/pull/{r.number}",
                "node_id": f"PR_{r.number}",
                "state": r.state,
                "merged_at": "2026-01-01T00:00:00Z" if r.merged else None,
                "head": {"ref": r.branch, "sha": "a" * 40},
                "mergeable_state": mergeable,
                "auto_merge": {"merge_method": "merge"} if r.automatic else None,
                "title": r.title,
                "body": r.body,
                "labels": [{"name": name} for name in r.labels],
                "user": {"login": r.author},
            }

        if path == "/api/graphql":
            assert "enablePullRequestAutoMerge" in body["query"]
            assert self.checks_pending, "Pull request is in clean status"
            self.requests[int(body["variables"]["input"]["pullRequestId"][3:]) - 1].automatic = True
            return {"data": {"enablePullRequestAutoMerge": {"actor": {"login": "bot"}, "clientMutationId": None}}}
        match method, path.removeprefix("/api/v3/repos/o/r").strip("/").split("/"):
            case "GET", [""]:
                return {"url": base, "name": "r", "full_name": "o/r"}
            case "GET", ["pulls"]:
                found = self._listed(branch=asked.get("head", "").removeprefix("o:"), state=asked["state"])
                return [shown(r) for r in found]
            case "POST", ["pulls"]:
                assert body["base"] == "main"
                return shown(self.open(body["head"], body["title"], body["body"], []))
            case "GET", ["pulls", number]:
                answered = shown(self.requests[int(number) - 1])
                self.thinking()
                return answered
            case "PATCH", ["pulls", number]:
                request = self.requests[int(number) - 1]
                for name, value in body.items():
                    setattr(request, name, value)
                return shown(request)
            case "PUT", ["pulls", number, "merge"]:
                self.merge(int(number))
                return {"merged": True, "sha": "a" * 40, "message": "Pull Request successfully merged"}
            case "POST", ["issues", number, "labels"]:
                request = self.requests[int(number) - 1]
                request.labels = sorted({*request.labels, *(body["labels"] if isinstance(body, dict) else body)})
                return [{"name": name} for name in request.labels]
            case "POST", ["issues", number, "comments"]:
                self.requests[int(number) - 1].comments.append(body["body"])
                return {"id": 1, "body": body["body"]}
            case "GET", ["commits", commit]:
                return {"sha": commit, "url": f"{base}/commits/{commit}"}
            case "GET", ["commits", commit, "pulls"]:
                return [shown(r) for r in self.requests if r.commit == commit]
            case "GET", ["pulls", number, "reviews"]:
                said = self.requests[int(number) - 1].reviews
                return [{"user": {"login": who}, "state": what, "commit_id": "a" * 40} for who, what in said]
            case "GET", ["rules", "branches", "main"]:
                return [
                    {"type": "pull_request", "parameters": {"require_code_owner_review": False}},
                    {"type": "non_fast_forward"},
                    {"type": "deletion"},
                    {"type": "required_status_checks", "parameters": {"required_status_checks": self.checks}},
                ]
        raise AssertionError(f"GitHub is asked what the stand-in does not know: {method} {path}")

    def _gitlab(self, method: str, path: str, asked: dict[str, str], body: Any) -> Any:
        def shown(r: Request) -> dict[str, Any]:
            return {
                "id": 100 + r.number,
                "iid": r.number,
                "project_id": 7,
                "web_url": f"{self.url}/o/r/-/merge_requests/{r.number}",
                "source_branch": r.branch,
                "state": "merged" if r.merged else {"open": "opened"}.get(r.state, r.state),
                "detailed_merge_status": "checking" if self.thinks > 0 else "mergeable",
                "title": r.title,
                "labels": r.labels,
                "author": {"username": r.author},
            }

        match method, path.removeprefix("/api/v4/projects/").split("/"):
            case "GET", ["o%2Fr"]:
                return {"id": 7, "path_with_namespace": "o/r", "only_allow_merge_if_pipeline_succeeds": True}
            case "GET", ["7", "merge_requests"]:
                state = {"opened": "open"}.get(asked["state"], asked["state"])
                return [shown(r) for r in self._listed(branch=asked.get("source_branch", ""), state=state)]
            case "POST", ["7", "merge_requests"]:
                assert body["target_branch"] == "main"
                labels = body["labels"].split(",")
                return shown(self.open(body["source_branch"], body["title"], body["description"], labels))
            case "GET", ["7", "merge_requests", number]:
                answered = shown(self.requests[int(number) - 1])
                self.thinking()
                return answered
            case "PUT", ["7", "merge_requests", number]:
                request = self.requests[int(number) - 1]
                request.state = "closed" if body.get("state_event") == "close" else request.state
                request.title = body.get("title", request.title)
                request.body = body.get("description", request.body)
                return shown(request)
            case "PUT", ["7", "merge_requests", number, "merge"]:
                self.ask_merge(int(number))
                return shown(self.requests[int(number) - 1])
            case "POST", ["7", "merge_requests", number, "notes"]:
                self.requests[int(number) - 1].comments.append(body["body"])
                return {"id": 1, "body": body["body"]}
            case "GET", ["7", "repository", "commits", commit, "merge_requests"]:
                return [shown(r) for r in self.requests if r.commit == commit]
            case "GET", ["7", "merge_requests", number, "approvals"]:
                last = dict(self.requests[int(number) - 1].reviews)
                names = [who for who, what in last.items() if what == "APPROVED"]
                return {"approved_by": [{"user": {"username": name}} for name in names]}
            case "GET", ["7", "protected_branches", "main"]:
                pushers = [{"access_level": 40, "access_level_description": "Maintainers"}]
                return {"name": "main", "push_access_levels": pushers, "allow_force_push": False}
        raise AssertionError(f"GitLab is asked what the stand-in does not know: {method} {path}")

    def _gitea(self, method: str, path: str, asked: dict[str, str], body: Any) -> Any:
        def shown(r: Request) -> dict[str, Any]:
            html = f"{self.url}/o/r/pulls/{r.number}"
            return {"number": r.number, "html_url": html, "head": {"ref": r.branch}} | {
                "state": r.state,
                "merged": r.merged,
                "labels": [{"name": name} for name in r.labels],
                "user": {"login": r.author},
            }

        def known() -> list[dict[str, Any]]:
            return [{"id": index + 1, "name": name} for index, name in enumerate(self.labels)]

        match method, path.removeprefix("/api/v1/repos/o/r/").split("/"):
            case "GET", ["pulls"]:
                return [shown(r) for r in self._listed(state=asked["state"])]
            case "POST", ["pulls"]:
                names = [self.labels[number - 1] for number in body["labels"]]
                return shown(self.open(body["head"], body["title"], body["body"], names))
            case "PATCH", ["pulls", number]:
                request = self.requests[int(number) - 1]
                for name in ("title", "body", "state"):
                    setattr(request, name, body.get(name, getattr(request, name)))
                return shown(request)
            case "POST", ["pulls", number, "merge"]:
                if self.thinking():
                    raise NotYet
                if self.requests[int(number) - 1].automatic:
                    raise Scheduled
                self.ask_merge(int(number))
                return None
            case "POST", ["issues", number, "comments"]:
                self.requests[int(number) - 1].comments.append(body["body"])
                return {"id": 1, "body": body["body"]}
            case "GET", ["labels"]:
                return known()
            case "POST", ["labels"]:
                self.labels.append(body["name"])
                return known()[-1]
            case "GET", ["commits", commit, "pull"]:
                if found := [shown(r) for r in self.requests if r.commit == commit]:
                    return found[0]
                raise NotThere
            case "GET", ["pulls", number, "reviews"]:
                asks = {"CHANGES_REQUESTED": "REQUEST_CHANGES"}
                said = self.requests[int(number) - 1].reviews
                return [
                    {"user": {"login": who}, "state": asks.get(what, what), "stale": False, "dismissed": False}
                    for who, what in said
                ]
            case "GET", ["branch_protections"]:
                return []
        raise AssertionError(f"Gitea is asked what the stand-in does not know: {method} {path}")


class NotThere(Exception):
    """404."""


class NotYet(Exception):
    """405: Gitea's answer while it thinks."""


class Scheduled(Exception):
    """409: Gitea's answer to who asks for an automatic merge twice."""


class Twice(Exception):
    """A second open pull request from one branch."""


@contextmanager
def serving(forge: StandIn) -> Iterator[StandIn]:
    """Answer on loopback until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            fault = forge.faults.pop(0) if forge.faults else None
            if TOKEN not in str(self.headers.get("Authorization")) + str(self.headers.get("PRIVATE-TOKEN")):
                fault = 401
            if fault == HTTPStatus.OK:
                self._send(fault, "<html>Sign in, please</html>")
                return
            if fault:
                self._send(fault, {"message": f"the words of {fault}"})
                return
            try:
                path = parts.path if forge.kind == "gitlab" else unquote(parts.path)
                said = forge.answer(self.command, path, asked, body)
            except NotThere:
                self._send(404, {"message": "not found"})
                return
            except NotYet:
                self._send(405, {"message": "Please try again later"})
                return
            except Scheduled:
                self._send(409, {"message": "pull request is already scheduled to auto merge when checks succeed"})
                return
            except Twice:
                self._send(422, {"message": "Validation Failed", "errors": [{"message": "A pull request exists"}]})
                return
            if isinstance(said, list):
                most = min(forge.most, int(asked.get("limit") or asked.get("per_page") or forge.most))
                page = int(asked.get("page", 1))
                said = said[most * (page - 1) : most * page]
            if fault == 0:
                self.close_connection = True
                self.connection.close()
                return
            self._send(201 if self.command == "POST" else 200, said)

        do_POST = do_PATCH = do_PUT = do_GET

        def _send(self, status: int, said: Any) -> None:
            page = isinstance(said, str)
            text = said.encode() if page else json.dumps(said).encode() if said is not None else b""
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if page else "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    forge.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
