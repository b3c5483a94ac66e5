"""Answers of the log whose labels have come, as rows to train and judge on: `logged.yaml` in a model's folder.

The file pins them by their digest, as dvc.lock pins what the model's own source gives; `plumbline train collect` makes
both, and a pull request brings it in. Where the model is split by time, the file says when its rows are chosen and
judged on, so that what is older is learnt from: the holdout rolls on with the log.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import AwareDatetime, Field

from plumbline.core.columns import CLUSTER, SLICE, TIME, TRUTH
from plumbline.core.digests import sha256
from plumbline.core.documents import Strict, read
from plumbline.core.errors import Misuse
from plumbline.core.names import Digest, Name
from plumbline.training.model import ByTime, Day, Model

FILE = "logged.yaml"
DATA = "logged.jsonl"
"""Beside the raw tables: a JSON object a line with `at`, `truth` and `features`, in the order of the log."""
ELSEWHERE = "(logged)"
"""The slice of rows from the log by a column that is none of the model's fields."""


class LoggedData(Strict):
    """Which rows of the log a model is trained with."""

    apiVersion: Literal["plumbline.dev/v1"] = "plumbline.dev/v1"
    kind: Literal["LoggedData"] = "LoggedData"
    model: Name
    digest: Digest
    """Of the file's bytes."""
    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """The MLflow run that has the file; what it gives is believed by its digest alone."""
    rows: Annotated[int, Field(gt=0)]
    first: AwareDatetime
    last: AwareDatetime
    validation: AwareDatetime | None = None
    test: AwareDatetime | None = None
    """What is answered from then on is chosen on, and judged on; None where the model has no split by time."""


def name_of(digest: str) -> str:
    """Of the file in its run."""
    return f"{digest.removeprefix('sha256:')}.jsonl"


def read_logged(folder: Path) -> LoggedData | None:
    """What a model's folder pins of the log; None where it is trained without. Raises DocumentError."""
    path = folder / FILE
    if not path.exists():
        return None
    logged = read(path, LoggedData)
    if logged.model != folder.name:
        raise Misuse(f"{path}: is of the model {logged.model!r}, expected {folder.name!r}")
    return logged


def fetch(logged: LoggedData, target: Path) -> None:
    """Copy the rows from their run; raises Misuse where they are not there, or not those that git pins."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="logged-") as folder:
        try:
            path = Path(download_artifacts(run_id=logged.run, artifact_path=name_of(logged.digest), dst_path=folder))
            body = path.read_bytes()
        except (MlflowException, OSError) as error:
            raise Misuse(f"{FILE} pins {logged.digest}, which the run {logged.run} does not give: {error}") from error
    if (digest := sha256(body)) != logged.digest:
        raise Misuse(f"{FILE} pins {logged.digest}, the run {logged.run} gives {digest}: somebody changed it there")
    target.write_bytes(body)


def rolled(model: Model, logged: LoggedData | None) -> Model:
    """The model with the split that its rows of the log ask for."""
    if logged is None or logged.test is None or logged.validation is None or not isinstance(model.split, ByTime):
        return model
    zone = model.split.test.tz
    validation, test = (pd.Timestamp(moment).tz_convert(zone) for moment in (logged.validation, logged.test))
    return replace(model, split=replace(model.split, validation=validation, test=test))


def with_logged(model: Model, rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The model's own rows, then those of the log, in the same columns; unchanged where there is no such file.

    Raises Misuse where rows depend on each other by something that the log does not have.
    """
    if not path.exists():
        return rows
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    fields = [field.name for field in model.schema.fields]
    features = pd.DataFrame([line["features"] for line in lines], dtype=object).reindex(columns=fields)
    columns: dict[str, Any] = {name: _as(features[name], rows[name]) for name in fields}
    at = pd.to_datetime([line["at"] for line in lines], utc=True).as_unit("ns")
    columns[TRUTH] = [line["truth"] for line in lines]
    for name in map(str, rows.columns):
        if name == TIME:
            columns[name] = at
        elif name.startswith(SLICE):
            of = name.removeprefix(SLICE)
            columns[name] = features[of].astype(str) if of in fields else ELSEWHERE
        elif name == CLUSTER:
            columns[name] = _cluster(model, features, at)
    logged = pd.DataFrame(columns, index=range(len(lines)))[list(rows.columns)]
    return pd.concat([rows, logged], ignore_index=True)


def _cluster(model: Model, features: pd.DataFrame, at: pd.DatetimeIndex) -> Any:
    if isinstance(model.cluster, Day):
        return at.tz_convert(model.cluster.zone).strftime("%Y-%m-%d")
    name = str(model.cluster)
    if name not in features or features[name].isna().any():
        raise Misuse(f"{model.schema.model}: rows depend on each other by {name!r}, which rows of the log do not have")
    return features[name].astype(str).to_numpy()


def _as(values: "pd.Series[Any]", like: "pd.Series[Any]") -> "pd.Series[Any]":
    """What JSON has in the type of the model's own column; what is missing stays missing."""
    if isinstance(like.dtype, pd.DatetimeTZDtype):
        return pd.to_datetime(values, utc=True, format="ISO8601").astype(like.dtype)
    if pd.api.types.is_bool_dtype(like.dtype):
        return values.astype("boolean")
    if not pd.api.types.is_numeric_dtype(like.dtype):
        return values.where(values.notna(), None)
    numbers = pd.to_numeric(values)
    return numbers.astype(like.dtype) if numbers.notna().all() else numbers.astype("float64")
