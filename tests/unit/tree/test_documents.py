"""Bad input is refused with the line that is wrong and what was expected."""

import pytest

from plumbline.core.documents import DocumentError
from plumbline.tree.documents import Ladder, read_ladder, read_release
from plumbline.tree.render.example import example_release

CANARY = """\
kind: Canary
spec:
  steps:
    - setWeight: 10
    - analysis: {templates: []}
    - setWeight: 50
    - analysis: {templates: []}
    - setWeight: 100
    - analysis: {templates: []}
"""
RELEASE = example_release("flights")
DIGEST = "sha256:" + "0" * 64


def test_a_ladder_is_its_weights() -> None:
    assert read_ladder(CANARY) == Ladder((10, 50, 100))


@pytest.mark.parametrize("weights", [(), (0, 100), (10, 101), (50, 10, 100), (10, 10, 100), (10, 50)])
def test_no_ladder_holds_an_illegal_order(weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="canary weight"):
        Ladder(weights)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("setWeight: 50", "setWeight: 5", 6, r"rise strictly between 1 and 100, not \[10, 5\]"),
        ("setWeight: 50", "setWeight: 10", 6, r"rise strictly"),
        ("setWeight: 10\n", "setWeight: 0\n", 4, r"rise strictly"),
        ("setWeight: 100", "setWeight: 110", 8, r"rise strictly"),
        ("setWeight: 100", "setWeight: 90", 9, "last canary weight must be 100"),
        ("setWeight: 50", "setWeight: half", 6, "expected a whole number, not 'half'"),
        ("    - analysis: {templates: []}\n    - setWeight: 50", "    - setWeight: 50", 4, "expected an analysis"),
        ("  steps:", "  rungs:", 1, "spec.steps: expected a list"),
        ("setWeight: 10\n", "setWeight: [\n", 5, "not readable as YAML"),
        ("kind: Canary", "kind: Canary\nkind: Ladder", 2, "stands twice"),
    ],
)
def test_a_wrong_canary_names_the_line(old: str, new: str, line: int, reason: str) -> None:
    assert old in CANARY
    with pytest.raises(DocumentError, match=reason) as refused:
        read_ladder(CANARY.replace(old, new, 1))
    assert refused.value.line == line


@pytest.mark.parametrize("text", ["", "- a list", "word"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="expected a mapping"):
        read_ladder(text)


@pytest.mark.parametrize(
    ("old", "new", "at", "reason"),
    [
        (f"    digest: {DIGEST}", "    digest: sha256:abc", "digest: sha256:abc", "spec.artifact.digest"),
        ("version: v0.0.0", "version: 1.2", "version: 1.2", "spec.version"),
        ("  version: v0.0.0\n", "", "  image:", "spec.version: Field required"),
        ("spec:", "spec:\n  weight: 3", "weight: 3", "spec.weight: Extra inputs"),
        ("kind: Release", "kind: Release\nkind: Other", "kind: Other", "stands twice"),
    ],
)
def test_a_wrong_release_names_the_line(old: str, new: str, at: str, reason: str) -> None:
    text = RELEASE.replace(old, new, 1)
    assert text != RELEASE
    with pytest.raises(DocumentError, match=reason) as refused:
        read_release(text)
    assert at in text.splitlines()[refused.value.line - 1]


def test_a_right_release_is_read() -> None:
    assert read_release(RELEASE).model == "flights"
