"""An edit of release.yaml is a pure function of its text that refuses surprises."""

import difflib

import hera.workflows  # noqa: F401
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plumbline.core.errors import Refused
from plumbline.core.release import Release, parse_release
from plumbline.promotion.delivery.release_text import edit, new_text, token

DIGEST = "sha256:" + "2" * 64


def release(version: str = "v1.0.0", **changes: object) -> Release:
    spec: dict[str, object] = {
        "version": version,
        "image": "ghcr.io/plumbline/model-server@sha256:" + "1" * 64,
        "artifact": {
            "uri": "s3://releases/flights/x",
            "digest": "sha256:" + "2" * 64,
            "schemaDigest": "sha256:" + "3" * 64,
        },
        "threshold": 0.35,
        "lineage": {
            "registryVersion": "7",
            "run": "4" * 32,
            "code": "5" * 40,
            "data": "sha256:" + "6" * 64,
            "workflow": "",
        },
        "evidence": {"gate": DIGEST, "approvedBy": ""},
    }
    return Release.model_validate(
        {
            "apiVersion": "plumbline.dev/v1",
            "kind": "Release",
            "metadata": {"name": "toy", "annotations": {"config.kubernetes.io/local-config": "true"}},
            "spec": spec | changes,
        }
    )


def changed(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def test_the_new_text_reads_back() -> None:
    assert parse_release(new_text(release())) == release()


def test_a_bump_is_one_line_and_comments_stay() -> None:
    before = new_text(release()).replace("version: v1.0.0", "version:   v1.0.0   # asked for by ops")
    after = edit(before, release("v1.1.0"))
    assert changed(before, after) == [
        "-   version:   v1.0.0   # asked for by ops",
        "+   version:   v1.1.0   # asked for by ops",
    ]


def test_equal_releases_are_equal_texts() -> None:
    text = new_text(release())
    assert edit(text, release()) == text


def test_quotes_flow_style_and_line_ends_stay() -> None:
    text = new_text(release()).replace("version: v1.0.0", "version: 'v1.0.0'").replace("\n", "\r\n")
    text = text.replace('workflow: ""', "workflow: ''")
    after = edit(text, release("v2.0.0"))
    assert 'version: "v2.0.0"\r\n' in after
    assert after.count("\r\n") == text.count("\r\n")
    assert "workflow: ''" in after


def test_going_back_to_a_release_gives_the_file_that_held_it() -> None:
    before = new_text(release()).replace("version: v1.0.0", "version: 'v1.0.0'")
    # A commit of digits alone is a number without quotes.
    lineage = release().spec.lineage.model_dump() | {"code": "0" * 40, "workflow": "workflows/train-x"}
    after = edit(before, release("v2.0.0", lineage=lineage)).replace("# What this", "# Mine. What this")
    assert edit(after, release(), earlier_text=before) == before.replace("# What this", "# Mine. What this")
    assert edit(after, release()) != edit(after, release(), earlier_text=before)
    third = edit(after, release("v3.0.0"))  # the old commit again, in the quotes that are there now
    assert edit(third, release(), earlier_text=before) == edit(after, release(), earlier_text=before)


def test_a_threshold_comes_and_goes() -> None:
    text = new_text(release())
    gone = edit(text, release(threshold=None))
    assert changed(text, gone) == ["-   threshold: 0.35", "+   threshold: null"]
    assert edit(gone, release()) == text
    empty = text.replace("threshold: 0.35", "threshold:")
    assert parse_release(edit(empty, release())).spec.threshold == 0.35


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  threshold: 0.35\n", "", "the key spec.threshold is missing"),
        ("  threshold: 0.35\n", "  threshold: 0.35\n  threshold: 0.4\n", "stands twice"),
        ("  threshold: 0.35\n", "  threshold: &t 0.35\n", "anchors"),
        ("  threshold: 0.35\n", "  threshold: 0.35\n  weight: 50\n", "spec.weight"),
        ("kind: Release", "kind: Release: x", "not readable as YAML"),
        ("name: toy", "name: other", "is the release of 'other'"),
        ("version: v1.0.0", "version: latest", "spec.version"),
        ("version: v1.0.0", 'version: "v1.\\\n    0.0"', "spans lines"),
    ],
)
def test_surprises_are_refused(old: str, new: str, said: str) -> None:
    text = new_text(release())
    assert old in text
    with pytest.raises(Refused, match=said):
        edit(text.replace(old, new), release("v1.1.0", threshold=0.5))


@settings(deadline=None, max_examples=25)
@given(st.text(max_size=40))
@example("\ufeff")
@example("a\x85b\u2028c")
@example("a\nb")
def test_any_workflow_name_survives(name: str) -> None:
    """Also in a process that has imported hera, which changes how PyYAML writes a text of several lines."""
    lineage = release().spec.lineage.model_dump() | {"workflow": name}
    wanted = release(lineage=lineage)
    assert edit(new_text(release()), wanted) == edit(edit(new_text(release()), wanted), wanted)
    assert parse_release(edit(new_text(release()), wanted)) == wanted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (0.5, "0.5"),
        (1e-7, "1e-07"),
        ("v1.0.0", "v1.0.0"),
        ("7", '"7"'),
        ("", '""'),
        ("a #b", '"a #b"'),
        ("yes", '"yes"'),
        ("a, b}", '"a, b}"'),
    ],
)
def test_tokens(value: str | float | None, text: str) -> None:
    assert token(value) == text
