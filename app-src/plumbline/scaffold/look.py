"""What a CSV file says about a model of it: its fields with their types and ranges, its labels, what is left out."""

import io
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plumbline.core.columns import is_ours
from plumbline.core.encoding import MOMENT_EXAMPLE, moment_of
from plumbline.core.errors import Misuse
from plumbline.training.data import as_text

_LARGEST_WHOLE = 2**24
_DATED = r"(\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{4})([T ].*)?"
_CODE = r"0\d+"
"""What begins with a zero is no number: a postcode, a part's number."""
_NAMELESS = re.compile(r"Unnamed: \d+")
"""What pandas calls a column without a name."""
_TEXT_WORDS, _TEXT_BUCKETS = 3, 64
_FEWEST_ROWS, _FEWEST_OF_A_LABEL, _FEWEST_OF_A_VALUE, _MOST_LABELS = 100, 10, 20, 100
_MOSTLY, _MOST_WORDS = 0.9, 20
"""The share of numbers, and how many different ones, from which on a word among them is a mistake and no category."""


@dataclass(frozen=True)
class Column:
    """A column of the file as a field of the model."""

    column: str
    name: str
    type: str
    required: bool
    example: bool | float | int | str
    minimum: float | None = None
    maximum: float | None = None
    values: int = 0
    """Of a category: how many there are."""
    spaced: bool = False
    """Of a timestamp: date and time have a space between them, as pandas writes them."""
    more: tuple[str, ...] = ()
    """What else its SchemaField says, as Python."""


@dataclass(frozen=True)
class Data:
    """What is known of a model from its file."""

    task: str
    target: str
    fields: tuple[Column, ...]
    left_out: tuple[str, ...]
    """A line for each column that is no field: its name, and why."""
    truth: "pd.Series[str]"
    """The target where there is one, as text."""
    labels: tuple[str, ...]


def look(csv: bytes, path: str, task: str, target: str, positive: str) -> Data:
    """Look at a file's content; without a target it is the last column, without a positive label the rarer one.

    Raises Misuse that names the path, and the column or the line, where no model of this task can be made of it.
    """
    # What counts as missing here is written into the model's table, by which training reads.
    table = as_text(io.BytesIO(csv), path, ["NA", ""])
    if len(table.columns) < 2:
        raise Misuse(f"{path}: line 1 has one column, {table.columns[0]!r}; expected more, with commas between them")
    if spaced := [name for name in table.columns if name != name.strip()]:
        raise Misuse(
            f"{path}: line 1: the column {spaced[0]!r} begins or ends with a space, which callers would have to send "
            "too; take out the spaces beside commas, those of the values as well"
        )
    target = target or str(table.columns[-1])
    if _NAMELESS.fullmatch(target):
        raise Misuse(f"{path}: line 1: the last column has no name; give it one, or name the --target")
    if target not in table.columns:
        raise Misuse(f"--target: {path} has no column {target!r}; expected one of {', '.join(table.columns)}")
    if positive and task != "binary":
        raise Misuse(f"--positive: a {task} model looks for no one label; leave it out, or take --task binary")
    truth = table[target].dropna()
    if len(truth) < _FEWEST_ROWS:
        raise Misuse(f"{path}: {len(truth)} rows have a value of {target!r}; expected {_FEWEST_ROWS} or more")
    labels = () if task == "regression" else _labels(path, truth, task, positive)
    if task == "regression":
        _numbers_only(path, truth)
    columns = [_field(str(name), table[name]) for name in table.columns if name != target]
    fields = tuple(column for column in columns if isinstance(column, Column))
    left_out = tuple(column for column in columns if isinstance(column, str))
    if not fields:
        raise Misuse(f"{path}: no column is left to predict {target!r} from: {'; '.join(left_out)}")
    names = [field.name for field in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Misuse(f"{path}: more than one column would be the field {', '.join(twice)}; rename one in line 1")
    return Data(task, target, fields, left_out, truth, labels)


def identifier(column: str) -> str:
    """What a column is called in a request: a name of the schema that means nothing else."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", column).strip("_")
    if not name[:1].isalpha():
        name = f"field_{name}"
    return f"field_{name}" if is_ours(name) else name


def _labels(path: str, truth: "pd.Series[str]", task: str, positive: str) -> tuple[str, ...]:
    counts = truth.value_counts()
    shown = ", ".join(map(repr, counts.index[:5])) + (" …" if len(counts) > 5 else "")
    where = f"{path}: column {truth.name!r} has {len(counts)} labels ({shown})"
    if task == "binary" and len(counts) != 2:
        raise Misuse(f"{where}; --task binary expects 2: name another --target, or another --task")
    if task == "multiclass" and not 3 <= len(counts) <= _MOST_LABELS:
        raise Misuse(f"{where}; --task multiclass expects 3 to {_MOST_LABELS}: name another --target or --task")
    if counts.iloc[-1] < _FEWEST_OF_A_LABEL:
        rare = f"{counts.index[-1]!r} stands in {counts.iloc[-1]} rows, expected {_FEWEST_OF_A_LABEL} or more"
        raise Misuse(f"{where}; {rare}: leave those rows out, or join the label with another")
    if task == "multiclass":
        return tuple(sorted(counts.index))
    positive = positive or str(counts.index[-1])
    if positive not in counts.index:
        raise Misuse(f"--positive: {where}; {positive!r} is none of them")
    return (next(label for label in counts.index if label != positive), positive)


def _numbers_only(path: str, truth: "pd.Series[str]") -> None:
    other = truth[~np.isfinite(pd.to_numeric(truth, errors="coerce"))]
    if len(other):
        # Line 1 of the file is the header.
        line = int(other.index[0]) + 2
        raise Misuse(f"{path}: line {line}, column {truth.name!r}: found {other.iloc[0]!r}; regression expects numbers")
    if truth.astype(float).nunique() == 1:
        raise Misuse(f"{path}: column {truth.name!r} is {truth.iloc[0]} in every row; name another --target")


def _field(column: str, values: "pd.Series[str]") -> Column | str:
    """A column as a field, or why it is none."""
    if _NAMELESS.fullmatch(column):
        return f"{column}: it has no name in line 1, as an index has none"
    present = values.dropna()
    if present.nunique() < 2:
        return f"{column}: the same in every row"
    name = identifier(column)
    required = len(present) == len(values)
    numbers = pd.to_numeric(present, errors="coerce")
    codes = bool(present.str.fullmatch(_CODE).any())
    finite = np.isfinite(numbers)
    if not codes and finite.mean() >= _MOSTLY and numbers[finite].nunique() > _MOST_WORDS and not finite.all():
        words = ", ".join(map(repr, present[~finite].unique()[:3]))
        return f"{column}: numbers, but for {words} in {(~finite).sum()} rows; leave empty what is missing, or write NA"
    if codes or not finite.all():
        return _of_text(column, name, present, required=required)
    whole = bool((numbers % 1 == 0).all())
    if whole and required and len(numbers) > 1 and (numbers.diff().iloc[1:] == 1).all():
        return f"{column}: it counts the rows"
    if whole and numbers.abs().max() > _LARGEST_WHOLE:
        return f"{column}: whole numbers beyond {_LARGEST_WHOLE:,}, which float32 can't tell apart"
    low, high = _range(float(numbers.min()), float(numbers.max()))
    example = float(numbers.iloc[len(numbers) // 2])
    return Column(
        column, name, "integer" if whole else "number", required, int(example) if whole else example, low, high
    )


def _of_text(column: str, name: str, present: "pd.Series[str]", *, required: bool) -> Column | str:
    """A column of text as the type that all of its values fit, or why it is no field."""
    example = str(present.mode().iloc[0])
    if set(present.str.lower()) == {"true", "false"}:
        return Column(column, name, "boolean", required, example.lower() == "true")
    if all(moment_of(value) for value in present.str.replace(" ", "T")):
        parts = ('parts=("hour", "weekday", "month")', 'zone="UTC"')
        spaced = bool(present.str.contains(" ").any())
        return Column(column, name, "timestamp", required, example.replace(" ", "T"), spaced=spaced, more=parts)
    if present.str.fullmatch(_DATED).all():
        return f"{column}: moments, which fields take with time and offset alone, such as {MOMENT_EXAMPLE}"
    counts = present.value_counts()
    if len(counts) * 2 <= len(present):
        if counts.iloc[0] < _FEWEST_OF_A_VALUE:
            return f"{column}: none of its {len(counts)} values stands in {_FEWEST_OF_A_VALUE} rows or more"
        return Column(column, name, "category", required, example, values=len(counts))
    if present.str.count(r"\S+").mean() < _TEXT_WORDS:
        return f"{column}: nearly every row has a text of its own"
    longest = max(1000, 2 * int(present.str.len().max()))
    more = ('by="words"', f"buckets={_TEXT_BUCKETS}", f"longest={longest}")
    return Column(column, name, "text", required, example[:longest], more=more)


def _range(low: float, high: float) -> tuple[float, float]:
    """Room on either side of what was seen, in round numbers; nothing is below 0 that never was."""
    room = high - low
    return (0 if low >= 0 else -_round_up(room - low)), (0 if high <= 0 else _round_up(high + room))


def _round_up(value: float) -> float:
    """The next number with one digit that is not 0."""
    power = 10.0 ** np.floor(np.log10(value))
    rounded = float(np.ceil(value / power) * power)
    return int(rounded) if rounded.is_integer() else float(f"{rounded:.1g}")
