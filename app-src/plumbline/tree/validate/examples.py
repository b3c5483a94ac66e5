"""The examples of policies/admission: what each rule accepts, and what it alone refuses."""

import copy
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonpatch
from pydantic import Field

from plumbline.core.documents import Strict, load, read
from plumbline.tree.render.build import Object, Objects
from plumbline.tree.validate.cluster import Answer, Cluster
from plumbline.tree.validate.problem import Problem

NAMESPACE = "examples"
_NAME, _EXAMPLES = "kubernetes.io/metadata.name", "plumbline.dev/examples"
_CONTROLLER = "system:serviceaccount:argo:argo"
"""Who writes the status of a Workflow; of a Rollout anybody may here."""
_SECONDS = 30.0
Operations = list[dict[str, Any]]


class Change(Strict):
    """A file of examples/<rule>/: what it changes (JSON Patch) in an object that every rule accepts."""

    of: str
    """examples/<of>.yaml. One that names a namespace stands in `examples-<namespace>`, under the rules of that one."""
    standing: Operations | None = None
    """What stands in the cluster before, as changes too; the change is then an update of it."""
    change: Operations
    named: str = ""
    """A name that the rule looks at; else it is the file's."""
    subresource: str = ""
    """What of it is written: nothing else of the object then counts."""
    user: str = ""
    """Who asks; else somebody who may do everything."""
    accepted_in: tuple[str, ...] = Field((), alias="acceptedIn")
    """Environments that take it all the same."""


@dataclass(frozen=True, slots=True)
class Example:
    """One object, and the policy that must refuse it; none for an accepted one."""

    file: str
    policy: str
    refused: bool
    object: Object
    standing: Object | None
    accepted_in: tuple[str, ...] = ()
    subresource: str = ""
    user: str = ""


def read_examples(root: Path) -> list[Example]:
    """All examples; a file's name begins with `accepted-` or `refused-` and goes on with the reason.

    `refused` is as the file's name says; `of_environment` says what holds in one.
    """
    folder = root / "policies/admission/examples"
    return [_read(root, folder, path) for path in sorted(folder.glob("*/*.yaml"))]


def _read(root: Path, folder: Path, path: Path) -> Example:
    change = read(path, Change)
    base = load((folder / f"{change.of}.yaml").read_text(encoding="utf-8"), change.of)
    space = "-".join(filter(None, (NAMESPACE, base["metadata"].get("namespace"))))
    base["metadata"] |= {"name": change.named or path.stem, "namespace": space}
    before = jsonpatch.apply_patch(base, change.standing or [])
    return Example(
        str(path.relative_to(root)),
        f"{path.parent.name}.plumbline.dev",
        path.stem.startswith("refused-"),
        jsonpatch.apply_patch(before, change.change),
        before if change.standing is not None else None,
        change.accepted_in,
        change.subresource,
        change.user,
    )


def of_environment(examples: list[Example], environment: str) -> list[Example]:
    """As this environment answers them."""
    return [
        replace(example, refused=example.refused and environment not in example.accepted_in) for example in examples
    ]


def spaces(bindings: Objects) -> Objects:
    """The namespaces of the examples: one for all of ours, and one beside each that a binding names."""
    names = {NAMESPACE, *(f"{NAMESPACE}-{name}" for binding in bindings for name in _named(binding))}
    # Without Pod Security, which would refuse the pods before the policies see them.
    labels = {"app.kubernetes.io/part-of": "plumbline", _EXAMPLES: "true"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for name in sorted(names)
    ]


def witnesses(binding: Object) -> Objects:
    """Bindings for the examples alone.

    One only warns: a denial names one policy, the warnings name every one that objects. Where the binding is of
    namespaces by their names, a second one denies, beside each of them.
    """
    names = [f"{NAMESPACE}-{name}" for name in _named(binding)]
    selector = {"matchExpressions": [{"key": _NAME, "operator": "In", "values": names}]}
    if not names:
        return [_second(binding, "Warn", {"matchLabels": {_EXAMPLES: "true"}})]
    return [_second(binding, action, selector) for action in ("Warn", "Deny")]


def _second(binding: Object, action: str, namespaces: Object) -> Object:
    second = copy.deepcopy(binding)
    second["metadata"]["name"] = f"{binding['metadata']['name']}.{NAMESPACE}.{action.lower()}"
    second["spec"]["validationActions"] = [action]
    second["spec"]["matchResources"] = {"namespaceSelector": namespaces}
    return second


def _named(binding: Object) -> list[str]:
    """The namespaces that a binding names; none where it goes by another label."""
    asked = binding["spec"]["matchResources"]["namespaceSelector"].get("matchExpressions", [])
    return [name for one in asked if (one["key"], one["operator"]) == (_NAME, "In") for name in one["values"]]


def check_examples(cluster: Cluster, examples: list[Example], policies: set[str]) -> list[Problem]:
    """Ask about each example until all is answered as it should be, or the time is over.

    The API server takes a moment until a policy is in force, or no more. An example whose policy this environment does
    not have is accepted.
    """
    for example in examples:
        if example.standing is not None:
            cluster.apply({key: value for key, value in example.standing.items() if key != "status"})
            if "status" in example.standing:
                cluster.set_status(example.standing, _CONTROLLER)
    deadline = time.monotonic() + _SECONDS
    while problems := [problem for example in examples if (problem := _judge(cluster, example, policies)) is not None]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return problems


def _judge(cluster: Cluster, example: Example, policies: set[str]) -> Problem | None:
    answer = cluster.ask(example.object, subresource=example.subresource, user=example.user)
    objecting = {policy for policy in policies if any(f"'{policy}'" in warning for warning in answer.warnings)}
    if example.refused and example.policy in policies:
        if f"ValidatingAdmissionPolicy '{example.policy}'" in answer.refusal and objecting == {example.policy}:
            return None
        return Problem(example.file, f"must be refused by {example.policy} alone, and {_answered(answer, objecting)}")
    if answer.refusal or objecting:
        return Problem(example.file, f"must be accepted, and {_answered(answer, objecting)}")
    return None


def _answered(answer: Answer, objecting: set[str]) -> str:
    if not answer.refusal:
        return "is accepted"
    return f"is refused by {', '.join(sorted(objecting)) or 'no policy'}: {answer.refusal}"
