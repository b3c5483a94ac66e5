"""One environment, rendered: its folders' objects, and the Applications that bring them into the cluster."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from plumbline.tree.render.build import Object, Objects, render, without_release
from plumbline.tree.render.sync import OURS, Sync, syncs


@dataclass(frozen=True, slots=True)
class Environment:
    """What Argo CD makes of clusters/<name>."""

    name: str
    folders: dict[str, Objects]
    syncs: list[Sync]
    given: frozenset[str] = frozenset()
    """API groups that the cluster brings along, as environment.yaml says."""

    @classmethod
    def load(cls, root: Path, name: str) -> "Environment":
        """Render it. Raises RenderError."""
        folders = render(root, name)
        files = [str(path.relative_to(root)) for path in (root / "clusters").rglob("*.yaml")]
        files += [f"clusters/{name}/models/{model}/release.yaml" for model in without_release(root, name)]
        data = yaml.safe_load((root / "clusters" / name / "environment.yaml").read_text(encoding="utf-8"))["data"]
        given = frozenset(data.get("given", "").split())
        return cls(name, folders, syncs(folders[f"clusters/{name}"], files), given)

    def objects(self) -> Iterator[tuple[str, str, Object]]:
        """Every (folder, namespace of its Application, object)."""
        namespaces = {sync.path: sync.namespace for sync in self.syncs if sync.url == OURS}
        for folder, objects in self.folders.items():
            for item in objects:
                yield folder, namespaces.get(folder, "default"), item

    def of_kind(self, *kinds: str) -> Objects:
        """Its objects of these kinds, in their order."""
        return [item for _, _, item in self.objects() if item["kind"] in kinds]

    def sources(self) -> set[tuple[str, str]]:
        """The (repository, revision) of each third party that it installs."""
        return {(sync.url, sync.revision) for sync in self.syncs if sync.url != OURS}
