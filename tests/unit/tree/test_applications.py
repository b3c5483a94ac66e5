"""What comes, goes and is deleted when folders, ApplicationSets and their settings change, as Argo CD does it."""

from typing import Any

from plumbline.tree.applications import changed_applications
from plumbline.tree.render.build import Object
from plumbline.tree.render.environment import Environment
from plumbline.tree.render.sync import syncs
from plumbline.tree.validate import checks

URL = "https://git.example/ml/platform.git"
ROOT = "clusters/here"
CONFIRM = {"argocd.argoproj.io/sync-options": "Prune=confirm"}
POLICY = {"automated": {"prune": True, "selfHeal": True}}


def thing(kind: str, name: str, annotations: dict[str, str] | None = None, **metadata: str) -> Object:
    more = {"annotations": annotations} if annotations else {}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name} | metadata | more}


def application(name: str, path: str, namespace: str, url: str = URL, **metadata: Any) -> Object:
    source = {"repoURL": url, "targetRevision": "main", "path": path}
    spec = {"project": "all", "source": source, "destination": {"namespace": namespace}, "syncPolicy": POLICY}
    return thing("Application", name) | {"metadata": {"name": name} | metadata, "spec": spec}


def workloads(name: str = "workloads", options: tuple[str, ...] = (), **policy: Any) -> Object:
    template = application("{{ .path.basename }}", "{{ .path.path }}", "{{ .path.basename }}")
    template["spec"] = template["spec"] | {"syncPolicy": POLICY | {"syncOptions": list(options)}}
    generator = {"git": {"files": [{"path": f"{ROOT}/workloads/*/kustomization.yaml"}]}}
    spec = {"generators": [generator], "template": template, "syncPolicy": policy}
    return thing("ApplicationSet", name) | {"spec": spec}


def environment(folders: dict[str, list[Object]], *own: Object) -> Environment:
    """One whose root declares `own`, with these folders of workloads."""
    files = [f"{ROOT}/workloads/{name}/kustomization.yaml" for name in folders]
    declared = [application("platform", ROOT, "argocd"), *(own or [workloads()])]
    return Environment(
        "here",
        {ROOT: declared} | {f"{ROOT}/workloads/{name}": items for name, items in folders.items()},
        syncs(declared, files),
        url=URL,
    )


DATABASE = [thing("Service", "postgresql"), thing("StatefulSet", "postgresql")]


def test_a_renamed_folder_is_two_applications_and_a_deletion() -> None:
    old, new = environment({"postgresql": DATABASE}), environment({"postgres": DATABASE})
    assert list(changed_applications(old, new)) == [
        "**Application postgres comes**: clusters/here/workloads/postgres into the namespace postgres",
        "**Application postgresql goes**: "
        "Argo CD deletes postgresql/StatefulSet/postgresql, postgresql/Service/postgresql",
        "**Namespace postgres comes**",
        "**Namespace postgresql** is left by its last Application, which does not delete the namespace itself",
    ]


def test_what_asks_for_a_confirmation_is_not_deleted_without() -> None:
    goes = "**Application postgresql goes**: Argo CD deletes postgresql/StatefulSet/postgresql"
    whole = environment({"postgresql": DATABASE[1:]}, workloads(options=("Delete=confirm",)))
    assert f"{goes}, once a person confirms it" in list(changed_applications(whole, environment({})))
    marked = environment({"postgresql": [thing("StatefulSet", "postgresql", CONFIRM)]})
    assert f"{goes}, once a person confirms it" in list(changed_applications(marked, environment({})))
    assert goes in list(changed_applications(environment({"postgresql": DATABASE[1:]}), environment({})))


def test_resources_that_an_application_set_preserves_stay() -> None:
    for policy in ({"preserveResourcesOnDeletion": True}, {"applicationsSync": "create-update"}):
        old = environment({"postgresql": DATABASE[1:]}, workloads(**policy))
        said = list(changed_applications(old, environment({})))
        goes = "**Application postgresql goes**: postgresql/StatefulSet/postgresql stay in the cluster, and nobody's"
        assert goes in said
        assert not [line for line in said if "deletes" in line]


def test_what_leaves_a_folder_is_pruned() -> None:
    old = environment({"redis": [thing("StatefulSet", "redis", CONFIRM), thing("Service", "redis")]})
    assert list(changed_applications(old, environment({"redis": []}))) == [
        "**Application redis** deletes redis/Service/redis",
        "**Application redis** deletes, once a person confirms it, redis/StatefulSet/redis",
    ]
    moved = environment(
        {"redis": [item | {"metadata": item["metadata"] | {"namespace": "cache"}} for item in DATABASE]}
    )
    before = environment({"redis": DATABASE})
    assert "**Application redis** deletes redis/StatefulSet/postgresql, redis/Service/postgresql" in list(
        changed_applications(before, moved)
    )


def test_another_owner_is_named() -> None:
    here = [thing("Service", "shared", namespace="shared")]
    old, new = environment({"a": here, "b": []}), environment({"a": [], "b": here})
    assert list(changed_applications(old, new)) == [
        "**Service/shared**: owner a → b; Argo CD deletes it if it syncs a first"
    ]
    renamed = environment({"a": here}, workloads("tasks"))
    said = list(changed_applications(environment({"a": here}), renamed))
    owner = "owner workloads → tasks: Argo CD deletes shared/Service/shared with the ApplicationSet workloads"
    assert f"**Application a**: {owner}" in said
    assert "**Application platform** deletes argocd/ApplicationSet/workloads" in said


def test_a_declared_application_goes_without_what_it_made() -> None:
    tool = application("tool", "manifests", "tool", "https://git.example/tool.git")
    old = environment({}, tool)
    [goes, left, pruned] = list(changed_applications(old, environment({}, thing("ConfigMap", "x"))))[:3]
    assert goes == "**Application tool goes**: what it made stays in the cluster, and nobody's"
    assert left == "**Application platform** deletes argocd/Application/tool"
    assert pruned.startswith("**Namespace tool** is left")
    tool["metadata"]["finalizers"] = ["resources-finalizer.argocd.argoproj.io"]
    assert "**Application tool goes**: Argo CD deletes what it made" in list(
        changed_applications(environment({}, tool), environment({}, thing("ConfigMap", "x")))
    )


def test_an_environment_that_goes_takes_what_its_application_sets_made() -> None:
    said = list(changed_applications(environment({"redis": DATABASE}), None))
    assert "**Application redis goes**: Argo CD deletes redis/StatefulSet/postgresql, redis/Service/postgresql" in said
    assert not [line for line in said if "platform" in line]


def test_a_model_without_a_release_has_no_application_yet() -> None:
    folder = f"{ROOT}/workloads/flights"
    serving = environment({"flights": [thing("Rollout", "flights-server", CONFIRM)]})
    waiting = Environment("here", serving.folders, serving.syncs, url=URL, unserved=frozenset({folder}))
    assert f"**Application flights comes**: {folder} into the namespace flights" in list(
        changed_applications(waiting, serving)
    )
    goes = "**Application flights goes**: Argo CD deletes flights/Rollout/flights-server, once a person confirms it"
    assert goes in list(changed_applications(serving, waiting))


def test_what_argo_cd_may_delete_unasked_is_a_problem() -> None:
    loose = environment({"postgresql": DATABASE}, workloads() | {"metadata": {"name": "workloads"} | marked()})
    where = f"{ROOT}/workloads/postgresql: StatefulSet/postgresql: "
    expected = "Argo CD may delete it and asks nobody; expected `argocd.argoproj.io/sync-options: "
    said = [str(problem) for problem in checks.deletions(loose)]
    assert f"{where}{expected}Prune=confirm,Delete=confirm`" in said
    assert "apps: ApplicationSet/workloads: self-heal of one Application can't be stopped" in "\n".join(said)
    kept = workloads(options=("Delete=confirm",)) | {"metadata": {"name": "workloads"} | marked()}
    kept["spec"] |= {
        "ignoreApplicationDifferences": [{"jsonPointers": ["/spec/syncPolicy"]}],
        "preservedFields": {"annotations": ["argocd.argoproj.io/deletion-approved"]},
    }
    [left] = checks.deletions(environment({"postgresql": DATABASE}, kept))
    assert str(left) == f"{where}{expected}Prune=confirm`"
    safe = [thing("StatefulSet", "postgresql", CONFIRM)]
    assert checks.deletions(environment({"postgresql": safe}, kept)) == []


def test_a_namespace_that_the_project_does_not_allow_is_a_problem() -> None:
    project = thing("AppProject", "all") | {
        "spec": {"sourceRepos": [URL], "destinations": [{"namespace": "argocd"}, {"namespace": "redis"}]}
    }
    assert checks.permitted(environment({"redis": []}, workloads(), project)) == []
    [problem] = checks.permitted(environment({"valkey": []}, workloads(), project))
    assert str(problem) == (
        "apps: Application/valkey: valkey is not in the destinations of its project all (apps/projects)"
    )


def marked() -> dict[str, Any]:
    return {"annotations": CONFIRM}
