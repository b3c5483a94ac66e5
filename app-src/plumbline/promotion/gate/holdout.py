"""The rows that a model is judged on: raw requests, truth, and what the native model answered in its sandbox."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from plumbline.core.columns import BASELINE, CLUSTER, NATIVE, SLICE, native, slices
from plumbline.core.errors import Inconclusive, Refused
from plumbline.core.metrics.clusters import Clusters
from plumbline.core.schema import ModelSchema
from plumbline.core.values import RowsError, encode_columns
from plumbline.promotion.gate.bundle import Bundle, Floats
from plumbline.training.report import Report

SEED = 20130101
_ALONE = 100
"""Rows that are also asked for by themselves."""
_MOST_ROWS = 5_000_000


@dataclass(frozen=True)
class Parity:
    """How far the ONNX file is from the native model."""

    largest: float
    """Largest absolute difference of any output of any row; NaN where an output is not a number."""
    rows: int


@dataclass(frozen=True)
class Holdout:
    """`evaluation/holdout.parquet`."""

    table: pa.Table

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return int(self.table.num_rows)

    @property
    def slices(self) -> tuple[str, ...]:
        """The columns that slices are judged by, without `slice_`."""
        return slices(self.table.column_names)

    def encode(self, schema: ModelSchema, without: Collection[str] = ()) -> npt.NDArray[np.float32]:
        """The rows as a model's input, shape (rows, width); the fields of `without` are missing in all of them.

        Raises Inconclusive where they are not that model's requests.
        """
        try:
            table = self.table
            names = [name for name in table.column_names if name not in without]
            return encode_columns(schema, names, lambda name: table.column(name).to_pylist(), self.rows)
        except RowsError as error:
            raise Inconclusive(f"holdout.parquet: {error}") from error

    def truth(self, schema: ModelSchema) -> Floats:
        """The truth, shape (rows,): a label's index, or the value of a regression."""
        values: list[Any] = self._column("truth").to_pylist()
        if schema.output.task == "regression":
            return np.array(values, dtype=np.float64)
        index = {label: code for code, label in enumerate(schema.output.labels)}
        if unknown := sorted({str(value) for value in values} - index.keys()):
            raise Refused(f"holdout.parquet: truth holds {unknown[:5]}, expected the labels {list(index)}")
        return np.array([index[str(value)] for value in values], dtype=np.float64)

    def clusters(self, report: Report) -> Clusters:
        """Which rows belong together, by the run's own report.

        Raises Inconclusive for a run of before that was declared, Refused where the column is missing or has gaps.
        """
        if report.clusters is None:
            raise Inconclusive(
                "the run does not say which rows depend on each other; declare `cluster` and train again"
            )
        if not report.clusters.by:
            return Clusters.of_rows(self.rows)
        column = self._column(CLUSTER)
        if column.null_count:
            raise Refused(
                f"holdout.parquet: column {CLUSTER!r} ({report.clusters.by}): {column.null_count} of {self.rows} rows "
                f"have none; let rows() give each its own"
            )
        return Clusters.of(column.to_pylist(), report.clusters.by)

    def slice_values(self) -> dict[str, npt.NDArray[np.str_]]:
        """{column: the value of each row} of what slices are judged by."""
        return {name: np.array(self._column(f"{SLICE}{name}").to_pylist(), dtype=str) for name in self.slices}

    def baseline(self, schema: ModelSchema) -> Floats:
        """What the baseline of the run answered, shape (rows, classes) or (rows, 1)."""
        return self._answers(schema, BASELINE)

    def native(self, schema: ModelSchema) -> Floats:
        """What the native model answered, shape (rows, classes) or (rows, 1)."""
        return self._answers(schema, NATIVE)

    def _answers(self, schema: ModelSchema, prefix: str) -> Floats:
        names = native(schema.output, prefix)
        return np.column_stack([np.array(self._column(name).to_pylist(), dtype=np.float64) for name in names])

    def sample(self, rows: int) -> "Holdout":
        """At most `rows` rows, chosen by a fixed seed."""
        if self.rows <= rows:
            return self
        chosen = np.sort(np.random.default_rng(SEED).choice(self.rows, size=rows, replace=False))
        return Holdout(self.table.take(pa.array(chosen)))

    def _column(self, name: str) -> Any:
        if name not in self.table.column_names:
            raise Refused(f"holdout.parquet: the column {name!r} is missing; it has {self.table.column_names}")
        return self.table.column(name)


def read_holdout(path: Path) -> Holdout:
    """Read the file; raises Refused where it is not parquet or has no rows."""
    try:
        with pq.ParquetFile(path) as file:
            # A value that is the same in every row costs nothing in the file, and all of it in memory.
            if (rows := file.metadata.num_rows) > _MOST_ROWS:
                raise Refused(f"holdout.parquet: {rows:,} rows; nobody is judged on more than {_MOST_ROWS:,}")
            table = file.read()
    except (OSError, pa.ArrowInvalid) as error:
        raise Refused(f"holdout.parquet: cannot be read: {error}") from error
    if table.num_rows == 0:
        raise Refused("holdout.parquet: no rows, so nothing can be judged")
    return Holdout(table)


def parity(bundle: Bundle, holdout: Holdout, rows: int) -> Parity:
    """Compare ONNX Runtime's outputs with the native model's on at most `rows` rows.

    Some of them are asked one by one too, as callers do: a model that looks at the rows beside answers otherwise.
    """
    part = holdout.sample(rows)
    inputs, native = part.encode(bundle.schema), part.native(bundle.schema)
    largest = float(np.abs(bundle.predict(inputs) - native).max())
    for row in np.linspace(0, part.rows - 1, _ALONE, dtype=np.intp):
        apart = np.abs(bundle.predict(inputs[row : row + 1]) - native[row]).max()
        largest = float(np.maximum(largest, apart))  # NaN stays NaN
    return Parity(largest, part.rows)
