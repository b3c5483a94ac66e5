"""Which Application syncs which folder into which namespace: read from the rendered objects, as Argo CD reads them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from plumbline.tree.render.build import Object, Objects, RenderError

_OPTIONS = "argocd.argoproj.io/sync-options"
_FINALIZER = "resources-finalizer.argocd.argoproj.io"
# With these an ApplicationSet deletes no Application whose folder is gone.
_KEEPING = ("create-only", "create-update")


@dataclass(frozen=True, slots=True)
class Sync:
    """One source of an Application, and the namespace that it goes to with the labels that it is made with."""

    application: str
    url: str
    revision: str
    path: str
    namespace: str
    labels: dict[str, str] = field(default_factory=dict)
    project: str = ""
    made_by: str = ""
    """The ApplicationSet that makes the Application; empty for one that is declared itself."""
    cascades: bool = False
    """Whether Argo CD deletes what the Application made when it goes."""
    prunes: bool = False
    """Whether Argo CD deletes by itself what leaves the folder."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Its sync options: {"Delete": "confirm"}."""

    def option(self, item: Object, name: str) -> str:
        """What holds for an object: `confirm`, `false`, or empty; its own annotation goes before the Application's."""
        own = _options(str((item["metadata"].get("annotations") or {}).get(_OPTIONS, "")).split(","))
        return own.get(name, self.options.get(name, ""))


def syncs(objects: Objects, files: list[str]) -> list[Sync]:
    """Every source of every Application, those of the ApplicationSets' git generators included.

    `files` are the tree's, which is what a git generator looks at. Raises RenderError for one that Argo CD could not
    read.
    """
    sources: list[Sync] = []
    for item in objects:
        try:
            if item["kind"] == "Application":
                sources += _sources(item)
            elif item["kind"] == "ApplicationSet":
                name = item["metadata"]["name"]
                sources += [sync for application in _generated(item, files) for sync in _sources(application, name)]
        except (KeyError, TypeError, AttributeError) as error:
            name = f"{item.get('kind')}/{(item.get('metadata') or {}).get('name')}"
            raise RenderError(f"{name}: its shape is not an {item['kind']}'s: {error!r}") from error
    return sources


def ours(objects: Objects, environment: str) -> str:
    """The URL of this repository: where the Application that syncs clusters/<environment> takes it from, or empty."""
    root = f"clusters/{environment}"
    return next((sync.url for sync in syncs(objects, []) if sync.path == root), "")


def _sources(application: Object, made_by: str = "") -> Iterator[Sync]:
    spec: dict[str, Any] = application["spec"]
    policy = spec.get("syncPolicy") or {}
    labels = (policy.get("managedNamespaceMetadata") or {}).get("labels") or {}
    finalizers = application["metadata"].get("finalizers") or []
    for source in spec.get("sources") or [spec["source"]]:
        yield Sync(
            application["metadata"]["name"],
            source["repoURL"],
            source["targetRevision"],
            source.get("path", ""),
            spec["destination"]["namespace"],
            labels,
            spec.get("project", ""),
            made_by,
            any(name.startswith(_FINALIZER) for name in finalizers),
            bool((policy.get("automated") or {}).get("prune")),
            _options(policy.get("syncOptions") or []),
        )


def _options(texts: list[str]) -> dict[str, str]:
    return dict(part.strip().split("=", 1) for part in texts if "=" in part)


def _generated(application_set: Object, files: list[str]) -> Iterator[Object]:
    spec = application_set["spec"]
    template = json.dumps(spec["template"])
    policy = spec.get("syncPolicy") or {}
    keeps = policy.get("preserveResourcesOnDeletion") or policy.get("applicationsSync") in _KEEPING
    for generator in spec["generators"]:
        patterns = [entry["path"] for entry in generator["git"]["files"]]
        for folder in sorted({str(PurePosixPath(name).parent) for name in files if _matches(name, patterns)}):
            text = template.replace("{{ .path.path }}", folder)
            made = json.loads(text.replace("{{ .path.basename }}", PurePosixPath(folder).name))
            if not keeps:  # as the ApplicationSet's controller does
                made["metadata"].setdefault("finalizers", [_FINALIZER])
            yield made


def _matches(name: str, patterns: list[str]) -> bool:
    """A `*` is one folder, not several."""
    return any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)
