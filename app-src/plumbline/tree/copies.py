"""`plumbline tree copy-environment`: a second environment of the same class, which names nothing of the first.

What is copied is how the first one runs. What it serves, and where its databases are, is not: the copy has its own.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from plumbline.core.documents import DocumentError, worded
from plumbline.core.errors import Misuse
from plumbline.core.names import Name
from plumbline.tree.adopt import replaced
from plumbline.tree.outputs import PROMOTED, with_settings
from plumbline.tree.render.build import environments
from plumbline.tree.values import Buckets, Region, read_values

_SETTINGS = "services/services.env"
_ELSEWHERE = {"PGHOST": "postgresql.invalid", "REDIS_ADDRESS": "redis.invalid:6379"}
"""Settings of services.env that say where a managed service of the first environment is."""
_OWNERS = ".github/CODEOWNERS"


def copy_environment(root: Path, source: str, name: str, *, region: str, buckets: str, after: str) -> list[str]:
    """Write clusters/<name>, its entry in each promotion policy, and its owners; returns the files written.

    Raises Misuse for a name that is taken or none and for values that could not stand there, DocumentError for a
    source that can't be read. Nothing is written unless all of it can be.
    """
    words = _words(root, source, name, region=region, buckets=buckets)
    folder, new = root / "clusters" / source, root / "clusters" / name
    texts = {}
    for file in _files(folder):
        text = replaced(file.read_text(encoding="utf-8"), words)
        if file.match(_SETTINGS):
            text = _without_services(text, str(file.relative_to(root)))
        texts[new / file.relative_to(folder)] = text
    for policy in sorted((root / "policies/promotion").glob("*.yaml")):
        text = policy.read_text(encoding="utf-8")
        if (more := with_entry(text, source, name, after)) != text:
            texts[policy] = more
    if (owners := root / _OWNERS).exists():
        texts[owners] = _owned(owners.read_text(encoding="utf-8"), source, name)
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for link in filter(Path.is_symlink, folder.rglob("*")):
        shutil.copy2(link, new / link.relative_to(folder), follow_symlinks=False)
    return sorted(str(file.relative_to(root)) for file in texts)


def _words(root: Path, source: str, name: str, *, region: str, buckets: str) -> dict[str, str]:
    """{what the source says of itself: what the copy says}."""
    names = environments(root)
    if source not in names:
        raise Misuse(f"there is no environment {source!r}; expected one of {', '.join(names) or 'clusters/<env>'}")
    _check(name, Name, "NAME")
    if (root / "clusters" / name).exists():
        raise Misuse(f"clusters/{name} is there already; take another name")
    values = read_values(root, source)
    buckets = buckets or re.sub(rf"(?<![a-z0-9]){source}(?![a-z0-9])", name, values.buckets)
    taken = {read_values(root, other).buckets for other in names}
    words = {source: name, f"plumbline/{source}": f"plumbline/{name}"}
    if values.buckets:
        _check(buckets, Buckets, "--buckets")
        if buckets in taken:
            raise Misuse(f"--buckets {buckets!r} is another environment's; give the copy buckets of its own")
        words[values.buckets] = buckets
    if region:
        _check(region, Region, "--region")
        if not values.region:
            raise Misuse(f"--region: clusters/{source}/environment.yaml says none that could be replaced")
        # An account's registry may have a region in its name, and stays where it is.
        words |= {values.region: region, values.registry: values.registry}
    return words


def _check(value: str, shape: Any, where: str) -> None:
    try:
        TypeAdapter(shape).validate_python(value)
    except ValidationError as error:
        raise Misuse(f"{where} {worded(error).removeprefix('document: ')}") from error


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink() and file.name not in PROMOTED:
            yield file


def _without_services(text: str, source: str) -> str:
    """The text of services.env without hosts of managed services; those in the cluster are the copy's own too."""
    inside = re.compile(r"=[\w.-]+\.svc(:[0-9]+)?$", re.MULTILINE)
    lines = {line.partition("=")[0]: line for line in text.splitlines() if "=" in line and not line.startswith("#")}
    outside = {key: host for key, host in _ELSEWHERE.items() if key in lines and not inside.search(lines[key])}
    return with_settings(text, outside, source)


def with_entry(text: str, source: str, name: str, after: str) -> str:
    """A promotion policy with the source's entry once more under another name, comments and all.

    Raises DocumentError where the entry does not stand as an indented block of its own.
    """
    lines = text.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if re.fullmatch(rf" +{re.escape(source)}:\s*(#.*)?", line)]
    if not re.search(rf"^ +{re.escape(source)}:", text, re.MULTILINE):
        return text  # a model that the source never served
    if len(starts) != 1:
        raise DocumentError(f"environments.{source}: expected it once, as a block of lines of its own")
    start = starts[0]
    indent = len(lines[start]) - len(lines[start].lstrip())
    rest = lines[start + 1 :]
    length = next((n for n, line in enumerate(rest) if line.strip() and _indent(line) <= indent), len(rest))
    block = [f"{' ' * indent}{name}:\n", *rest[:length]]
    if after:
        block = [line for line in block if not re.match(r" +after:", line)]
        block.insert(1, f"{' ' * (indent + 2)}after: {after}\n")
    end = start + 1 + length
    ended = lines[:end]
    if not ended[-1].endswith("\n"):
        ended[-1] += "\n"
    return "".join([*ended, *block, *lines[end:]])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _owned(text: str, source: str, name: str) -> str:
    """CODEOWNERS with each line of the source's folder once more for the copy's."""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        lines.append(line)
        if line.startswith(f"/clusters/{source}/"):
            lines.append(line.replace(f"/clusters/{source}/", f"/clusters/{name}/", 1))
    return "".join(lines)
