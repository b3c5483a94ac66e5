"""Every document of a person is read by one reader, and whatever it holds is answered in words."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from plumbline.core.documents import DocumentError, Strict, parse, read
from plumbline.core.errors import Misuse
from plumbline.core.names import Name, SemVer, Version, plain_name


class Pairs(Strict):
    """A document with a list that is never empty."""

    pairs: Annotated[tuple["Pair", ...], Field(min_length=1)]


class Pair(Strict):
    """A document with two fields."""

    name: Name
    version: Version = "v1.0.0"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("name: a\nname: b", 2, "the key 'name' stands twice"),
        ("name: a\nother: 1", 2, "other: Extra inputs are not permitted; expected one of name"),
        ("name: a\nversion: 1.0", 2, r"version: .*\(got 1.0\)"),
        ("version: v1.0.0", 1, "name: Field required"),
        ("name: a\nversion: [", 2, "not readable as YAML"),
        ("name: a\n? [x]\n: 1", 2, "a key is no plain text"),
        ("name: 2026-13-45", 1, "not readable as YAML"),
        ("name: \0", 1, "not readable as YAML"),
        ("[" * 20_000, 1, "nested too deeply"),
        ("- a", 1, "document: "),
        ("", 1, "document: "),
        ("&a {name: *a}", 1, "name: "),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(DocumentError, match=rf"(?s)^pair\.yaml: .*{reason}") as error:
        parse(text, Pair, "pair.yaml")
    assert error.value.line == line
    assert isinstance(error.value, Misuse)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pairs: {name: a}", "pairs: Input should be a list"),
        ("pairs: []", "pairs: List should have at least 1 item after validation, not 0"),
        ("pairs: [{name: 1}]", "pairs.0.name: Input should be a valid string (got 1)"),
    ],
)
def test_a_list_that_is_none_or_empty_is_told_from_one_with_a_mistake(text: str, reason: str) -> None:
    with pytest.raises(DocumentError) as error:
        parse(text, Pairs)
    assert str(error.value) == reason


def test_a_file_that_is_none_or_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    for name in ("none.yaml", "latin.yaml", "."):
        with pytest.raises(DocumentError, match="cannot be read"):
            read(tmp_path / name, Pair)


@pytest.mark.parametrize("name", ["", "A", "a_b", "a-", "1a", "a\n", "a" * 41, "a\u0661", "../a"])
def test_no_other_text_is_a_name(name: str) -> None:
    with pytest.raises(Misuse, match="expected like flights"):
        plain_name(name, "model", like="flights")
    with pytest.raises(ValueError, match="name"):
        Pair(name=name)


@pytest.mark.parametrize("version", ["v1.0", "1.0.0", "v1.0.0\n", "v01.0.0", "v1.0.\u0661", "v1.0.0-rc1"])
def test_no_other_text_is_a_version(version: str) -> None:
    with pytest.raises(Misuse, match=r"expected like v1\.2\.3"):
        SemVer.parse(version)
    with pytest.raises(ValueError, match="version"):
        Pair(name="a", version=version)
