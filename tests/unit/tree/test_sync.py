"""What the Applications and ApplicationSets of a rendered tree sync."""

import pytest

from plumbline.tree.render.build import RenderError
from plumbline.tree.render.sync import ours, syncs

OURS = "https://git.example/ml/platform.git"
LABELS = {"app.kubernetes.io/part-of": "plumbline"}


def application(name: str, source: dict[str, str], namespace: str) -> dict[str, object]:
    spec = {
        "source": {"targetRevision": "main", "repoURL": OURS} | source,
        "destination": {"namespace": namespace},
        "syncPolicy": {"managedNamespaceMetadata": {"labels": LABELS}},
    }
    return {"kind": "Application", "metadata": {"name": name}, "spec": spec}


def test_an_application_is_one_sync() -> None:
    keda = {"repoURL": "https://github.com/kedacore/keda.git", "targetRevision": "v2.21.0", "path": "config"}
    [sync] = syncs([application("keda", keda, "keda"), {"kind": "AppProject"}], [])
    assert (sync.url, sync.revision, sync.namespace, sync.labels) == (keda["repoURL"], "v2.21.0", "keda", LABELS)


def test_several_sources_are_several_syncs() -> None:
    item = application("two", {}, "default")
    spec = item["spec"]
    assert isinstance(spec, dict)
    spec["sources"] = [spec["source"] | {"path": path} for path in ("a", "b")]
    assert [sync.path for sync in syncs([item], [])] == ["a", "b"]


def test_a_git_generator_finds_folders_one_level_deep() -> None:
    generators = [{"git": {"files": [{"path": "clusters/local/models/*/release.yaml"}]}}]
    template = application("model-{{ .path.basename }}", {"path": "{{ .path.path }}"}, "models")
    item = {"kind": "ApplicationSet", "metadata": {"name": "models"}, "spec": {"generators": generators}}
    item["spec"]["template"] = {"metadata": template["metadata"], "spec": template["spec"]}  # type: ignore[index]
    files = [
        "clusters/local/models/flights/release.yaml",
        "clusters/local/models/flights/deep/release.yaml",
        "clusters/local/models/diabetes/canary.yaml",
        "clusters/staging/models/flights/release.yaml",
    ]
    [sync] = syncs([item], files)
    assert (sync.application, sync.path) == ("model-flights", "clusters/local/models/flights")


def test_the_repository_is_where_the_root_application_comes_from() -> None:
    root = application("platform", {"path": "clusters/local"}, "argocd")
    keda = application("keda", {"repoURL": "https://github.com/kedacore/keda.git", "path": "config"}, "keda")
    assert ours([keda, root], "local") == OURS
    assert ours([keda], "local") == ""


def test_an_application_of_another_shape_is_said_by_name() -> None:
    with pytest.raises(RenderError, match="Application/odd: its shape is not an Application's"):
        syncs([{"kind": "Application", "metadata": {"name": "odd"}, "spec": {}}], [])
