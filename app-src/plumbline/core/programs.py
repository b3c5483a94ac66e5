"""Other programs, run with a time limit and without what a person's shell or settings would change."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from plumbline.core.errors import Accident, Misuse

# A person's hooks, signing, line ends and maintenance are for the person's commits; who may push and how a host is
# reached (credentials, proxies, certificates, safe.directory) stays as it is set up.
_GIT_SETTINGS = {
    "commit.gpgSign": "false",
    "push.gpgSign": "false",
    "push.followTags": "false",
    "tag.gpgSign": "false",
    "core.hooksPath": os.devnull,
    "core.autocrlf": "false",
    "core.safecrlf": "false",
    "clone.defaultRemoteName": "origin",
    "color.ui": "never",
    "core.quotePath": "false",
    "log.showSignature": "false",
    "diff.noprefix": "false",
    "diff.mnemonicPrefix": "false",
    "gc.auto": "0",
}
_GIT_OPTIONS = [part for key, value in _GIT_SETTINGS.items() for part in ("-c", f"{key}={value}")]
# What a hook of git, or a shell in one, would have set: of the repository that it runs for, not of ours.
_GIT_PLACES = {
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_TEMPLATE_DIR",
}


def run(
    command: Sequence[str | Path],
    *,
    seconds: float = 600,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end; what it printed comes as bytes. Raises Misuse where it is missing, Accident after
    `seconds`.
    """
    name = Path(command[0]).name
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            input=None if stdin is None else stdin.encode(),
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise Misuse(f"{name} is missing: install it, so that it is on PATH") from error
    except OSError as error:
        raise Accident(f"{name}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise Accident(f"{name} {command[1] if len(command) > 1 else ''}: no end after {seconds:g} s") from error


def git(
    *arguments: str, cwd: Path | None = None, seconds: float = 120, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run git without the settings and the surroundings of a person; raises as `run` does."""
    kept = {name: value for name, value in os.environ.items() if name not in _GIT_PLACES}
    fixed = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    return run(
        ["git", *_GIT_OPTIONS, *arguments], cwd=cwd, seconds=seconds, environment=kept | fixed | dict(environment or {})
    )


def text(data: bytes) -> str:
    """What a program printed, as text; a byte that is none is shown as such and stops nobody."""
    return data.decode(errors="replace")
