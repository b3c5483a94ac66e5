"""Raw data: pinned by git, and a broken file says where it is broken."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pandera.pandas as pa
import pytest

from plumbline.core.errors import Accident, PlumblineError
from plumbline.training.data import DataError, dvc_md5, obtain, pinned, read_tables
from plumbline.training.model import Model, ModelError, folder_of, load
from plumbline.training.work import Settings, Work, WorkError

MODELS = Path(__file__).parents[3] / "app-src/models"
SCHEMA = pa.DataFrameSchema(
    {
        "code": pa.Column(str, pa.Check.str_matches(r"^[A-Z]{3}$")),
        "seats": pa.Column("int64", pa.Check.in_range(1, 500)),
        "weight": pa.Column("float64", pa.Check.ge(0), nullable=True),
    },
    unique=["code"],
    metadata={"missing": ["", "NA"]},
)
GOOD = "code,seats,weight,other\nABC,10,1.5,x\nDEF,20,NA,y\n"


TABLES = cast(Model, SimpleNamespace(tables={"planes": SCHEMA}))


def read(tmp_path, text):
    (tmp_path / "planes.csv").write_text(text, encoding="latin-1")
    return read_tables(TABLES, tmp_path)["planes"]


def test_a_good_file_is_typed_and_only_what_the_schema_names_is_kept(tmp_path):
    table = read(tmp_path, GOOD)
    assert list(table.columns) == ["code", "seats", "weight"]
    assert [str(kind) for kind in table.dtypes[1:]] == ["int64", "float64"]
    assert table["weight"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ABC,10", "ABC,ten", "line 2, column seats: found 'ten', expected a whole number"),
        ("ABC,10", "ABC,10.5", "line 2, column seats: found '10.5', expected a whole number"),
        ("DEF,20", "DEF,", "line 3, column seats: found nothing, expected a whole number"),
        ("1.5", "heavy", "line 2, column weight: found 'heavy', expected a number"),
        ("DEF,20", "DEF,900", r"line 3, column seats: found 900, expected in_range\(1, 500\)"),
        ("1.5", "-1", r"line 2, column weight: found -1.0, expected greater_than_or_equal_to\(0\)"),
        ("DEF", "def", "line 3, column code: found 'def', expected str_matches"),
        ("DEF", "NA", "line 3, column code: found nothing, expected a value"),
        ("DEF", "ABC", "line 3, column code: found 'ABC', expected a row of its own"),
        ("seats", "chairs", "line 1 lacks the columns seats"),
        ("DEF,20,NA,y", 'DEF,20,"NA,y', "cannot be read as CSV"),
        ("DEF,20,NA,y", "DEF,20,NA,y, or z", "line 3: found 5 values, expected 4"),
        ("DEF,20,NA,y", "DEF,20", "line 3: found 2 values, expected 4"),
        (",y\n", ",y,\n", "line 3: found 5 values, expected 4"),
        ("other", "seats", "line 1 has the column 'seats' 2 times"),
        (",x", ",\xff", "save it as UTF-8"),
    ],
)
def test_a_broken_file_says_line_column_value_and_what_was_expected(tmp_path, old, new, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert "planes.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "table", "expected"),
    [
        ({}, {}, ["NA", "?", None]),
        ({}, {"missing": ["?"]}, ["NA", None, ""]),
        ({"missing": ["NA", ""]}, {"missing": ["?"]}, [None, "?", None]),
        ({"missing": []}, {}, ["NA", "?", ""]),
    ],
)
def test_what_is_missing_is_what_the_table_says(tmp_path, column, table, expected):
    schema = pa.DataFrameSchema(
        {"country": pa.Column(str, nullable=True, metadata=column), "more": pa.Column(str)}, metadata=table
    )
    (tmp_path / "planes.csv").write_text("country,more\nNA,x\n?,x\n,x\n")
    read_back = read_tables(cast(Model, SimpleNamespace(tables={"planes": schema})), tmp_path)["planes"]["country"]
    assert [None if value != value else value for value in read_back] == expected


def test_what_is_missing_must_be_texts(tmp_path):
    schema = pa.DataFrameSchema({"country": pa.Column(str, metadata={"missing": "NA"})})
    with pytest.raises(DataError, match=r"metadata of country: missing is 'NA', expected texts such as"):
        read_tables(cast(Model, SimpleNamespace(tables={"planes": schema})), tmp_path)


def test_a_missing_or_empty_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"planes\.csv: cannot be read"):
        read_tables(TABLES, tmp_path)
    with pytest.raises(DataError, match=r"planes\.csv: cannot be read"):
        read(tmp_path, "")


def test_of_many_broken_values_the_first_are_shown_and_all_are_counted(tmp_path):
    rows = "".join(f"X{number:02d},0,1\n" for number in range(40))
    with pytest.raises(DataError, match=r"80 values break the schema(.|\n)*and 75 more"):
        read(tmp_path, "code,seats,weight\n" + rows)


def test_the_data_that_the_lock_pins_are_fetched_and_named_by_dvcs_md5(iris, tmp_path):
    version = obtain("iris", load("iris"), tmp_path / "work" / "data")
    assert version.version == pinned(iris) == dvc_md5(tmp_path / "work" / "data")
    assert version.digest.startswith("sha256:")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in MODELS.glob("*/dvc.lock")))
def test_the_committed_locks_are_those_of_the_installed_data(tmp_path, name):
    """Made anew, for a checkout beside the model would agree with its lock whatever the source gives.

    Also holds our md5 of a folder against the one that DVC itself wrote into dvc.lock.
    """
    load(name).fetch(tmp_path)
    assert dvc_md5(tmp_path) == pinned(folder_of(name))


def test_a_checkout_beside_the_model_is_taken_before_the_source_is_asked(iris, tmp_path):
    model = load("iris")
    (tmp_path / "pinned").rename(iris / "data")
    never = dataclasses.replace(model, fetch=lambda _: pytest.fail("fetched"))
    for _ in range(2):
        obtain("iris", never, tmp_path / "work")
        assert dvc_md5(tmp_path / "work") == dvc_md5(iris / "data")


def test_data_that_changed_at_their_source_are_refused_with_both_versions(iris, tmp_path):
    lock = iris / "dvc.lock"
    lock.write_text(lock.read_text().replace(pinned(iris), "0" * 32 + ".dir"))
    with pytest.raises(DataError, match=r"pins the data 0{32}.dir, the source gives [0-9a-f]{32}.dir.*dvc repro"):
        obtain("iris", load("iris"), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_without_a_lock_there_is_no_version_to_train_on(iris, tmp_path):
    (iris / "dvc.lock").unlink()
    with pytest.raises(DataError, match="dvc repro"):
        obtain("iris", load("iris"), tmp_path / "work")


@pytest.mark.parametrize("text", ["", "stages: {}\n", "stages: {data: {outs: []}}\n", "{", "\xff"])
def test_a_lock_that_pins_nothing_says_how_to_make_one(iris, text):
    (iris / "dvc.lock").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"dvc\.lock: pins no data at stages\.data\.outs\.0\.md5; run `dvc repro` in"):
        pinned(iris)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ConnectionResetError("reset by peer"), Accident),
        (FileNotFoundError(2, "No such file", "rows.csv"), ModelError),
        (KeyError("url"), ModelError),
    ],
)
def test_what_fetch_raises_is_one_line_and_a_lost_connection_is_tried_again(iris, tmp_path, raised, kind):
    def fetch(_):
        raise raised

    (iris / "dvc.lock").write_text((iris / "dvc.lock").read_text().replace(pinned(iris), "0" * 32 + ".dir"))
    with pytest.raises(PlumblineError, match=rf"^fetch\(\): {type(raised).__name__}: ") as refusal:
        obtain("iris", dataclasses.replace(load("iris"), fetch=fetch), tmp_path / "work")
    assert type(refusal.value) is kind
    assert not (tmp_path / "work").exists()


def test_features_ask_for_validate_first(iris, tmp_path):
    from plumbline.training.prepare import prepare

    work = Work(tmp_path / "work")
    work.begin(Settings(model="iris", experiment="iris/test"))
    with pytest.raises(WorkError, match="irises missing; run `plumbline train validate`"):
        prepare(work)
    assert folder_of("iris") == iris
