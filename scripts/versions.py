"""The table of every version in use, made from what pins them: apps/, the rendered manifests, and go.mod files."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.tree.render.build import environments, render
from plumbline.tree.render.sync import ours
from plumbline.tree.values import read_values

# Kubernetes' own projects have a name of their own as Go modules.
_VANITY = {"sigs.k8s.io/": "github.com/kubernetes-sigs/", "istio.io/": "github.com/istio/"}
_HEAD = """\
# Versions

Made by `make versions` from what pins them, and a test holds it equal. Each is changed where it is pinned: an
Application by its `targetRevision` in `apps/`, an image in `kustomize/`, a program by `go get -tool` in its folder of
`tests/`.
"""


@dataclass(frozen=True, slots=True)
class Application:
    """A third party's Application: what it installs, from where."""

    name: str
    source: str
    version: str
    environments: tuple[str, ...]


def applications(rendered: dict[str, list[dict[str, Any]]]) -> list[Application]:
    """Those of third parties in {environment: its objects}."""
    places: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for environment, objects in rendered.items():
        for item in objects:
            if item["kind"] == "Application" and item["spec"]["source"]["repoURL"] != ours(objects, environment):
                source = item["spec"]["source"]
                where = source["repoURL"].removeprefix("https://").removesuffix(".git")
                places[item["metadata"]["name"], where, source["targetRevision"]].append(environment)
    return [Application(*key, tuple(names)) for key, names in sorted(places.items())]


def images(objects: list[dict[str, Any]], registries: set[str]) -> set[str]:
    """Every image of others, wherever an object names one by version; `registries` are ours.

    Ours may come from any registry: a release names a Rollout's, and a digest alone is not how others' are pinned.
    """
    pinned = [item for item in objects if item.get("kind") != "Rollout"]
    named = (str(value) for item in pinned for key, value in _walk(item) if key == "image" and isinstance(value, str))
    mine = tuple(f"{registry}/" for registry in registries)
    others = {image for image in named if "/" in image and not image.startswith(mine)}
    return {image for image in others if ":" in image.split("@")[0].rpartition("/")[2]}


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def modules(root: Path) -> dict[str, str]:
    """{Go module: version} of the programs that the tests build."""
    modules = {}
    for path in root.glob("tests/**/go.mod"):
        text = path.read_text(encoding="utf-8")
        required = dict(re.findall(r"^\s*(?:require )?(\S+) (v\S+)", text, re.MULTILINE))
        block = re.search(r"^tool \((.*?)^\)", text, re.MULTILINE | re.DOTALL)
        for tool in block[1].split() if block else re.findall(r"^tool (\S+)", text, re.MULTILINE):
            module = max((name for name in required if f"{tool}/".startswith(f"{name}/")), key=len)
            modules[module] = required[module]
    return dict(sorted(modules.items()))


def built(application: Application, programs: dict[str, str]) -> str:
    """The version that the test cluster builds of an Application's program; empty where it builds none."""
    for module, version in programs.items():
        for vanity, repository in _VANITY.items():
            module = module.replace(vanity, repository, 1)
        if f"{module}/".startswith(f"{application.source}/"):
            return version
    return ""


def table(root: Path) -> str:
    """The document."""
    rendered = {environment: render(root, environment) for environment in environments(root)}
    own = {environment: folders[f"clusters/{environment}"] for environment, folders in rendered.items()}
    everything = [item for folders in rendered.values() for objects in folders.values() for item in objects]
    programs = modules(root)
    registries = {read_values(root, environment).registry for environment in rendered}
    lines = [_HEAD, "## Third parties that Argo CD installs", ""]
    lines += ["| Application | version | from | in | built for the test cluster |", "| --- | --- | --- | --- | --- |"]
    for item in applications(own):
        where = "all" if len(item.environments) == len(own) else ", ".join(item.environments)
        lines.append(f"| {item.name} | {item.version} | {item.source} | {where} | {built(item, programs)} |")
    lines += ["", "## Images of others in our own manifests", "", "| image | version |", "| --- | --- |"]
    lines += [
        "| {} | {} |".format(*image.split("@")[0].rsplit(":", 1)) for image in sorted(images(everything, registries))
    ]
    lines += ["", "## Programs that the tests build", "", "| Go module | version |", "| --- | --- |"]
    lines += [f"| {module} | {version} |" for module, version in programs.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(Path(__file__).parents[1]), end="")
