"""The examples of policies/admission: what each rule accepts, and what it alone refuses."""

import copy
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonpatch
import yaml
from pydantic import BaseModel, ConfigDict, Field

from plumbline.tree.render.build import Object
from plumbline.tree.validate.cluster import Answer, Cluster
from plumbline.tree.validate.problem import Problem

NAMESPACE = "examples"
_SECONDS = 30.0
Operations = list[dict[str, Any]]


class Change(BaseModel):
    """A file of examples/<rule>/: what it changes (JSON Patch) in an object that every rule accepts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: str
    """examples/<of>.yaml."""
    standing: Operations = []
    """What stands in the cluster before; the change is then an update of it."""
    change: Operations
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


def read_examples(root: Path) -> list[Example]:
    """All examples; a file's name begins with `accepted-` or `refused-` and goes on with the reason.

    `refused` is as the file's name says; `of_environment` says what holds in one.
    """
    folder = root / "policies/admission/examples"
    return [_read(root, folder, path) for path in sorted(folder.glob("*/*.yaml"))]


def _read(root: Path, folder: Path, path: Path) -> Example:
    change = Change.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    base = yaml.safe_load((folder / f"{change.of}.yaml").read_text(encoding="utf-8"))
    base["metadata"] |= {"name": path.stem, "namespace": NAMESPACE}
    before = jsonpatch.apply_patch(base, change.standing)
    return Example(
        str(path.relative_to(root)),
        f"{path.parent.name}.plumbline.dev",
        path.stem.startswith("refused-"),
        jsonpatch.apply_patch(before, change.change),
        before if change.standing else None,
        change.accepted_in,
    )


def of_environment(examples: list[Example], environment: str) -> list[Example]:
    """As this environment answers them."""
    return [
        replace(example, refused=example.refused and environment not in example.accepted_in) for example in examples
    ]


def witness(binding: Object) -> Object:
    """A second binding that only warns: a denial names one policy, the warnings name every one that objects."""
    second = copy.deepcopy(binding)
    second["metadata"]["name"] = f"{binding['metadata']['name']}.examples"
    second["spec"]["validationActions"] = ["Warn"]
    names = {"kubernetes.io/metadata.name": NAMESPACE}
    second["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": names}}
    return second


def check_examples(cluster: Cluster, examples: list[Example], policies: set[str]) -> list[Problem]:
    """Ask about each example until all is answered as it should be, or the time is over.

    The API server takes a moment until a policy is in force, or no more. An example whose policy this environment does
    not have is accepted.
    """
    for example in examples:
        if example.standing is not None:
            cluster.apply(example.standing)
            cluster.set_status(example.standing)
    deadline = time.monotonic() + _SECONDS
    while problems := [problem for example in examples if (problem := _judge(cluster, example, policies)) is not None]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return problems


def _judge(cluster: Cluster, example: Example, policies: set[str]) -> Problem | None:
    answer = cluster.ask(example.object)
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
