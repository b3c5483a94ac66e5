"""Words of people and machines that stand in git: one line each, that no trailer can be forged with."""

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from plumbline.core.errors import Misuse
from plumbline.core.names import LONGEST_LINE, Line, one_line
from plumbline.promotion.gate.gate import Request

LINE = TypeAdapter(Line)
FORGED = "worse\nGave-up: v1.0.0 sha256:0 image"


@pytest.mark.parametrize(
    "text", ["Bo", "f1", "yes", "1e3", "null", "~", "# x", "a: b", "2026-01-01", "模型", "😀", "\\n"]
)
def test_what_is_a_line_keeps_its_type_in_yaml(text: str) -> None:
    assert LINE.validate_python(text) == text
    assert yaml.safe_load(yaml.safe_dump({"by": text}, allow_unicode=True)) == {"by": text}
    assert one_line(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\u3000",
        "\u200b",
        FORGED,
        "a\rb",
        "a\0b",
        "a\x1b[31mb",
        "a\x0bb",
        "a\x85b",
        "a\u2028b",
        "a\u202eb",
        "a\udcffb",
        "x" * (LONGEST_LINE + 1),
    ],
)
def test_what_is_none_is_refused_from_people_and_made_one_of_machines(text: str) -> None:
    with pytest.raises(ValidationError, match="expected one line of 500 characters"):
        LINE.validate_python(text)
    made = one_line(text)
    assert made == "" or LINE.validate_python(made) == made


def test_why_a_version_comes_back_is_one_line() -> None:
    Request("flights", "v1.0.0", "staging", again="it was the data")
    with pytest.raises(Misuse, match="--again: expected one line"):
        Request("flights", "v1.0.0", "staging", again=FORGED)
