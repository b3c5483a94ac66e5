"""The commands of docs/runbooks, as the pages write them."""

import re
from collections.abc import Iterator
from pathlib import Path

PAGES = Path(__file__).parents[1] / "docs/runbooks"
_COMMAND = re.compile(r"(kubectl|argo|argocd|plumbline|git|curl) ")
_READS = re.compile(r"kubectl (-n \S+ )?(get|logs|describe|top) ")
UNTRIED = "## What no test has run"


def commands() -> Iterator[tuple[str, str]]:
    """(page, command) of every line of a block and every span that is one."""
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8").split(UNTRIED)[0]
        joined = text.replace("\\\n", " ")
        spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", joined)]
        for line in [*re.findall(r"^ {4}(\S.*)$", joined, re.MULTILINE), *spans]:
            if _COMMAND.match(line):
                yield page.name, line.split("  #")[0].strip()


def is_read(command: str) -> bool:
    """Whether it only looks, at what every cluster has: tests/cluster/test_runbooks.py runs it."""
    return bool(_READS.match(command)) and "<name>" not in command and "--previous" not in command


def untried() -> list[str]:
    """What the README says that no test has run."""
    listed = (PAGES / "README.md").read_text(encoding="utf-8").partition(UNTRIED)[2]
    return re.findall(r"^- `([^`]+)`", listed, re.MULTILINE)
