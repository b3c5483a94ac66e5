"""`plumbline tree validate`: what would be refused after the merge is refused before it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from plumbline.tree.fill_in import to_fill_in
from plumbline.tree.render.build import Objects, RenderError, environments
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate import checks
from plumbline.tree.validate.api_server import api_server
from plumbline.tree.validate.barred import frozen_ladders
from plumbline.tree.validate.classes import classes
from plumbline.tree.validate.cluster import Cluster, name_of
from plumbline.tree.validate.crds import crds_of
from plumbline.tree.validate.examples import Example, check_examples, of_environment, read_examples, spaces, witnesses
from plumbline.tree.validate.foreign import foreign, known_values
from plumbline.tree.validate.pods import pods, requests, undrained
from plumbline.tree.validate.policies import policies
from plumbline.tree.validate.problem import Problem
from plumbline.tree.validate.references import references
from plumbline.tree.validate.security import insecure
from plumbline.tree.validate.sources import sources

Say = Callable[[str], None]
_POLICY, _BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"


def validate(root: Path, base: str, say: Say, judge: Path | None = None) -> list[Problem]:
    """Every problem of the tree.

    With a `judge`, another work tree, nothing of this one is run: models' folders are not imported, so that policies
    are held against their shape alone, and Checkov, which loads what its settings name, has those of the judge.
    Raises ApiServerError, ClusterError, CrdError or SecurityError where nobody gives a verdict.
    """
    say("files: YAML, GitHub workflows, models, ladders")
    problems = (
        checks.lint(root)
        + checks.workflows(root)
        + checks.models(root)
        + checks.holds(root)
        + checks.approvals(root)
        + checks.barred(root)
        + frozen_ladders(root, base)
    )
    say("policies, by their shape" if judge else "policies, by what the models' folders have")
    problems += policies(root, import_models=judge is None)
    values, unread = known_values(root, environments(root))
    problems += unread
    for name in environments(root):
        for place in to_fill_in(root, name):
            say(str(place))
    say("kustomize build of every folder, no warning allowed")
    try:
        trees = [Environment.load(root, name) for name in environments(root)]
    except RenderError as error:
        return [*problems, Problem("kustomize", str(error))]
    for tree in trees:
        problems += (
            foreign(tree, values)
            + checks.links(tree)
            + checks.permitted(tree)
            + checks.deletions(tree)
            + checks.budgets(tree)
            + checks.memory(root, tree)
            + classes(root, tree, values)
            + references(root, tree)
            + requests(tree)
            + undrained(tree)
        )
    say("Checkov, by .checkov.yaml")
    problems += insecure((judge or root) / ".checkov.yaml", trees)
    return problems + _ask(trees, read_examples(root), say)


def _ask(trees: list[Environment], examples: list[Example], say: Say) -> list[Problem]:
    """Put all objects to an API server, environment by environment with its own policies."""
    problems: list[Problem] = []
    crds = {tree.name: crds_of(tree.sources()) for tree in trees}
    for tree in trees:
        problems += checks.installed(tree, crds)
        faults, unchecked = sources(tree)
        problems += faults
        if unchecked:
            say(f"{tree.name}: not checked, since no Go module has it: {', '.join(unchecked)}")
    used = {(item["apiVersion"].split("/")[0], item["kind"]) for tree in trees for _, _, item in tree.objects()}
    used |= {(example.object["apiVersion"].split("/")[0], example.object["kind"]) for example in examples}
    loaded = {crd.name: crd for installed in crds.values() for crd in installed if crd.kind in used}
    with api_server() as client:
        say(f"Kubernetes {client.get('/version').json()['gitVersion']} with {len(loaded)} CRDs of the third parties")
        cluster = Cluster(client)
        cluster.load(list(loaded.values()))
        for tree in trees:
            say(f"{tree.name}: {len(list(tree.objects()))} objects of {len(tree.folders)} folders")
            problems += ask_environment(cluster, tree, examples)
    return problems


def ask_environment(cluster: Cluster, tree: Environment, examples: list[Example]) -> list[Problem]:
    """Every problem that the API server has with an environment, under the environment's own policies."""
    policies, bindings = tree.of_kind(_POLICY), tree.of_kind(_BINDING)
    for namespace in [*_namespaces(tree), *spaces(bindings)]:
        cluster.apply(namespace)
    # Pods name the classes of priority, and are refused without them.
    standing = [*tree.of_kind("PriorityClass"), *policies, *bindings, *chain.from_iterable(map(witnesses, bindings))]
    for item in standing:
        cluster.apply(item)
    names = {item["metadata"]["name"] for item in policies}
    problems = check_examples(cluster, of_environment(examples, tree.name), names)
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda entry: (*entry, cluster.ask(entry[2], entry[1]).refusal), tree.objects())
        problems += [Problem(f"{folder}: {name_of(item)}", refusal) for folder, _, item, refusal in answers if refusal]
        made = pool.map(lambda entry: (*entry[:3], cluster.ask(entry[3], entry[1]).refusal), pods(tree))
        problems += [
            Problem(f"{folder}: {name_of(item)}", f"its pods would be refused: {refusal}")
            for folder, _, item, refusal in made
            if refusal
        ]
    for item in standing:
        cluster.delete(item)
    return problems


def _namespaces(tree: Environment) -> Objects:
    """Those that the tree has or the Applications make, labelled as they say."""
    namespaces = {
        item["metadata"]["name"]: dict(item["metadata"].get("labels", {})) for item in tree.of_kind("Namespace")
    }
    for sync in tree.syncs:
        namespaces.setdefault(sync.namespace, {}).update(sync.labels)
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for name, labels in namespaces.items()
    ]
