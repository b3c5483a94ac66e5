"""Which files the build of a folder reads: what a commit must touch for Argo CD to render the folder anew."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_FILES = ("resources", "components", "bases", "patchesStrategicMerge", "configurations", "crds", "transformers")
_MORE = ("generators", "validators")
_PATHS = ("patches", "patchesJson6902", "replacements")
_GENERATED = ("configMapGenerator", "secretGenerator")


def files_read(root: Path, folder: str) -> set[str]:
    """Files of the tree, relative to root; one that is named and not there is none, which the build says."""
    found: set[str] = set()
    _read(root.resolve(), (root / folder).resolve(), found)
    return found


def _read(root: Path, folder: Path, found: set[str]) -> None:
    file = folder / "kustomization.yaml"
    if not file.is_file() or not file.is_relative_to(root) or (name := str(file.relative_to(root))) in found:
        return
    found.add(name)
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    for named in _named(document if isinstance(document, dict) else {}):
        # One of several lines is no path but what it would hold.
        path = (folder / named) if "\n" not in named and "://" not in named else folder / "-"
        # A link is read where it leads.
        if path.is_dir():
            _read(root, path.resolve(), found)
        elif path.is_file() and path.resolve().is_relative_to(root):
            found.add(str(path.resolve().relative_to(root)))


def _named(document: dict[str, Any]) -> Iterator[str]:
    for field in (*_FILES, *_MORE):
        yield from (entry for entry in document.get(field) or [] if isinstance(entry, str))
    for field in _PATHS:
        yield from (entry["path"] for entry in document.get(field) or [] if entry.get("path"))
    for field in _GENERATED:
        for generator in document.get(field) or []:
            # key=file
            yield from (entry.rpartition("=")[2] for entry in generator.get("files") or [])
            yield from [*(generator.get("envs") or []), *([generator["env"]] if generator.get("env") else [])]
    if (document.get("openapi") or {}).get("path"):
        yield document["openapi"]["path"]
