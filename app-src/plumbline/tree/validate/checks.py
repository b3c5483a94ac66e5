"""What can be said of the tree without a cluster: its models' documents, its links, its YAML."""

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from kubernetes.utils.quantity import parse_quantity
from yamllint import linter
from yamllint.config import YamlLintConfig

from plumbline.core import programs
from plumbline.core.documents import DocumentError, read
from plumbline.core.errors import Misuse, Refused
from plumbline.core.evidence import parse_evidence
from plumbline.promotion.delivery import approval, hold
from plumbline.promotion.delivery.git import Checkout
from plumbline.promotion.delivery.records import barred_problems
from plumbline.promotion.delivery.state import forbidden
from plumbline.promotion.policy import Policy
from plumbline.promotion.settings import Settings
from plumbline.tree import tools
from plumbline.tree.applications import STATEFUL, owned
from plumbline.tree.documents import name_of as name_in
from plumbline.tree.documents import read_ladder, read_release
from plumbline.tree.render.build import Object
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.cluster import name_of
from plumbline.tree.validate.crds import Crd
from plumbline.tree.validate.problem import Problem

_ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
_SERVER_MB = 160
"""What a server takes with a small model, twice what docs/benchmarks.md shows after its run."""
_APPROVED = "argocd.argoproj.io/deletion-approved"
_LINTED = ("apps", "argo", "clusters", "kustomize", "policies", ".github")


def lint(root: Path) -> list[Problem]:
    """Yamllint, by the rules of .yamllint."""
    config = YamlLintConfig(file=str(root / ".yamllint"))
    files = [path for folder in _LINTED for path in sorted((root / folder).rglob("*.yaml"))]
    return [
        Problem(f"{path.relative_to(root)}:{complaint.line}", f"{complaint.desc} ({complaint.rule or 'syntax'})")
        for path in files
        for complaint in linter.run(path.read_text(encoding="utf-8"), config, str(path))
    ]


def workflows(root: Path) -> list[Problem]:
    """Actionlint, as Go builds it from its module."""
    files = sorted(root.glob(".github/workflows/*.yaml"))
    done = programs.run(tools.go(), "run", _ACTIONLINT, "-oneline", "-shellcheck=", "-pyflakes=", *files, cwd=root)
    if done.code > 1:
        return [Problem(".github/workflows", f"actionlint gave no verdict: {done.error[-500:]}")]
    findings = (line.split(":", 3) for line in done.text.splitlines())
    return [Problem(f"{file}:{line}", reason.strip()) for file, line, _, reason in findings]


def models(root: Path) -> list[Problem]:
    """Every folder of a model: the model is known, and its documents have their shape and its name."""
    problems: list[Problem] = []
    for folder in sorted(root.glob("clusters/*/models/*/")):
        model, where = folder.name, str(folder.relative_to(root))
        for expected in (f"policies/promotion/{model}.yaml", f"app-src/models/{model}"):
            if not (root / expected).exists():
                problems.append(Problem(where, f"unknown model {model!r}: expected {expected}"))
        problems += _document(root, folder / "canary.yaml", read_ladder)
        if (folder / "release.yaml").exists():
            problems += _document(root, folder / "release.yaml", read_release) or _forbidden(root, folder)
        if (folder / "evidence.yaml").exists():
            problems += _document(root, folder / "evidence.yaml", partial(parse_evidence, source=""))
    return problems


def _forbidden(root: Path, folder: Path) -> list[Problem]:
    """What git's own records have against a release, whoever committed it and however it was merged."""
    tree, where = Checkout(root.resolve(), Settings()), str(folder.relative_to(root) / "release.yaml")
    try:
        release = read_release((folder / "release.yaml").read_text(encoding="utf-8"))
        reasons = forbidden(tree, folder.parents[1].name, release)
        return [
            Problem(where, f"{reason} (policies/barred, policies/approvals); name another release")
            for reason in reasons
        ]
    except (Misuse, Refused) as error:
        return [Problem(where, f"cannot be judged: {error}")]


def holds(root: Path) -> list[Problem]:
    """Every hold and freeze has its shape, its place, and an environment and a model that there are."""
    return [Problem(where, reason) for where, reason in hold.problems(Checkout(root.resolve(), Settings()))]


def barred(root: Path) -> list[Problem]:
    """Every record of what is barred has its shape and its place."""
    return [Problem(where, reason) for where, reason in barred_problems(Checkout(root.resolve(), Settings()))]


def approvals(root: Path) -> list[Problem]:
    """Who may approve is said in its shape, and every approval is signed by one of them and has its place."""
    return [Problem(where, reason) for where, reason in approval.problems(Checkout(root.resolve(), Settings()))]


def _document(root: Path, path: Path, read: Callable[[str], object]) -> list[Problem]:
    where = str(path.relative_to(root))
    try:
        text = path.read_text(encoding="utf-8")
        read(text)
        if (name := name_in(text)) != path.parent.name:
            raise DocumentError(f"metadata.name: expected {path.parent.name!r}, the folder's name, not {name!r}")
    except DocumentError as error:
        return [Problem(f"{where}:{error.line}", str(error))]
    except (OSError, UnicodeDecodeError) as error:
        return [Problem(where, f"cannot be read: {error}")]
    return []


def links(tree: Environment) -> list[Problem]:
    """Every path of ours that an Application names is a folder of the environment, and every folder is synced once."""
    ours = [sync for sync in tree.syncs if sync.url == tree.url]
    problems = [
        Problem(
            f"apps: Application/{sync.application}", f"syncs {sync.path}, which is no folder of clusters/{tree.name}"
        )
        for sync in ours
        if sync.path not in tree.folders
    ]
    for folder in tree.folders:
        names = [sync.application for sync in ours if sync.path == folder]
        if len(names) != 1:
            problems.append(Problem(folder, f"is synced by {' and '.join(names) or 'no Application'}; expected by one"))
    return problems


def installed(tree: Environment, crds: dict[str, list[Crd]]) -> list[Problem]:
    """Every custom kind that an environment uses is one that a third party of the same environment installs."""
    own = {crd.kind for crd in crds[tree.name]}
    custom = {crd.kind for of_environment in crds.values() for crd in of_environment if crd.kind[0] not in tree.given}
    return [
        Problem(f"{folder}: {name_of(item)}", f"no Application of {tree.name} installs the kind {item['kind']}")
        for folder, _, item in tree.objects()
        if (item["apiVersion"].split("/")[0], item["kind"]) in custom - own
    ]


def memory(root: Path, tree: Environment) -> list[Problem]:
    """Pods of a model server have the memory that the model's gate lets a model take, beside the server's own."""
    problems: list[Problem] = []
    for folder, _, item in tree.objects():
        path = root / f"policies/promotion/{item['metadata'].get('labels', {}).get('plumbline.dev/model')}.yaml"
        if item["kind"] != "Rollout" or not path.exists():
            continue
        try:
            spec = read(path, Policy).spec
            [server] = item["spec"]["template"]["spec"]["containers"]
            limit = server["resources"]["limits"]["memory"]
            given = float(parse_quantity(limit)) / 1e6  # type: ignore[no-untyped-call]
        except (DocumentError, KeyError, ValueError):
            continue  # the gate, an admission policy and the API server name these
        needed = _SERVER_MB + spec.rules_of(tree.name).memory_mb if tree.name in spec.environments else 0
        if given < needed:
            reason = f"its pods may take {limit} of memory, expected {needed:g} MB: {_SERVER_MB} of the server, and "
            problems.append(Problem(f"{folder}: {name_of(item)}", f"{reason}memory_mb of {path.relative_to(root)}"))
    return problems


def budgets(tree: Environment) -> list[Problem]:
    """Where two replicas are the rule, a budget keeps one when nodes are drained; no admission policy sees it."""
    if "replicas.plumbline.dev" not in {item["metadata"]["name"] for item in tree.of_kind("ValidatingAdmissionPolicy")}:
        return []
    selectors = [
        (item["metadata"].get("namespace"), item["spec"]["selector"]["matchLabels"].items())
        for item in tree.of_kind("PodDisruptionBudget")
    ]
    return [
        Problem(f"{folder}: {name_of(item)}", "no PodDisruptionBudget selects its pods")
        for folder, _, item in tree.objects()
        if item["kind"] in ("Deployment", "StatefulSet", "Rollout") and item["spec"].get("replicas", 2) > 1
        if not any(
            namespace == item["metadata"].get("namespace")
            and labels <= item["spec"]["template"]["metadata"]["labels"].items()
            for namespace, labels in selectors
        )
    ]


def deletions(tree: Environment) -> list[Problem]:
    """Argo CD deletes nothing that holds data or serves without a person who confirms it, and who stops it is heard."""
    problems = []
    for sync, item in owned(tree).values():
        if item["kind"] not in STATEFUL:
            continue
        free = [
            option
            for option, may in (("Prune", sync.prunes), ("Delete", sync.cascades))
            if may and sync.option(item, option) not in ("confirm", "false")
        ]
        if free:
            wanted = ",".join(f"{option}=confirm" for option in free)
            reason = f"Argo CD may delete it and asks nobody; expected `argocd.argoproj.io/sync-options: {wanted}`"
            problems.append(Problem(f"{sync.path}: {name_of(item)}", reason))
    return problems + [problem for item in tree.of_kind("ApplicationSet") for problem in _suspendable(item)]


def _suspendable(item: Object) -> Iterator[Problem]:
    """An ApplicationSet writes back what a person changes in its Applications, unless it is told not to."""
    spec, where = item["spec"], f"apps: {name_of(item)}"
    automated = (spec["template"]["spec"].get("syncPolicy") or {}).get("automated") or {}
    pointers = {
        text for entry in spec.get("ignoreApplicationDifferences") or [] for text in entry.get("jsonPointers", [])
    }
    if automated.get("selfHeal") and not pointers & {"/spec/syncPolicy", "/spec/syncPolicy/automated"}:
        reason = "self-heal of one Application can't be stopped; expected /spec/syncPolicy/automated in "
        yield Problem(where, f"{reason}ignoreApplicationDifferences")
    if _APPROVED not in (spec.get("preservedFields") or {}).get("annotations", []):
        yield Problem(where, f"takes a person's confirmation away; expected {_APPROVED} in preservedFields.annotations")


def permitted(tree: Environment) -> list[Problem]:
    """The project of every Application allows its repository and its namespace; Argo CD syncs no other."""
    projects = {item["metadata"]["name"]: item["spec"] for item in tree.of_kind("AppProject")}
    problems = []
    for sync in tree.syncs:
        if (project := projects.get(sync.project)) is None:
            reason = f"is in the project {sync.project!r}; expected one of {', '.join(sorted(projects))}"
            problems.append(Problem(f"apps: Application/{sync.application}", reason))
            continue
        repositories, places = project.get("sourceRepos") or [], project.get("destinations") or []
        for what, value, allowed in (
            ("sourceRepos", sync.url, repositories),
            ("destinations", sync.namespace, [place.get("namespace", "") for place in places]),
        ):
            if not any(fnmatchcase(value, pattern) for pattern in allowed):
                reason = f"{value} is not in the {what} of its project {sync.project} (apps/projects)"
                problems.append(Problem(f"apps: Application/{sync.application}", reason))
    return problems
