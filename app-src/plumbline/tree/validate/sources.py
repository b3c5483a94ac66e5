"""Each third party's source has what its Application names, as far as a Go module of that version shows it."""

from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.crds import SOURCES, module, name_of_source
from plumbline.tree.validate.problem import Problem

_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")


def sources(tree: Environment) -> tuple[list[Problem], list[str]]:
    """Problems, and what nobody here can check: charts of a repository of charts, projects without a module.

    Raises CrdError where a module can't be had.
    """
    problems, unchecked = [], []
    for item in tree.of_kind("Application"):
        name, source = item["metadata"]["name"], item["spec"].get("source") or {}
        if source.get("repoURL") == tree.url:
            continue
        pinned = SOURCES.get(name_of_source(source["repoURL"]))
        if pinned is None or "chart" in source:
            unchecked.append(f"{source.get('chart') or source.get('path')} {source['targetRevision']}")
            continue
        folder = module(pinned, source["targetRevision"]) / source["path"]
        where = f"apps: Application/{name}"
        if not folder.is_dir():
            reason = f"{source['repoURL']} has no folder {source['path']} at {source['targetRevision']}"
            problems.append(Problem(where, reason))
            continue
        kind = "helm" if (folder / "Chart.yaml").exists() else "kustomize"
        declared = "helm" if "helm" in source else "kustomize"
        if kind == "kustomize" and not any((folder / file).exists() for file in _KUSTOMIZATIONS):
            problems.append(Problem(where, f"{source['path']} is neither a chart nor a folder of Kustomize"))
        elif declared != kind:
            problems.append(Problem(where, f"{source['path']} is for {kind}; expected `{kind}:` in its source"))
    return problems, unchecked
