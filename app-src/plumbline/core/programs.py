"""Other programs, run with a time limit and without what a person's shell or settings would change."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
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
    "core.attributesFile": os.devnull,
    "i18n.commitEncoding": "UTF-8",
    "clone.defaultRemoteName": "origin",
    "color.ui": "never",
    "advice.pushUpdateRejected": "false",
    "core.quotePath": "false",
    "log.showSignature": "false",
    "log.follow": "false",
    "log.showRoot": "true",
    "diff.noprefix": "false",
    "diff.mnemonicPrefix": "false",
    "gc.auto": "0",
    "grep.patternType": "default",
    "grep.extendedRegexp": "false",
}
_GIT_OPTIONS = [part for key, value in _GIT_SETTINGS.items() for part in ("-c", f"{key}={value}")]
# What a hook of git, or a shell in one, would have set: of the repository that it runs for, not of ours.
_GIT_PLACES = {
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_COMMON_DIR",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_LITERAL_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_TEMPLATE_DIR",
}
_STEERS = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What colours a terminal's text or moves its cursor: a server's hook may send it, and logs keep it."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended, and what it printed."""

    code: int
    stdout: bytes
    error: str
    """What it complained about, as plain text; passwords in URLs are hidden."""

    @property
    def text(self) -> str:
        """What it printed; a byte that is no text is shown as such and stops nobody."""
        return self.stdout.decode(errors="replace")


def run(
    program: str | Path,
    *arguments: str | Path,
    seconds: float = 600,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    missing: str = "install it, so that it is on PATH",
) -> Done:
    """Run a program to its end. Raises Misuse that says what to do where it is `missing`, Accident after `seconds`."""
    name = Path(program).name
    try:
        done = subprocess.run(
            [program, *arguments],
            cwd=cwd,
            env=environment,
            input=None if stdin is None else stdin.encode(),
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise Misuse(f"{name} is missing: {missing}") from error
    except OSError as error:
        raise Accident(f"{name}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise Accident(f"{name} {arguments[0] if arguments else ''}: no end after {seconds:g} s") from error
    plain = _STEERS.sub("", done.stderr.decode(errors="replace"))
    complaint = re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", plain).strip()
    return Done(done.returncode, done.stdout, complaint)


def git(
    *arguments: str,
    cwd: Path | None = None,
    seconds: float = 120,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> Done:
    """Run git without the settings and the surroundings of a person; raises as `run` does."""
    kept = {name: value for name, value in os.environ.items() if name not in _GIT_PLACES}
    fixed = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    surroundings = kept | fixed | dict(environment or {})
    return run("git", *_GIT_OPTIONS, *arguments, cwd=cwd, seconds=seconds, environment=surroundings, stdin=stdin)
