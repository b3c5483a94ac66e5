"""An environment speaks of itself alone: no bucket, host, folder, label or Secret of another one, no other region."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from plumbline.core.documents import DocumentError, leaves
from plumbline.tree.render.build import Object
from plumbline.tree.render.environment import Environment
from plumbline.tree.validate.cluster import name_of
from plumbline.tree.validate.problem import Problem
from plumbline.tree.values import Values, read_values

_LABEL = "environment"
_REGIONS = ("region", "AWS_DEFAULT_REGION", "AWS_REGION")


def known_values(root: Path, names: list[str]) -> tuple[dict[str, Values], list[Problem]]:
    """{environment: what its environment.yaml says}, and a problem for each that can't be read."""
    values, problems = {}, []
    for name in names:
        try:
            values[name] = read_values(root, name)
            problems += _twice(root, name)
        except DocumentError as error:
            problems.append(Problem(f"{error.source}:{error.line}", error.reason))
    return values, problems


def _twice(root: Path, name: str) -> list[Problem]:
    """Two texts where one is a link to the other, as a copy that followed links leaves it."""
    source, built = root / f"clusters/{name}/environment.yaml", root / f"clusters/{name}/values/environment.yaml"
    if not built.exists() or built.read_text(encoding="utf-8") == source.read_text(encoding="utf-8"):
        return []
    reason = "says something else than values/environment.yaml, which Kustomize reads; expected a link to it"
    return [Problem(f"clusters/{name}/environment.yaml", reason)]


def foreign(tree: Environment, values: Mapping[str, Values]) -> list[Problem]:
    """Every object of an environment that names what its own environment.yaml does not say."""
    if (own := values.get(tree.name)) is None:
        return []  # said by whoever reads the files
    others = [other for name, other in values.items() if name != tree.name]
    return [
        Problem(f"{folder}: {name_of(item)}", reason)
        for folder, _, item in tree.objects()
        for reason in dict.fromkeys(_reasons(item, own, others))
    ]


def _reasons(item: Object, own: Values, others: list[Values]) -> Iterator[str]:
    for path, leaf in leaves(item):
        if not isinstance(leaf, str):
            continue
        field = ".".join(path)
        if path[-1].rpartition("/")[2] == _LABEL and leaf != own.name:
            yield f"{field}: {leaf!r} is the name of another environment; expected {own.name}"
        if path[-1] in _REGIONS and own.region and leaf != own.region:
            yield f"{field}: {leaf!r} is another region than that of environment.yaml, {own.region}"
        if path[-1] == "PROMOTION_REPO" and leaf != own.repository:
            yield f"{field}: {leaf!r} is another repository than that of environment.yaml, {own.repository}"
        for other in others:
            if word := _of(other, own, leaf):
                yield f"{field}: names {word} of the environment {other.name}"


def _of(other: Values, own: Values, text: str) -> str:
    """What of another environment a text names; nothing where it names none."""
    name = re.escape(other.name)
    signs = [rf"(?<![\w-])clusters/{name}(?![\w-])", rf"^plumbline/{name}/", rf"^--env(ironment)?={name}$"]
    if other.registry != own.registry and not own.registry.startswith(other.registry):
        signs.append(rf"^{re.escape(other.registry)}/")
    if other.domain:
        signs.append(rf"[\w.-]+\.{name}\.{re.escape(other.domain)}(?![\w-])")
    if (match := next((match for sign in signs if (match := re.search(sign, text))), None)) is not None:
        return match[0]
    if other.buckets and other.buckets != own.buckets:
        for match in re.finditer(rf"(?<![\w-]){re.escape(other.buckets)}(-[\w-]+)?(?![\w-])", text):
            # Its own name may begin with the other's: acme-prod, acme-prod-eu.
            if not (own.buckets.startswith(other.buckets) and match[0].startswith(own.buckets)):
                return match[0]
    return ""
