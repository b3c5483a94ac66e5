"""Which Application syncs which folder into which namespace: read from the rendered objects, as Argo CD reads them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from plumbline.tree.render.build import Object, Objects

OURS = "https://github.com/plumbline-dev/plumbline.git"


@dataclass(frozen=True, slots=True)
class Sync:
    """One source of an Application, and the namespace that it goes to with the labels that it is made with."""

    application: str
    url: str
    revision: str
    path: str
    namespace: str
    labels: dict[str, str] = field(default_factory=dict)


def syncs(objects: Objects, files: list[str]) -> list[Sync]:
    """Every source of every Application, those of the ApplicationSets' git generators included.

    `files` are the tree's, which is what a git generator looks at.
    """
    sources: list[Sync] = []
    for item in objects:
        if item["kind"] == "Application":
            sources += _sources(item)
        elif item["kind"] == "ApplicationSet":
            sources += [sync for application in _generated(item, files) for sync in _sources(application)]
    return sources


def _sources(application: Object) -> Iterator[Sync]:
    spec: dict[str, Any] = application["spec"]
    labels = spec.get("syncPolicy", {}).get("managedNamespaceMetadata", {}).get("labels", {})
    for source in spec.get("sources") or [spec["source"]]:
        yield Sync(
            application["metadata"]["name"],
            source["repoURL"],
            source["targetRevision"],
            source.get("path", ""),
            spec["destination"]["namespace"],
            labels,
        )


def _generated(application_set: Object, files: list[str]) -> Iterator[Object]:
    template = json.dumps(application_set["spec"]["template"])
    for generator in application_set["spec"]["generators"]:
        patterns = [entry["path"] for entry in generator["git"]["files"]]
        for folder in sorted({str(PurePosixPath(name).parent) for name in files if _matches(name, patterns)}):
            text = template.replace("{{ .path.path }}", folder)
            yield json.loads(text.replace("{{ .path.basename }}", PurePosixPath(folder).name))


def _matches(name: str, patterns: list[str]) -> bool:
    """A `*` is one folder, not several."""
    return any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)
