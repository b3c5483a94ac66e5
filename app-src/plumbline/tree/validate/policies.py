"""Policies in the tree: each has its shape, is of a model that there is, and names nothing that the model lacks."""

from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

from plumbline.core.documents import DocumentError, Fault, parse, require
from plumbline.core.errors import Misuse
from plumbline.core.metrics.names import Costs, costs_fault
from plumbline.core.metrics.rows import cost_matrix
from plumbline.core.subject import Subject, unknown
from plumbline.monitoring.experiment import route
from plumbline.monitoring.experiment.policy import Experiment
from plumbline.monitoring.policy import Drift
from plumbline.promotion.policy import Policy
from plumbline.tree.validate.problem import Problem

_Policy = Policy | Experiment | Drift
_MODELS, _YAML = "app-src/models", "*.yaml"
_KINDS: dict[str, type[_Policy]] = {"promotion": Policy, "experiments": Experiment, "drift": Drift}


def policies(root: Path, *, import_models: bool = True) -> list[Problem]:
    """Every problem of the policies of models; what a model has is said by its folder, where the tree has one.

    Without `import_models` no folder is asked, which is code: a pull request's would run where it is judged.
    """
    models = sorted(path.name for path in (root / _MODELS).glob("[!_.]*/"))
    broken: dict[str, Problem] = {}

    @cache
    def subject(name: str) -> Subject | None:
        from plumbline.training.subject import subject_of  # a training stack, for seconds

        folder = root / _MODELS / name
        if not import_models or not (folder / "__init__.py").exists():
            return None
        try:
            return subject_of(name, folder.parent.resolve())
        except Misuse as error:
            broken[name] = Problem(str(folder.relative_to(root)), str(error))
            return None

    def judged(path: Path, shape: type[_Policy]) -> Iterator[Problem]:
        where = str(path.relative_to(root))
        try:
            text = path.read_text(encoding="utf-8")
            policy = parse(text, shape)
            require(_misplaced(policy, path, models), "", text)
            if (about := subject(path.stem)) is not None:
                require(_faults(policy, about), "", text)
            if isinstance(policy, Experiment):
                yield from _route(root, policy)
        except DocumentError as error:
            yield Problem(f"{where}:{error.line}", str(error))
        except (OSError, UnicodeDecodeError) as error:
            yield Problem(where, f"cannot be read: {error}")

    files = [(path, shape) for kind, shape in _KINDS.items() for path in sorted((root / "policies" / kind).glob(_YAML))]
    problems = [problem for path, shape in files for problem in judged(path, shape)]
    return [*problems, *broken.values()]


def _route(root: Path, policy: Experiment) -> Iterator[Problem]:
    """A route that is not the policy's: who gets treatment would not be who is analysed."""
    path = route.path(root / "policies", policy.model)
    if not path.exists() or path.read_text(encoding="utf-8") != route.text(policy):
        reason = f"not what its policy says; run `plumbline monitor experiment route --model {policy.model}`"
        yield Problem(str(path.relative_to(root)), reason)


def _misplaced(policy: _Policy, path: Path, models: list[str]) -> Iterator[Fault]:
    """A name that is not the file's, or that no model has."""
    field, name = ("metadata.name", policy.metadata.name) if isinstance(policy, Policy) else ("model", policy.model)
    if name != path.stem:
        yield field, f"expected {path.stem!r}, the file's name, not {name!r}"
    elif models and (reason := unknown(name, models, "model")):
        yield field, reason


def _faults(policy: _Policy, about: Subject) -> Iterator[Fault]:
    if isinstance(policy, Policy):
        return policy.faults(about)
    if isinstance(policy, Drift):
        stated = policy.quality.costs if policy.quality is not None else None
        return chain(policy.faults(about.output, about.fields), _other_costs("quality.costs", stated, about))
    # An experiment may weigh what the model's folder does not; where both say costs, they are the same.
    stated = policy.costs if about.costs is not None else None
    return chain(policy.faults(about.output), _other_costs("costs", stated, about))


def _other_costs(where: str, asked: Costs | None, about: Subject) -> Iterator[Fault]:
    """Costs that are not those of the model's folder: live answers would be judged by others than the gate's."""
    if asked is None or costs_fault(asked, about.output):
        return
    if about.costs is None:
        yield where, "the model's MODEL has no costs; say them there too, so that the gate judges by them"
    elif (cost_matrix(about.output, asked) != cost_matrix(about.output, about.costs)).any():
        theirs = {one: dict(answers) for one, answers in about.costs.items()}
        yield where, f"expected those of the model's MODEL, {theirs}, found {asked}"
