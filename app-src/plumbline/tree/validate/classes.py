"""An environment's class is what its folder and the promotion policies say it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from plumbline.core.documents import DocumentError, read
from plumbline.promotion.policy import Policy
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.problem import Problem
from plumbline.tree.values import Values

_RULES = frozenset({"release.plumbline.dev", "replicas.plumbline.dev"})
_GUARDED = "policies/admission/guarded"


def classes(root: Path, tree: Environment, values: Mapping[str, Values]) -> list[Problem]:
    """Where the class says `guarded` and its rules are not there, or the other way round."""
    own = values.get(tree.name)
    return list(_problems(root, tree, own)) if own is not None else []  # else said by whoever reads the files


def _problems(root: Path, tree: Environment, own: Values) -> Iterator[Problem]:
    guarded = own.class_ == "guarded"
    rules = {item["metadata"]["name"] for item in tree.of_kind("ValidatingAdmissionPolicy")} & _RULES
    if guarded and rules != _RULES:
        yield Problem(f"clusters/{tree.name}/admission", f"its class is guarded; expected {_GUARDED} in resources")
    if not guarded and rules:
        reason = f"lists {_GUARDED}, and environment.yaml says class: {own.class_}; expected class: guarded"
        yield Problem(f"clusters/{tree.name}/admission", reason)
    for path in sorted((root / "policies/promotion").glob("*.yaml")):
        try:
            environment = read(path, Policy).spec.environments.get(tree.name)
        except DocumentError:
            continue  # said by whoever reads the policies
        if environment is not None and environment.approval != guarded:
            reason = f"approval: {str(environment.approval).lower()} for {tree.name}, whose class is {own.class_}"
            expected = f"expected {str(guarded).lower()}: a class asks for approvals everywhere or nowhere"
            yield Problem(str(path.relative_to(root)), f"{reason}; {expected}")
