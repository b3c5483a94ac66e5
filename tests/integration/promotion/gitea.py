"""A real Gitea on loopback, as `scripts/build-gitea` makes it: people with tokens, and repositories of a test each."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

BUILT = Path(__file__).parents[3] / ".cache/gitea"
SETTINGS = """\
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
RUN_MODE = prod
WORK_PATH = {folder}
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
LOCAL_ROOT_URL = http://127.0.0.1:{port}/
STATIC_ROOT_PATH = {built}/source
DISABLE_SSH = true
OFFLINE_MODE = true
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[repository]
ROOT = {folder}/repositories
DEFAULT_BRANCH = main
[security]
INSTALL_LOCK = true
SECRET_KEY = of-a-test
PASSWORD_HASH_ALGO = pbkdf2_v2
[api]
# Fewer than are asked for at once.
MAX_RESPONSE_ITEMS = 2
[service]
DISABLE_REGISTRATION = true
[actions]
ENABLED = false
[indexer]
ISSUE_INDEXER_TYPE = db
[log]
LEVEL = Warn
"""


class Gitea:
    """The server, and what people do at it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._folder, self._settings = folder, folder / "app.ini"
        self._settings.write_text(SETTINGS.format(folder=folder, port=port, built=BUILT.resolve()))
        self.tokens: dict[str, str] = {}

    def command(self, *arguments: str) -> list[str]:
        return [str(BUILT / "gitea"), "--config", str(self._settings), *arguments]

    def run(self, *arguments: str) -> str:
        surroundings = os.environ | {"HOME": str(self._folder)}
        command = self.command(*arguments)
        done = subprocess.run(command, env=surroundings, check=True, capture_output=True, text=True)
        return done.stdout

    def person(self, name: str) -> None:
        """Somebody with a token of theirs."""
        known = ("--username", name, "--password", "a-password-of-a-test", "--email", f"{name}@plumbline.dev")
        self.run("admin", "user", "create", *known, "--must-change-password=false")
        said = self.run("admin", "user", "generate-access-token", "--username", name, "--scopes", "all", "--raw")
        self.tokens[name] = said.strip().splitlines()[-1]

    def ask(self, who: str, method: str, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"token {self.tokens[who]}"}
        answer = httpx.request(method, f"{self.url}/api/v1/{path}", headers=headers, json=body or None, timeout=60)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def address(self, who: str, project: str) -> str:
        """Of a repository, for that person's git."""
        return f"{self.url}/{project}.git".replace("://", f"://{who}:{self.tokens[who]}@")


@contextmanager
def serving(folder: Path) -> Iterator[Gitea]:
    """Serve until the end of the block: a bot that writes, Bob who reviews, Grace who owns the repositories."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gitea = Gitea(folder, port)
    gitea.run("migrate")
    surroundings = os.environ | {"HOME": str(folder)}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(gitea.command("web"), env=surroundings, stdout=log, stderr=log) as server,
    ):
        try:
            _wait(gitea, server, folder / "log")
            for name in ("bot", "bob", "grace"):
                gitea.person(name)
            yield gitea
        finally:
            server.terminate()


def _wait(gitea: Gitea, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{gitea.url}/api/v1/version", timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())
