"""One environment, rendered: its folders' objects, and the Applications that bring them into the cluster."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plumbline.core.documents import load
from plumbline.tree.render.build import Object, Objects, RenderError, render_apart, without_release
from plumbline.tree.render.sync import Sync, ours, syncs


@dataclass(frozen=True, slots=True)
class Environment:
    """What Argo CD makes of clusters/<name>."""

    name: str
    folders: dict[str, Objects]
    syncs: list[Sync]
    given: frozenset[str] = frozenset()
    """API groups that the cluster brings along, as environment.yaml says."""
    url: str = ""
    """Of this repository, as the root Application names it."""
    broken: Mapping[str, RenderError] = field(default_factory=dict)
    """Folders that do not build, and why."""
    unserved: frozenset[str] = frozenset()
    """Folders of models without release.yaml: rendered with an example, and in no cluster."""

    @classmethod
    def load(cls, root: Path, name: str, *, partly: bool = False) -> "Environment":
        """Render it. Raises RenderError; where `partly`, only if its own folder does not build."""
        folders, broken = render_apart(root, name)
        own = f"clusters/{name}"
        for error in [broken[own]] if partly and own in broken else [] if partly else broken.values():
            raise error
        files = [str(path.relative_to(root)) for path in (root / "clusters").rglob("*.yaml")]
        unserved = frozenset(f"{own}/models/{model}" for model in without_release(root, name))
        files += [f"{folder}/release.yaml" for folder in unserved]
        try:
            data = load((root / own / "environment.yaml").read_text(encoding="utf-8"))["data"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RenderError(f"{own}/environment.yaml: expected a ConfigMap with data: {error}") from error
        given = frozenset(data.get("given", "").split())
        return cls(name, folders, syncs(folders[own], files), given, ours(folders[own], name), broken, unserved)

    def objects(self) -> Iterator[tuple[str, str, Object]]:
        """Every (folder, namespace of its Application, object)."""
        namespaces = {path: sync.namespace for path, sync in self.by_folder().items()}
        for folder, objects in self.folders.items():
            for item in objects:
                yield folder, namespaces.get(folder, "default"), item

    def by_folder(self) -> dict[str, Sync]:
        """{folder of this repository: what syncs it}."""
        return {sync.path: sync for sync in self.syncs if sync.url == self.url}

    def of_kind(self, *kinds: str) -> Objects:
        """Its objects of these kinds, in their order."""
        return [item for _, _, item in self.objects() if item["kind"] in kinds]

    def sources(self) -> set[tuple[str, str]]:
        """The (repository, revision) of each third party that it installs."""
        return {(sync.url, sync.revision) for sync in self.syncs if sync.url != self.url}
