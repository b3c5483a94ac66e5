"""What is read out of a person's CSV file, and the words for a file that no model can be made of."""

import re
from collections.abc import Sequence

import pytest

from plumbline.core.errors import Misuse
from plumbline.scaffold.look import Column, look


def csv(header: str, *columns: Sequence[object]) -> bytes:
    rows = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    return "\n".join([header, *rows, ""]).encode()


HALF = ["yes" if row % 3 == 0 else "no" for row in range(120)]
COUNT = list(range(120))


def test_columns_become_fields_with_what_the_file_shows() -> None:
    table = csv(
        "Sepal length (cm),visits,plan,gone?",
        [f"{4 + row / 100:.2f}" for row in COUNT],
        ["" if row == 5 else 7 * row % 40 - 3 for row in COUNT],
        ["basic" if row % 4 else "NA" if row == 0 else "pro" for row in COUNT],
        HALF,
    )
    found = look(table, "x.csv", "binary", "", "")
    assert found.target == "gone?"
    assert found.labels == ("no", "yes"), "the rarer label is the positive one"
    assert found.left_out == ()
    assert found.fields == (
        Column("Sepal length (cm)", "Sepal_length_cm", "number", True, 4.6, 0, 7),
        Column("visits", "visits", "integer", False, 7 * 60 % 40 - 3, -50, 80),
        Column("plan", "plan", "category", False, "basic", values=2),
    )


def test_booleans_moments_and_texts_are_told_from_categories() -> None:
    table = csv(
        "paid,asked,note,plan,label",
        ["TRUE" if row % 3 else "false" for row in COUNT],
        [f"2024-05-{1 + row % 28:02}T08:30:00+02:00" for row in COUNT],
        [f"Please call number {row}" for row in COUNT],
        ["yes" if row % 2 else "no" for row in COUNT],
        HALF,
    )
    found = look(table, "x.csv", "binary", "", "")
    assert found.left_out == ()
    parts = ('parts=("hour", "weekday", "month")', 'zone="UTC"')
    assert found.fields == (
        Column("paid", "paid", "boolean", True, True),
        Column("asked", "asked", "timestamp", True, "2024-05-01T08:30:00+02:00", more=parts),
        Column("note", "note", "text", True, "Please call number 0", more=('by="words"', "buckets=64", "longest=1000")),
        Column("plan", "plan", "category", True, "no", values=2),
    )


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        (
            "asked",
            [f"2024-05-{1 + row % 28:02} 08:30" for row in COUNT],
            "with time and offset alone, such as 2024-05-01T",
        ),
        ("day", [f"2024-05-{1 + row % 28:02}" for row in COUNT], "with time and offset alone"),
        ("day", [f"{1 + row % 28}.5.2024" for row in COUNT], "with time and offset alone"),
        ("id", COUNT, "it counts the rows"),
        ("phone", [16_777_217 + 3 * row % 7 for row in COUNT], "float32 can't tell apart"),
        ("comment", [f"text {row}" for row in COUNT], "a text of its own"),
        ("country", ["FR"] * 120, "the same in every row"),
        ("", [row * 7 % 97 for row in COUNT], "it has no name in line 1"),
        ("power", ["?" if row == 7 else row * 7 % 97 for row in COUNT], "numbers, but for '?' in 1 rows; leave empty"),
        ("caller", [f"c{row // 4}" for row in COUNT], "none of its 30 values stands in 20 rows or more"),
    ],
)
def test_a_column_that_is_no_field_is_left_out_and_named(column: str, values: Sequence[object], reason: str) -> None:
    found = look(csv(f"{column},size,label", values, [row % 7 for row in COUNT], HALF), "x.csv", "binary", "", "")
    assert [field.name for field in found.fields] == ["size"]
    [said] = found.left_out
    assert said.startswith(f"{column or 'Unnamed: 0'}: ")
    assert reason in said


@pytest.mark.parametrize("column", ["at", "truth", "prediction", "slice_a", "native_b", "3rd", "Größe"])
def test_a_name_that_means_something_else_is_changed(column: str) -> None:
    found = look(csv(f"{column},label", [row % 7 for row in COUNT], HALF), "x.csv", "binary", "", "")
    assert found.fields[0].column == column
    assert not re.fullmatch(r"at|truth|prediction|(native|slice)_.*", found.fields[0].name)
    assert found.fields[0].name.isascii()
    assert found.fields[0].name.isidentifier()


def test_a_code_is_no_number_and_a_moment_may_have_a_space_as_pandas_writes_it() -> None:
    table = csv(
        "postcode,asked,label",
        ["01067" if row % 2 else "10115" for row in COUNT],
        [f"2024-05-{1 + row % 28:02} 08:30:00+02:00" for row in COUNT],
        HALF,
    )
    postcode, asked = look(table, "x.csv", "binary", "", "").fields
    assert (postcode.type, postcode.example) == ("category", "01067")
    assert (asked.type, asked.example, asked.spaced) == ("timestamp", "2024-05-01T08:30:00+02:00", True)


def test_the_target_and_the_positive_label_can_be_named() -> None:
    found = look(csv("label,size", HALF, [row % 7 for row in COUNT]), "x.csv", "binary", "label", "no")
    assert found.labels == ("yes", "no")
    assert [field.name for field in found.fields] == ["size"]


@pytest.mark.parametrize(
    ("table", "task", "options", "words"),
    [
        (b"", "binary", ("", ""), "x.csv: cannot be read as CSV"),
        (b"\xff\xfe,a\n", "binary", ("", ""), "x.csv: cannot be read as CSV"),
        (b"a,b\n1,2,\n", "binary", ("", ""), "x.csv: line 2: found 3 values, expected 2"),
        (b"a,a,b\n1,2,3\n", "binary", ("", ""), "x.csv: line 1 has the column 'a' 2 times"),
        (b"a;b\n1;2\n", "binary", ("", ""), "line 1 has one column, 'a;b'; expected more, with commas"),
        (b"a,b\n1,2\n", "regression", ("", ""), "1 rows have a value of 'b'; expected 100"),
        (csv("a,b", COUNT, HALF), "binary", ("c", ""), "--target: x.csv has no column 'c'; expected one of a, b"),
        (csv("a,b", COUNT, HALF), "binary", ("", "maybe"), "--positive: x.csv: column 'b' has 2 labels"),
        (csv("a,b", HALF, COUNT), "binary", ("", ""), "column 'b' has 120 labels ('0', '1', '2', '3', '4' …)"),
        (csv("a,b", COUNT, HALF), "multiclass", ("", ""), "--task multiclass expects 3 to 100"),
        (
            csv("a,b", COUNT, HALF),
            "regression",
            ("", ""),
            "line 2, column 'b': found 'yes'; regression expects numbers",
        ),
        (csv("a,b", COUNT, ["x", *["y"] * 119]), "binary", ("", ""), "'x' stands in 1 rows, expected 10 or more"),
        (csv("a,b", COUNT, HALF), "binary", ("", ""), "no column is left to predict 'b' from: a: it counts the rows"),
        (csv("a b,a_b,c", HALF, HALF, HALF), "binary", ("", ""), "more than one column would be the field a_b"),
        (
            b"a;b\n1,5;2\n",
            "regression",
            ("", ""),
            "found 2 values, expected 1 as in line 1; commas stand between columns",
        ),
        (csv("a, b", COUNT, HALF), "binary", ("", ""), "line 1: the column ' b' begins or ends with a space"),
        (csv("a,b,", COUNT, HALF, HALF), "binary", ("", ""), "line 1: the last column has no name; give it one"),
        (csv("a,b", HALF, COUNT), "regression", ("", "7"), "--positive: a regression model looks for no one label"),
        (csv("a,b", HALF, [7] * 120), "regression", ("", ""), "column 'b' is 7 in every row; name another --target"),
    ],
)
def test_a_file_that_no_model_can_be_made_of(table: bytes, task: str, options: tuple[str, str], words: str) -> None:
    with pytest.raises(Misuse) as caught:
        look(table, "x.csv", task, *options)
    assert words in str(caught.value)
