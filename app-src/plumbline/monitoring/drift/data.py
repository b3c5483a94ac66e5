"""The two sides of a drift check: the rows that a run was evaluated on, and the rows that were answered since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, LiteralString

import numpy as np
import pandas as pd
import psycopg

from plumbline.core import reach
from plumbline.core.columns import NATIVE, TIME, TRUTH, is_ours
from plumbline.core.documents import read
from plumbline.core.encoding import seconds_of
from plumbline.core.feedback import LARGEST
from plumbline.core.field import PLAIN
from plumbline.core.schema import ModelSchema, Output, SchemaField
from plumbline.core.subject import LENGTH, SIZE
from plumbline.core.values import RowsError
from plumbline.features.offline import encode_frame
from plumbline.monitoring.drift.compare import is_number
from plumbline.monitoring.drift.outcome import Answers
from plumbline.monitoring.log.queries import ROWS, window
from plumbline.monitoring.policy import LABEL, SCORE, Drift, ReferenceFault

_MOST_LABELS = 20_000
_MEMBERS = 16
"""Of a list: as many of the most frequent ones are compared by themselves."""
_VERSIONS: LiteralString = "SELECT version, count(*) FROM rows GROUP BY version ORDER BY version"
_COUNT: LiteralString = """
    SELECT count(*), count(truth), count(*) FILTER (WHERE labelled_ms < floor(extract(epoch FROM at) * 1000))
    FROM rows WHERE %(version)s::text IS NULL OR version = %(version)s"""
# A hash of the id puts the rows in an order that has nothing to do with time and is the same at every call.
_SAMPLE: LiteralString = """
    SELECT features, output, score, truth FROM rows
    WHERE (%(version)s::text IS NULL OR version = %(version)s) AND (NOT %(labelled)s OR truth IS NOT NULL)
    ORDER BY md5(id::text || ':' || row || ':' || %(seed)s) LIMIT %(limit)s"""


@dataclass(frozen=True, slots=True)
class Side:
    """One side: inputs and answers by column, how many rows and labels there were in all, and the labelled answers."""

    frame: pd.DataFrame
    rows: int
    labelled: int
    answers: Answers
    labels: tuple[str, ...] = ()
    """Of the reference, in the order of its outputs; none where it answers values."""
    at: "pd.Series[pd.Timestamp] | None" = None
    """Of the reference, when each row is answered; None for data without time."""
    early: int = 0
    """Of the log, rows whose label is older than their answer."""

    @property
    def output(self) -> Output:
        """What the reference's answers are."""
        task: Literal["binary", "multiclass", "regression"] = "regression"
        if self.labels:
            task = "binary" if len(self.labels) == 2 else "multiclass"
        return Output(task=task, name="answer", description="", labels=self.labels)

    @property
    def fields(self) -> dict[str, bool]:
        """The columns that are inputs, and whether each is a number."""
        inputs = self.frame.drop(columns=[SCORE, LABEL], errors="ignore")
        return {str(name): is_number(kind) for name, kind in inputs.dtypes.items()}


def from_holdout(path: Path) -> Side:
    """Read `evaluation/holdout.parquet` of a run."""
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ReferenceFault(f"{path}: cannot be read as parquet: {error}") from error
    native = [str(name) for name in table.columns if str(name).startswith(NATIVE)]
    labels = tuple(name.removeprefix(NATIVE) for name in native)
    if native == [f"{NATIVE}value"]:
        labels = ()
    if not native or TRUTH not in table or len(labels) == 1:
        raise ReferenceFault(f"{path}: expected the columns {TRUTH} and {NATIVE}<label> or {NATIVE}value")
    frame = table[[name for name in table.columns if not is_ours(str(name))]].copy()
    outputs = table[native].rename(columns=lambda name: str(name).removeprefix(NATIVE))
    positive = np.full(len(table), np.nan)
    if not labels:
        frame[SCORE] = outputs["value"]
        loss = (outputs["value"] - table[TRUTH]).abs()
    else:
        frame[SCORE] = outputs.iloc[:, 1] if len(native) == 2 else outputs.max(axis=1)
        if len(native) > 2:
            frame[LABEL] = outputs.idxmax(axis=1)
        hit = np.array([[label == truth for label in outputs.columns] for truth in table[TRUTH].astype(str)])
        loss = ((outputs - hit) ** 2).sum(axis=1)
        positive = hit[:, 1].astype(np.float64) if len(native) == 2 else positive
    answers = Answers(frame[SCORE].to_numpy(np.float64), loss.to_numpy(np.float64), positive)
    return Side(frame, len(table), len(table), answers, labels, _moments(table, path))


def _moments(table: pd.DataFrame, path: Path) -> "pd.Series[pd.Timestamp] | None":
    if TIME not in table:
        return None
    if not isinstance(table[TIME].dtype, pd.DatetimeTZDtype) or table[TIME].isna().any():
        raise ReferenceFault(f"{path}: column {TIME}: expected a moment with its time zone in every row")
    moments: pd.Series[pd.Timestamp] = table[TIME].dt.tz_convert("UTC").reset_index(drop=True)
    return moments


def from_run(run: str) -> tuple[Side, ModelSchema]:
    """Fetch an MLflow run's holdout and its model's schema (MLFLOW_TRACKING_URI and its credentials) and read them."""
    with TemporaryDirectory() as folder:
        side = from_holdout(_fetched(run, "evaluation/holdout.parquet", folder))
        schema = read(_fetched(run, "bundle/schema.json", folder), ModelSchema, f"run {run}: bundle/schema.json")
    require_rows(schema, side, f"the holdout of run {run}")
    return as_compared(schema, side, members=_MEMBERS), schema


def _fetched(run: str, artifact: str, folder: str) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return Path(download_artifacts(run_id=run, artifact_path=artifact, dst_path=folder))
    except (MlflowException, OSError) as error:
        raise ReferenceFault(f"run {run}: {artifact} cannot be fetched: {error}") from error


def require_rows(schema: ModelSchema, side: Side, whose: str) -> None:
    """Raise ReferenceFault where rows are none that the model's server takes: comparing them would mean nothing."""
    try:
        if len(side.frame):
            encode_frame(schema, side.frame)
    except RowsError as error:
        raise ReferenceFault(f"{whose}: {error}") from error


def as_compared(schema: ModelSchema, side: Side, members: int | None = None) -> Side:
    """The side with each moment, text and list as the columns that say how it moves (`core.subject.fields_of`).

    Of a list no more than so many members, the most frequent ones.
    """
    frame, moments = side.frame, list[float | None]()
    moment = next((field.name for field in schema.fields if field.moment), None)
    if moment in frame:
        moments = [seconds_of(value) for value in frame[moment]]
    for field in schema.fields:
        if field.type not in PLAIN and field.name in frame:
            columns = _as_compared(field, frame[field.name], moments, members)
            frame = frame.drop(columns=field.name).assign(**columns)
    return replace(side, frame=frame)


def _as_compared(
    field: SchemaField, values: "pd.Series[Any]", moments: Sequence[float | None], most: int | None
) -> dict[str, Any]:
    present = values.notna().to_numpy()
    if field.type == "text":
        return {f"{field.name}.{LENGTH}": values.map(len, na_action="ignore").astype("float64")}
    given = [value if there else None for value, there in zip(values, present, strict=True)]
    encoded = field.encode(given, moments).astype(np.float64)
    columns: dict[str, Any] = {column.name: encoded[:, place] for place, column in enumerate(field.columns)}
    if field.type == "timestamp":
        return columns
    unknown, others = columns.popitem()
    frequent = sorted(columns, key=lambda name: (-np.nansum(columns[name]), name))[:most]
    words = {name: pd.Series(columns[name], values.index).map({1.0: "yes", 0.0: "no"}) for name in frequent}
    return {f"{field.name}.{SIZE}": encoded.sum(axis=1), unknown: others, **words}


def version_of(model: str, run: str, given: str | None) -> str:
    """The version that the run was registered as, or the given one where it was not; raises ReferenceFault.

    Answers of any other version are not what this run's holdout was answered with.
    """
    reach.tracking_server()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        registered = MlflowClient().search_model_versions(f"run_id = '{run}'")
    except MlflowException as error:
        raise ReferenceFault(f"run {run}: its version cannot be asked for: {error}") from error
    names = [item.tags["semver"] for item in registered if item.name == model and "semver" in item.tags]
    if names and given not in (None, *names):
        raise ReferenceFault(f"--run {run} is {names[0]}, --version says {given}: leave the version out")
    if not (names or given):
        raise ReferenceFault(f"run {run} is not registered as {model}: say by --version which answers are meant")
    return given or str(names[0])


def only_version(connection: psycopg.Connection[Any], model: str, since: datetime, until: datetime) -> str | None:
    """The one version that answered in a window, None where none did; raises ReferenceFault where several did."""
    counts = connection.execute(ROWS + _VERSIONS, window(model, since, until)).fetchall()
    if len(counts) > 1:
        answered = " and ".join(f"{version} ({rows:,} rows)" for version, rows in counts)
        raise ReferenceFault(f"{answered} answered, and --reference is of one version: say by --version of which")
    return str(counts[0][0]) if counts else None


def from_log(
    connection: psycopg.Connection[Any], policy: Drift, since: datetime, until: datetime, version: str | None
) -> Side:
    """The answers of a window: a sample of the policy's size, and the loss of at most 20,000 labelled rows."""
    values = {**window(policy.model, since, until), "version": version, "seed": str(policy.seed)}
    rows, labelled, early = connection.execute(ROWS + _COUNT, values).fetchone() or (0, 0, 0)
    sample = connection.execute(ROWS + _SAMPLE, {**values, "labelled": False, "limit": policy.sample}).fetchall()
    labels = connection.execute(ROWS + _SAMPLE, {**values, "labelled": True, "limit": _MOST_LABELS}).fetchall()
    frame = pd.DataFrame([{**features, **_answer(output, score)} for features, output, score, _ in sample])
    judged = [(score, _loss(output, truth), _positive(output, score, truth)) for _, output, score, truth in labels]
    columns = np.array(judged, dtype=np.float64).reshape(-1, 3)
    return Side(frame, rows, labelled, Answers(*columns[~np.isnan(columns[:, 1])].T), early=early)


def _answer(output: Mapping[str, Any], score: float | None) -> dict[str, Any]:
    return {SCORE: score} | ({LABEL: output["label"]} if len(output.get("probabilities", {})) > 2 else {})


def _loss(output: Mapping[str, Any], truth: Any) -> float:
    """NaN where the truth does not fit the answer."""
    if "value" in output:
        fits = isinstance(truth, int | float) and abs(truth) <= LARGEST
        return abs(output["value"] - truth) if fits else float("nan")
    probabilities = output.get("probabilities", {})
    if str(truth) not in probabilities:
        return float("nan")
    return float(sum((p - (label == str(truth))) ** 2 for label, p in probabilities.items()))


def _positive(output: Mapping[str, Any], score: float | None, truth: Any) -> float:
    """Of two labels, whether the one whose probability is the score came true; else NaN."""
    probabilities = output.get("probabilities", {})
    if len(probabilities) != 2 or str(truth) not in probabilities:
        return float("nan")
    return float(probabilities[str(truth)] == score) if len(set(probabilities.values())) == 2 else float("nan")
