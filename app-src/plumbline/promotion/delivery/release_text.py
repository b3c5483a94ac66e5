"""release.yaml as text: written once, then edited token by token, so that a bump is a diff of the values that moved."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from plumbline.core.errors import Refused
from plumbline.core.release import Release, parse_release

Path = tuple[str, ...]
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./@:+-]*")
_TEMPLATE = """\
# What this environment serves. Promotion writes the values; comments and order are yours and are kept.
# Undoing the commit that changed this file takes model, code, schema and threshold back together.
apiVersion: plumbline.dev/v1
kind: Release
metadata:
  name: {name}
  annotations:
    # Kustomize reads this file and never sends it to the cluster.
    config.kubernetes.io/local-config: "true"
spec:
  version: {version}
  image: {image}
  artifact:
    uri: {artifact_uri}
    # A server whose download hashes to anything else stays unready.
    digest: {artifact_digest}
    schemaDigest: {artifact_schemaDigest}
  threshold: {threshold}
  lineage:
    registryVersion: {lineage_registryVersion}
    run: {lineage_run}
    code: {lineage_code}
    data: {lineage_data}
    workflow: {lineage_workflow}
  evidence:
    # sha256 of the gate's report, kept beside the run's artifacts in gate/.
    gate: {evidence_gate}
    approvedBy: {evidence_approvedBy}
"""


def new_text(release: Release) -> str:
    """The file of a first promotion."""
    values = {"_".join(path[1:]): token(value) for path, value in _leaves(release.spec.model_dump(), ("spec",))}
    return _checked(_TEMPLATE.format(name=token(release.model), **values), release)


def edit(text: str, release: Release, *, source: str = "release.yaml", earlier_text: str = "") -> str:
    """Replace the values of `text` that differ from `release`'s, each in its place; everything else stays.

    `earlier_text` is the file as it held this release before: values are then written as they stood there. One quote
    more would be another file, so another ReplicaSet, and what serves already would climb its ladder again.

    Raises Refused for text that is no release, for a key that is missing or stands twice, and for anchors, aliases and
    values over several lines, where a token is not one value.
    """
    try:
        old = parse_release(text, source=source)
    except ValueError as error:
        raise Refused(f"{error}; correct the file first, nothing was changed") from error
    if old.model != release.model:
        raise Refused(f"{source}: is the release of {old.model!r}, not of {release.model!r}")
    if any(getattr(event, "anchor", None) for event in yaml.parse(text)):
        raise Refused(f"{source}: uses anchors, so that one token is several values; write the values out")
    tokens = dict(_tokens(yaml.compose(text), ()))
    before = dict(_leaves(old.spec.model_dump(), ("spec",)))
    stood = dict(_tokens(yaml.compose(earlier_text), ())) if earlier_text else {}
    edits = []
    for path, value in _leaves(release.spec.model_dump(), ("spec",)):
        was = stood.get(path)
        as_before = earlier_text[was.start_mark.index : was.end_mark.index] if was else ""
        if value == before[path] and not (as_before and path in tokens):
            continue
        if path not in tokens:
            raise Refused(f"{source}: the key {'.'.join(path)} is missing; add it, so that its value has a place")
        edits.append((tokens[path], as_before or token(value, style=tokens[path].style)))
    for node, value in sorted(edits, key=lambda edit: edit[0].start_mark.index, reverse=True):
        start, end = node.start_mark, node.end_mark
        if start.line != end.line:
            raise Refused(f"{source}: the value at line {start.line + 1} spans lines; write it on one")
        gap = " " if start.index == end.index else ""  # `threshold:` with nothing behind it
        text = text[: start.index] + gap + value + text[end.index :]
    return _checked(text, release)


def move(before: Release | None, after: Release) -> str:
    """What the title of its commit says: `v1.0.0 → v1.1.0`; `v1.1.0 image 7afd52c90b1e → …` for an image alone."""
    if before is None:
        return f"nothing → {after.spec.version}"
    if before.spec.version != after.spec.version:
        return f"{before.spec.version} → {after.spec.version}"
    old, new = (release.spec.image.rpartition(":")[2][:12] for release in (before, after))
    return f"{after.spec.version} image {old} → {new}"


def token(value: str | float | None, style: str | None = None) -> str:
    """A scalar as YAML writes it: plain where it reads back as itself, else in double quotes."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return repr(value)
    if style is None and _PLAIN.fullmatch(value) and yaml.safe_load(value) == value:
        return value
    # From the node, since a library may tell PyYAML, for the whole process, how it writes texts: hera does.
    node = yaml.ScalarNode("tag:yaml.org,2002:str", value, style='"')
    return str(yaml.serialize(node, allow_unicode=True, width=10**9)).rstrip("\n")


def _checked(text: str, release: Release) -> str:
    """The new text must read back as exactly the release that was meant."""
    if parse_release(text).spec != release.spec:
        raise Refused("the edited release.yaml does not read back as the release that was meant; nothing was changed")
    return text


def _leaves(values: dict[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _tokens(node: Any, path: Path) -> Iterator[tuple[Path, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _tokens(value, (*path, key.value))
