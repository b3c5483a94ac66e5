"""Raw data: fetched, checked against the version that git pins, and against its schema."""

import csv
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pandera.pandas as pa
import yaml
from pandera.dtypes import is_bool, is_int, is_numeric

from plumbline.core.artifact import digest_of
from plumbline.core.errors import Misuse
from plumbline.training import logged as of_log
from plumbline.training.model import Model, Tables, folder_of, own_code
from plumbline.training.work import DataVersion, Work, WorkError, written

_SHOWN = 5
_BOOLEANS = {"true": True, "t": True, "yes": True, "y": True, "1": True}
_BOOLEANS |= {"false": False, "f": False, "no": False, "n": False, "0": False}
"""How a CSV writes them, in capitals or not."""


class DataError(Misuse):
    """Data that are not what git pins, or a table that breaks its schema; the message says where."""


def dvc_md5(directory: Path) -> str:
    """The md5 that DVC gives a folder: of the JSON list of its files' md5s, sorted by path (dvc-data, `Tree`).

    Rows of the log that lie beside them have a digest of their own.
    """
    entries = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != of_log.DATA:
            with path.open("rb") as stream:
                md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            entries.append({"md5": md5, "relpath": path.relative_to(directory).as_posix()})
    text = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def pinned(folder: Path) -> str:
    """The version of the data that git pins, with the digest of the rows of the log if there are any.

    Raises DataError where there is none.
    """
    logged = of_log.read_logged(folder)
    return _pinned(folder) + (f"+{logged.digest}" if logged else "")


def _pinned(folder: Path) -> str:
    """What dvc.lock pins."""
    lock = folder / "dvc.lock"
    if not lock.exists():
        raise DataError(f"{lock} is missing; run `dvc repro` in {folder} and commit the file")
    try:
        return str(yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]["data"]["outs"][0]["md5"])
    except (ValueError, yaml.YAMLError, LookupError, TypeError) as error:
        raise DataError(
            f"{lock}: pins no data at stages.data.outs.0.md5; run `dvc repro` in {folder} and commit the file"
        ) from error


def obtain(name: str, model: Model, destination: Path) -> DataVersion:
    """Put the pinned data into `destination`: from DVC's checkout beside the model if it is there, else fetched anew.

    Raises DataError where the bytes are not what dvc.lock pins.
    """
    folder = folder_of(name)
    expected = _pinned(folder)
    if not (destination.exists() and dvc_md5(destination) == expected):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent) as temporary:
            fresh = Path(temporary) / "data"
            checkout = folder / "data"
            if checkout.exists() and dvc_md5(checkout) == expected:
                shutil.copytree(checkout, fresh)
            else:
                fresh.mkdir()
                with own_code("fetch()"):
                    model.fetch(fresh)
            if (fetched := dvc_md5(fresh)) != expected:
                raise DataError(
                    f"{folder / 'dvc.lock'} pins the data {expected}, the source gives {fetched}; to train on the new "
                    f"data run `dvc repro -f` in {folder} and commit dvc.lock, for the old run `dvc pull data` there"
                )
            shutil.rmtree(destination, ignore_errors=True)
            fresh.replace(destination)
    (destination / of_log.DATA).unlink(missing_ok=True)
    if (logged := of_log.read_logged(folder)) is not None:
        of_log.fetch(logged, destination / of_log.DATA)
    return DataVersion(version=pinned(folder), digest=digest_of(destination))


def read_tables(model: Model, directory: Path, names: Collection[str] | None = None) -> Tables:
    """Read the columns that the schemas name, checked and typed; raises DataError with file, line and column.

    All tables of the model unless some are named.
    """
    wanted = {name: schema for name, schema in model.tables.items() if names is None or name in names}
    return {name: _read(directory / f"{name}.csv", schema) for name, schema in wanted.items()}


def _read(path: Path, schema: pa.DataFrameSchema) -> pd.DataFrame:
    missing = {str(name): _missing(column, _missing(schema, [""])) for name, column in schema.columns.items()}
    try:
        with path.open("rb") as stream:
            # Read as text first: a word among numbers is then found by the schema, with its line.
            raw = as_text(stream, path.name, missing, lambda name: name in schema.columns)
    except OSError as error:
        raise DataError(f"{path.name}: cannot be read: {error}") from error
    if lacking := [str(column) for column in schema.columns if column not in raw.columns]:
        raise DataError(
            f"{path.name}: line 1 lacks the columns {', '.join(lacking)}; found only {', '.join(raw.columns)}"
        )
    typed, problems = _typed(raw[list(schema.columns)], schema)
    if not problems:
        try:
            return schema.validate(typed, lazy=True)
        except pa.errors.SchemaErrors as error:
            problems = _problems(error.failure_cases, typed)
    more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    raise DataError("\n  ".join([f"{path.name}: {len(problems)} values break the schema", *problems[:_SHOWN]]) + more)


def as_text(
    stream: BinaryIO,
    name: str,
    missing: Mapping[str, Sequence[str]] | Sequence[str],
    wanted: Callable[[str], bool] | None = None,
) -> pd.DataFrame:
    """The columns of a CSV file, all or those that are wanted, as text.

    Raises DataError that names the file, and the line where a row is broken.
    """
    try:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        try:
            _require_rows(text, name, wanted)
        finally:
            text.detach()
        stream.seek(0)
        return pd.read_csv(stream, dtype=str, na_values=missing, keep_default_na=False, usecols=wanted)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: cannot be read as CSV: {error}; save it as UTF-8") from error
    except (csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{name}: cannot be read as CSV: {str(error).strip()}") from error


def _require_rows(text: io.TextIOWrapper, name: str, wanted: Callable[[str], bool] | None) -> None:
    """Raise DataError for a row that has not as many values as there are columns, or a column that stands twice.

    pandas would move all values by a column, cut a row short, or fill it up, and say nothing.
    """
    rows = csv.reader(text, strict=True)
    header = next(rows, [])
    for column in header:
        if header.count(column) > 1 and (wanted is None or wanted(column)):
            raise DataError(f"{name}: line 1 has the column {column!r} {header.count(column)} times; rename one")
    for row in rows:
        if row and len(row) != len(header):
            turn = "a value with a comma in it stands in quotes"
            if len(header) == 1:
                turn = "commas stand between columns, and a point in a number"
            raise DataError(
                f"{name}: line {rows.line_num}: found {len(row)} values, expected {len(header)} as in line 1; {turn}"
            )


def _missing(described: Any, default: list[str]) -> list[str]:
    """What a table's or a column's metadata say is written where a value is missing."""
    words = (described.metadata or {}).get("missing", default)
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise DataError(f'metadata of {described.name}: missing is {words!r}, expected texts such as ["", "NA"]')
    return list(words)


def _typed(raw: pd.DataFrame, schema: pa.DataFrameSchema) -> tuple[pd.DataFrame, list[str]]:
    """Turn text into numbers and booleans where the schema has them; what is none is a problem with its line."""
    typed, problems = raw.copy(), []
    for name, column in schema.columns.items():
        if is_bool(column.dtype):
            meant = raw[name].map(lambda text: _BOOLEANS.get(text.strip().lower()), na_action="ignore")
            broken = meant.isna() & (raw[name].notna() | (str(column.dtype) == "bool"))
            problems += [_problem(row, name, raw[name].loc[row], "true or false") for row in raw.index[broken]]
            if not broken.any():
                typed[name] = meant.astype("boolean").astype(str(column.dtype))
            continue
        if not is_numeric(column.dtype):
            continue
        numbers = pd.to_numeric(raw[name], errors="coerce")
        broken = numbers.isna() & raw[name].notna()
        if is_int(column.dtype):
            broken |= numbers.isna() | (numbers % 1 != 0)
        kind = "a whole number" if is_int(column.dtype) else "a number"
        problems += [_problem(row, name, raw[name].loc[row], kind) for row in raw.index[broken]]
        if not broken.any():
            typed[name] = numbers.astype(str(column.dtype))
    return typed, problems


def _problems(cases: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Pandera's failure cases as lines that name line, column, value and what was expected."""
    problems = []
    for case in cases.to_dict("records"):
        column, check = str(case["column"]), str(case["check"])
        row = None if pd.isna(case["index"]) else int(case["index"])
        if case["schema_context"] == "Column":
            problems.append(_problem(row, column, case["failure_case"], _expected(check)))
        elif row is not None and column in table.columns:
            problems.append(_problem(row, column, table[column].loc[row], f"a row of its own ({check})"))
        else:
            problems.append(f"expected {check}, found {case['failure_case']}")
    return problems


def _expected(check: str) -> str:
    return {"not_nullable": "a value", "field_uniqueness": "a value that stands once"}.get(check, check)


def _problem(row: int | None, column: str, value: object, expected: str) -> str:
    # Line 1 of the file is the header.
    where = "" if row is None else f"line {row + 2}, "
    shown = "nothing" if pd.isna(value) else repr(value)  # type: ignore[call-overload]
    return f"{where}column {column}: found {shown}, expected {expected}"


def validate(work: Work) -> dict[str, int]:
    """Check the raw data and keep the checked columns, typed, for the next step; {table: rows}."""
    tables = read_tables(work.model, work.data)
    for name, table in tables.items():
        with written(work.tables / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    if (path := work.data / of_log.DATA).exists():
        shutil.copyfile(path, work.tables / of_log.DATA)
    return {name: len(table) for name, table in tables.items()}


def checked_tables(work: Work) -> Tables:
    """The tables as `validate` kept them; raises WorkError where it has not run."""
    paths = {name: work.tables / f"{name}.parquet" for name in work.model.tables}
    if missing := [name for name, path in paths.items() if not path.exists()]:
        raise WorkError(f"{work.tables}: {', '.join(missing)} missing; run `plumbline train validate` first")
    return {name: pd.read_parquet(path) for name, path in paths.items()}
