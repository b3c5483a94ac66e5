"""`plumbline train collect`: what was answered and has its label becomes the model's next data, by pull request."""

import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import numpy as np
import pandas as pd
from psycopg import Connection

from plumbline.core.columns import TRUTH
from plumbline.core.digests import sha256
from plumbline.core.documents import parse
from plumbline.core.errors import Inconclusive
from plumbline.core.metrics.clusters import LEAST
from plumbline.core.schema import ModelSchema
from plumbline.core.settings import load
from plumbline.core.values import RowsError
from plumbline.features.offline import encode_frame
from plumbline.monitoring.log.connect import connected
from plumbline.monitoring.log.queries import ROWS, window
from plumbline.promotion.delivery.documents import dump
from plumbline.promotion.delivery.git import Change, Checkout, Subject, checkout
from plumbline.promotion.delivery.proposal import Delivered, write
from plumbline.promotion.settings import Settings
from plumbline.training.data import pinned
from plumbline.training.logged import FILE, LoggedData, name_of
from plumbline.training.model import ByTime, Day, Model, folder_of
from plumbline.training.prepare import PrepareError, target_of
from plumbline.training.tracking import data_version, keep_file, kept_run

SHARE = 1 / 3
"""Of the rows' days that are judged on, and as many before them to choose on: 20 days to judge on are 60 in all."""
# The newest label of each row; one that is older than its answer says nothing of it.
_LABELLED: LiteralString = """
    SELECT at, features, truth FROM rows
    WHERE truth IS NOT NULL AND labelled_ms >= floor(extract(epoch FROM at) * 1000)
    ORDER BY id, row"""


@dataclass(frozen=True)
class Collected:
    """Rows of the log, as the bytes that are kept, and what they are."""

    model: str
    body: bytes
    moments: list[datetime]
    split: tuple[datetime | None, datetime | None]
    """From when on they are chosen on, and judged on."""
    left_out: int
    """Rows whose values or label the model does not take."""


def collect(connection: Connection[Any], model: Model, since: datetime, until: datetime) -> Collected:
    """All labelled rows of that time; raises Inconclusive where they are too few to be judged on."""
    name = model.schema.model
    labelled = connection.execute(ROWS + _LABELLED, window(name, since, until)).fetchall()
    rows = _taken(model.schema, [{"at": at, "truth": truth, "features": row} for at, row, truth in labelled])
    if not rows:
        raise Inconclusive(f"{name}: the log has no labelled row of that time which the model takes")
    body = b"".join(json.dumps({**row, "at": row["at"].isoformat()}, sort_keys=True).encode() + b"\n" for row in rows)
    moments = [row["at"].astimezone(UTC) for row in rows]
    split = _split(model, moments) if isinstance(model.split, ByTime) else (None, None)
    return Collected(name, body, moments, split, len(labelled) - len(rows))


def keep(collected: Collected) -> LoggedData:
    """Put the bytes into an MLflow run of `<model>/data`, once; returns what git is to say of them."""
    model, digest = collected.model, sha256(collected.body)
    run = kept_run(model, digest)
    if not run:
        with tempfile.TemporaryDirectory(prefix="collect-") as folder:
            (path := Path(folder) / name_of(digest)).write_bytes(collected.body)
            run = keep_file(model, digest, path)
    return LoggedData(
        model=model, digest=digest, run=run, rows=len(collected.moments), first=min(collected.moments),
        last=max(collected.moments), validation=collected.split[0], test=collected.split[1],
    )  # fmt: skip


def propose(tree: Checkout, logged: LoggedData, place: str) -> Delivered | None:
    """Bring logged.yaml to the branch, as a pull request where a forge is set; None where git has these rows."""
    path = f"{place.rstrip('/')}/{logged.model}/{FILE}"

    def make() -> Change | None:
        text = tree.read(path)
        if text is not None and parse(text, LoggedData, path).digest == logged.digest:
            return None
        message = (
            f"{logged.model}: data of the log up to {logged.last:%Y-%m-%d}, {logged.rows:,} rows\n\n"
            f"Digest: {logged.digest}\nRows: {logged.rows}\nFirst: {logged.first:%F}\nLast: {logged.last:%F}\n"
        )
        subject = Subject("data", logged.model, logged.digest.removeprefix("sha256:")[:12])
        return Change({path: dump(logged)}, message, subject)

    return write(tree, make)


def _taken(schema: ModelSchema, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose values and label the model takes; halves of a part that holds another are looked at again."""
    frame = pd.DataFrame([[row["features"].get(name) for name in _names(schema)] for row in rows],
                         columns=_names(schema), dtype=object)  # fmt: skip
    try:
        encode_frame(schema, frame)
        target_of(schema, frame.assign(**{TRUTH: pd.Series([row["truth"] for row in rows], dtype=object)}))
    except (RowsError, PrepareError):
        half = len(rows) // 2
        return [*_taken(schema, rows[:half]), *_taken(schema, rows[half:])] if half else []
    return rows


def _names(schema: ModelSchema) -> list[str]:
    return [field.name for field in schema.fields]


def _split(model: Model, moments: list[datetime]) -> tuple[datetime, datetime]:
    """When the last third begins, and the one before it, at the beginning of a day where days are the clusters."""
    zone = model.cluster.zone if isinstance(model.cluster, Day) else "UTC"
    days = pd.DatetimeIndex(moments).tz_convert(zone).normalize().unique().sort_values()
    part = int(np.floor(SHARE * len(days)))
    if part < LEAST:
        raise Inconclusive(
            f"{model.schema.model}: labels of {len(days)} days have come, {int(np.ceil(LEAST / SHARE))} are needed:"
            f" {LEAST} to judge on, as many to choose on, and some to learn from"
        )
    validation, test = (days[-count * part].tz_convert("UTC") for count in (2, 1))
    return validation.to_pydatetime(), test.to_pydatetime()


def bring(model: Model, span: timedelta, place: str, run: str) -> tuple[str, str]:
    """(ready, proposed or known; what was done); `run` is that of the version which is served, empty if none is."""
    name, now = model.schema.model, datetime.now(UTC)
    if run and data_version(run) != pinned(folder_of(name)):
        return "ready", f"git has other data than the run {run} learnt: train first"
    # A day is in it wholly or not at all.
    since = (now - span).replace(hour=0, minute=0, second=0, microsecond=0)
    with connected() as connection:
        collected = collect(connection, model, since, now)
    logged = keep(collected)
    with checkout(load(Settings)) as tree:
        delivered = propose(tree, logged, place)
    counts = f"{logged.rows:,} rows, {logged.digest}, {collected.left_out:,} left out"
    return ("proposed", f"{counts}\n{delivered}") if delivered else ("known", f"{counts}\ngit has them already")
