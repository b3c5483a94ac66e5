"""What apps/ declares: every Application is allowed what it does, pinned, and removable by one line."""

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import asis
import pytest
import yaml

from plumbline.tree.copies import copy_environment
from plumbline.tree.render.build import as_yaml, build, environments, render
from plumbline.tree.values import read_values

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = environments(ROOT)
Rendered = dict[str, dict[str, list[dict[str, Any]]]]
OURS = {environment: read_values(ROOT, environment) for environment in ENVIRONMENTS}


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    """{environment: {folder: objects}}."""
    return {environment: asis.rendered(environment) for environment in ENVIRONMENTS}


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """{name: spec} of one kind."""
    return {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == kind}


def sources(specs: dict[str, dict[str, Any]]) -> set[str]:
    """Where the Applications come from."""
    return {spec["source"]["repoURL"] for spec in specs.values()}


def permits(project: dict[str, Any], item: dict[str, Any], namespace: str) -> bool:
    """Whether Argo CD would let the project's Applications apply the object."""
    group = item["apiVersion"].rpartition("/")[0]

    def listed(rights: str) -> bool:
        return any(
            (right["group"], fnmatch(item["kind"], right["kind"])) == (group, True)
            and fnmatch(item["metadata"]["name"], right.get("name", "*"))
            for right in project.get(rights, [])
        )

    allowed_there = namespace in {destination["namespace"] for destination in project["destinations"]}
    return allowed_there and (listed("namespaceResourceWhitelist") or listed("clusterResourceWhitelist"))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_application_has_a_project_that_allows_its_source_and_place(environment: str, rendered: Rendered) -> None:
    own = rendered[environment][f"clusters/{environment}"]
    projects = of_kind(own, "AppProject")
    for name, spec in of_kind(own, "Application").items():
        project = projects[spec["project"]]
        assert spec["source"]["repoURL"] in project["sourceRepos"], name
        assert spec["destination"] in project["destinations"], name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_project_allows_more_sources_than_are_used(environment: str, rendered: Rendered) -> None:
    own = rendered[environment][f"clusters/{environment}"]
    for name, project in of_kind(own, "AppProject").items():
        members = {key: spec for key, spec in of_kind(own, "Application").items() if spec["project"] == name}
        assert sources(members) | {OURS[environment].repository} >= set(project["sourceRepos"]), name
        assert "*" not in project["sourceRepos"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(("folder", "project"), [("workloads", "workloads"), ("models", "models"), ("", "root")])
def test_every_object_of_ours_is_allowed_by_its_project(
    environment: str, folder: str, project: str, rendered: Rendered
) -> None:
    own = f"clusters/{environment}"
    rights = of_kind(rendered[environment][own], "AppProject")[project]
    paths = {path: str(Path(path).parent.relative_to(own)) if path != own else "" for path in rendered[environment]}
    assert folder in paths.values()
    for path, objects in rendered[environment].items():
        if paths[path] == folder:
            # The folder is the namespace of a workload, `models` that of all models, `argocd` that of the root.
            namespace = {"workloads": Path(path).name, "models": "models", "": "argocd"}[folder]
            refused = [
                f"{item['kind']}/{item['metadata']['name']}"
                for item in objects
                if not permits(rights, item, item["metadata"].get("namespace", namespace))
            ]
            assert not refused, f"{path}: apps/projects/{project}.yaml does not allow {refused}"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_model_makes_no_namespace_no_secret_and_no_way_out(environment: str, rendered: Rendered) -> None:
    project = of_kind(rendered[environment][f"clusters/{environment}"], "AppProject")["models"]
    for kind, version in (
        ("Namespace", "v1"),
        ("Secret", "v1"),
        ("ExternalSecret", "external-secrets.io/v1"),
        ("SecretStore", "external-secrets.io/v1"),
        ("ServiceAccount", "v1"),
        ("ServiceEntry", "networking.istio.io/v1"),
        ("EnvoyFilter", "networking.istio.io/v1"),
        ("RoleBinding", "rbac.authorization.k8s.io/v1"),
        ("Deployment", "apps/v1"),
        ("Job", "batch/v1"),
        ("AnalysisRun", "argoproj.io/v1alpha1"),
    ):
        item = {"apiVersion": version, "kind": kind, "metadata": {"name": "models"}}
        assert not permits(project, item, "models"), kind
    assert {place["namespace"] for place in project["destinations"]} == {"models"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_secret_store_answers_the_namespaces_that_ask_it_and_no_other(environment: str, rendered: Rendered) -> None:
    items = [item for objects in rendered[environment].values() for item in objects]
    asking = {item["metadata"]["namespace"] for item in items if item["kind"] == "ExternalSecret"}
    stores = of_kind(items, "ClusterSecretStore")
    assert bool(stores) == bool(asking)
    for store in stores.values():
        assert {name for one in store["conditions"] for name in one["namespaces"]} == asking


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_third_parties_are_pinned_by_one_exact_version(environment: str, rendered: Rendered) -> None:
    for name, spec in of_kind(rendered[environment][f"clusters/{environment}"], "Application").items():
        source = spec["source"]
        if source["repoURL"] == OURS[environment].repository:
            assert source["targetRevision"] == OURS[environment].branch, name
            continue
        version = source["targetRevision"]
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", version), f"{name}: {version} may move"
        tags = {image.rpartition(":")[2] for image in source.get("kustomize", {}).get("images", [])}
        tags |= set(re.findall(r"tag: (\S+)", yaml.safe_dump(source.get("helm", {}))))
        assert {tag.removeprefix("v") for tag in tags} <= {version.removeprefix("v")}, name


def test_a_new_environment_is_one_folder(tree: Path) -> None:
    copy_environment(tree, "staging", "quality", region="", buckets="", after="")
    assert set(environments(tree)) == {*ENVIRONMENTS, "quality"}
    objects = render(tree, "quality")
    assert {path.removeprefix("clusters/quality") for path in objects} == {
        path.removeprefix("clusters/staging") for path in render(tree, "staging")
    }
    own = objects["clusters/quality"]
    assert of_kind(own, "Application")["platform"]["source"]["path"] == "clusters/quality"
    assert "staging" not in as_yaml(own)


def test_a_new_model_is_one_folder(tree: Path) -> None:
    new = tree / "clusters/production/models/penguins"
    shutil.copytree(tree / "clusters/production/models/flights", new)
    for path in new.iterdir():
        path.write_text(path.read_text().replace("flights", "penguins"))
    objects = render(tree, "production")["clusters/production/models/penguins"]
    names = [item["metadata"]["name"] for item in objects]
    assert names
    assert all(name.startswith("penguins-") for name in names), names
    pod = of_kind(objects, "Rollout")["penguins-server"]["template"]
    assert pod["metadata"]["labels"]["plumbline.dev/model"] == "penguins"


OPTIONAL = sorted(path.name for path in (ROOT / "apps/components").iterdir())


def without(component: str, tree: Path) -> list[dict[str, Any]]:
    """What production renders to when it had a component and its line is gone; the tree is left without it."""
    listing = tree / "clusters/production/kustomization.yaml"
    listing.write_text(listing.read_text().replace(f"  - ../../apps/components/{component}\n", ""))
    return build(tree, "clusters/production")


def having(component: str, tree: Path) -> list[dict[str, Any]]:
    """What production renders to with a component, which it may have already."""
    listing = tree / "clusters/production/kustomization.yaml"
    line, last = f"  - ../../apps/components/{component}\n", "  - ../../apps/environment\n"
    if line not in listing.read_text():
        listing.write_text(listing.read_text().replace(last, line + last))
    return build(tree, "clusters/production")


@pytest.mark.parametrize("component", OPTIONAL)
def test_a_component_leaves_the_cluster_with_its_line(component: str, tree: Path) -> None:
    before = having(component, tree)
    after = without(component, tree)
    gone = of_kind(before, "Application").keys() - of_kind(after, "Application").keys()
    marks = {item["metadata"]["name"]: item["metadata"].get("finalizers") for item in before}
    assert {name: marks[name] for name in gone} == {name: ["resources-finalizer.argocd.argoproj.io"] for name in gone}
    # Argo CD deletes nothing that the project does not permit, and the project is without the line by then.
    projects = of_kind(after, "AppProject")
    for name in gone:
        spec = of_kind(before, "Application")[name]
        assert spec["destination"] in projects[spec["project"]]["destinations"], name
    left = [item for item in before if item not in after and item["kind"] not in ("Application", "AppProject")]
    for item in left:
        assert permits(projects["root"], item, "argocd") or item["kind"] == "ApplicationSet", item["metadata"]


def test_changes_in_working_hours_alone_are_a_component(tree: Path) -> None:
    projects = of_kind(having("sync-windows", tree), "AppProject")
    for name in ("models", "workloads"):
        (window,) = projects[name]["syncWindows"]
        assert (window["kind"], window["applications"], window["manualSync"]) == ("allow", ["*"], True)
        assert window["timeZone"]
    assert not any("syncWindows" in projects[name] for name in projects.keys() - {"models", "workloads"})


@pytest.mark.parametrize("component", OPTIONAL)
def test_deleting_one_line_removes_a_component(component: str, tree: Path) -> None:
    before = having(component, tree)
    after = without(component, tree)
    assert after != before
    files = (path.read_text() for path in (tree / "apps/components" / component).glob("*.yaml"))
    declared = [item for text in files for item in yaml.safe_load_all(text) if isinstance(item, dict)]
    gone = {item["metadata"]["name"] for item in declared if item["kind"] == "Application"}
    assert of_kind(after, "Application").keys() == of_kind(before, "Application").keys() - gone
    left = sources(of_kind(after, "Application"))
    allowed = {url for project in of_kind(after, "AppProject").values() for url in project["sourceRepos"]}
    assert allowed == left


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_rules_for_our_pods_hold_where_models_run_and_not_for_argo_cd(environment: str, rendered: Rendered) -> None:
    """Namespaces are chosen by their labels; a transformer that renamed this one moved the rules to Argo CD."""
    own = rendered[environment][f"clusters/{environment}"]
    namespaces = {item["metadata"]["name"]: item["metadata"]["labels"] for item in own if item["kind"] == "Namespace"}
    labels = {"app.kubernetes.io/part-of": "plumbline", "pod-security.kubernetes.io/enforce": "restricted"}
    assert namespaces == {"models": labels}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_the_bootstrap_needs_is_declared(environment: str, rendered: Rendered) -> None:
    applications = of_kind(rendered[environment][f"clusters/{environment}"], "Application")
    argo_cd = applications["argo-cd"]
    assert argo_cd["source"]["kustomize"]["namespace"] == "argocd"
    assert argo_cd["syncPolicy"]["managedNamespaceMetadata"]["labels"]
    assert "platform" in applications


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_whoever_has_an_autoscaler_comes_after_the_figures_of_pods(environment: str, rendered: Rendered) -> None:
    """Its health is Degraded until metrics-server answers, and one Degraded Application fails its wave's sync."""
    objects = rendered[environment][f"clusters/{environment}"]
    waves = {
        item["metadata"]["name"]: int(item["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", "0"))
        for item in objects
        if item["kind"] == "Application"
    }
    scaled = {
        name
        for name, spec in of_kind(objects, "Application").items()
        if {"autoscaling", "autoscaleMin"} & spec["source"].get("helm", {}).get("valuesObject", {}).keys()
    }
    assert scaled or "istiod" not in waves
    assert all(waves["metrics-server"] < waves[name] for name in scaled)
