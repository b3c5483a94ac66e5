"""A commit that a folder's build reads renders its Application anew; one elsewhere, such as a release, does not."""

from pathlib import Path

import pytest
import trees

from plumbline.tree.render.build import environments
from plumbline.tree.render.environment import Environment
from plumbline.tree.render.reads import files_read
from plumbline.tree.render.sync import Sync, syncs
from plumbline.tree.validate.checks import rendered_anew

URL, FOLDER = "https://git.example/ours.git", "clusters/live/models/birds"
KUSTOMIZATION = """\
resources: [release.yaml, ../../../../base, "https://git.example/theirs.git//manifests?ref=v1"]
components: [../../shared]
patches:
  - {path: patch.yaml}
  - {patch: "- {op: remove, path: /x}"}
replacements: [{path: names.yaml}]
configMapGenerator:
  - {name: files, files: [a.txt, key=b.txt], envs: [c.env]}
transformers:
  - |-
    apiVersion: builtin
    kind: NamespaceTransformer
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("release.yaml", "patch.yaml", "names.yaml", "a.txt", "b.txt", "c.env", "unread.md"):
        trees.write(tmp_path, f"{FOLDER}/{name}", "")
    trees.write(tmp_path, f"{FOLDER}/kustomization.yaml", KUSTOMIZATION)
    trees.write(tmp_path, "base/kustomization.yaml", "resources: [one.yaml]\n")
    trees.write(tmp_path, "base/one.yaml", "")
    trees.write(tmp_path, "clusters/live/shared/kustomization.yaml", "kind: Component\n")
    return tmp_path


def test_every_file_of_a_build_is_found(tree: Path) -> None:
    own = ("a.txt", "b.txt", "c.env", "kustomization.yaml", "names.yaml", "patch.yaml", "release.yaml")
    other = {"base/kustomization.yaml", "base/one.yaml", "clusters/live/shared/kustomization.yaml"}
    assert files_read(tree, FOLDER) == {f"{FOLDER}/{name}" for name in own} | other


def said(tree: Path, *reads: str) -> list[str]:
    sync = Sync("model-birds", URL, "main", FOLDER, "models", reads=reads)
    return [problem.reason for problem in rendered_anew(tree, Environment("live", {}, [sync], url=URL))]


def test_a_file_elsewhere_is_a_problem_where_changes_are_looked_for_in_places(tree: Path) -> None:
    assert said(tree) == [], "without the annotation every commit counts"
    assert said(tree, FOLDER, "base", "clusters/live/shared") == []
    (reason,) = said(tree, FOLDER, "base/one.yaml", "base/kustomization.yaml", "clusters/live/share")
    assert reason.startswith("reads clusters/live/shared/kustomization.yaml, and would not be rendered anew when")


def test_paths_are_the_repositorys_or_the_folders() -> None:
    metadata = {"name": "one", "annotations": {"argocd.argoproj.io/manifest-generate-paths": ".;../../x ; /base"}}
    source = {"repoURL": URL, "targetRevision": "main", "path": FOLDER}
    spec = {"source": source, "destination": {"namespace": "models"}}
    (sync,) = syncs([{"kind": "Application", "metadata": metadata, "spec": spec}], [])
    assert sync.reads == (FOLDER, "clusters/live/x", "base")


def test_a_release_renders_one_application_of_one_environment() -> None:
    known = [Environment.load(trees.ROOT, name) for name in environments(trees.ROOT)]
    ours = [(tree.name, sync) for tree in known for sync in tree.syncs if sync.url == tree.url]
    for folder in trees.folders(trees.ROOT):
        release = str(folder.relative_to(trees.ROOT) / "release.yaml")
        met = [
            (name, sync.application)
            for name, sync in ours
            if not sync.reads or any(release == place or release.startswith(f"{place}/") for place in sync.reads)
        ]
        assert met == [(folder.parents[1].name, f"model-{folder.name}")]
