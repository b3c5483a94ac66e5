"""Rows to train, choose and judge on: views joined as of each row's moment, windows split, vocabularies filled."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from plumbline.core.columns import CLUSTER, SLICE, TIME, TRUTH
from plumbline.core.encoding import moment_of
from plumbline.core.errors import Misuse
from plumbline.core.metrics.clusters import Clusters
from plumbline.core.schema import ModelSchema, Output, SchemaField, View
from plumbline.core.values import RowsError, encode
from plumbline.features.offline import encode_frame, join_view
from plumbline.training.data import checked_tables
from plumbline.training.logged import DATA, read_logged, rolled, with_logged
from plumbline.training.model import ByShare, ByTime, Day, Examples, Floats, Inputs, Model, Tables, folder_of, own_code
from plumbline.training.work import Work, written

PARTS = ("train", "validation", "test")
_USE = {"train": "train on", "validation": "choose on", "test": "judge on"}
log = logging.getLogger(__name__)
JUDGED_ROWS = 10_000
"""A sample never leaves fewer rows to judge on (if there are as many): promotion compares outputs on so many."""
CHOSEN_ROWS = 200
"""Nor fewer to choose on."""


class PrepareError(Misuse):
    """Rows that a model's folder gave and that training cannot use; the message says which column."""


def assemble(model: Model, tables: Tables) -> pd.DataFrame:
    """All rows with all fields, `truth`, slices, clusters and, where there is time, `at`; raises PrepareError."""
    schema = model.schema
    with own_code("rows()"):
        rows = model.rows(tables)
    _require_frame(rows, "rows()")
    if rows.empty:
        raise PrepareError("rows() gives no row; look at what it leaves out")
    with own_code("views()"):
        histories = model.views(tables)
    names = [field.name for field in schema.fields]
    timed = isinstance(model.split, ByTime) or bool(schema.views) or isinstance(model.cluster, Day)
    filled = {name for view in schema.views for name in view.fields}
    moment = next((field for field in schema.fields if field.moment and field.name in rows), None)
    if timed and TIME not in rows and moment:  # the model has said once what the moment of its rows is
        rows = rows.assign(**{TIME: _dated(moment, rows[moment.name])})
    _has(rows, "rows()", *(name for name in names if name not in filled), TRUTH, *[TIME] * timed)
    if timed:
        rows = _timed(rows, "rows()")
    for view in schema.views:
        rows = join_view(rows, view, history_of(view, histories))
    extra = [name for name in rows.columns if str(name).startswith(SLICE)]
    for name in extra:
        _require_one_type(rows[name])
    time = [TIME] if isinstance(model.split, ByTime) else []
    try:
        matrix = encode_frame(schema, rows)
    except RowsError as error:  # what is refused when it is asked for must not be learnt from either
        raise PrepareError(f"{schema.model}: {error}") from error
    for column, numbers in zip(schema.columns, matrix.T, strict=True):
        if column.type in ("number", "integer") and column.name in names:
            _warn_of_rounding(column.name, rows[column.name], numbers)
    target_of(schema, rows)
    rows = _clustered(model, rows)
    extra += [CLUSTER] * (CLUSTER in rows)
    return rows[[*time, *names, TRUTH, *extra]].reset_index(drop=True)


def _clustered(model: Model, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the cluster that each belongs to, as text; unchanged where each row is its own."""
    if model.cluster is None:
        return rows
    if isinstance(model.cluster, Day):
        local = rows[TIME].dt.tz_convert(model.cluster.zone).dt.tz_localize(None)
        # strftime of each row costs ten times as much.
        return rows.assign(**{CLUSTER: np.datetime_as_string(local.to_numpy(), unit="D")})
    name, where = str(model.cluster), f"{model.schema.model}: MODEL.cluster"
    if name not in rows.columns:
        columns = ", ".join(map(str, rows.columns))
        raise PrepareError(f"{where}: rows() gives no column {name!r}; expected one of {columns}, a Day, or None")
    if (lost := rows[name].isna()).any():
        raise PrepareError(
            f"{where}, column {name}, row {int(lost.to_numpy().argmax())}: found nothing, expected whose row it is "
            f"(so in {lost.sum()} of {len(rows)}); fill it in in rows(), or leave these rows out"
        )
    return rows.assign(**{CLUSTER: rows[name].astype(str)})


def clusters_of(model: Model, rows: pd.DataFrame) -> Clusters:
    """To which cluster each of the rows belongs."""
    return (
        Clusters.of_rows(len(rows)) if model.cluster is None else Clusters.of(list(rows[CLUSTER]), str(model.cluster))
    )


def history_of(view: View, histories: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A view's history with its moments in UTC; raises PrepareError where views() gave none."""
    if not isinstance(histories, Mapping):
        raise PrepareError(f"views() gives {type(histories).__name__}, expected {{view: pandas.DataFrame}}")
    if view.name not in histories:
        raise PrepareError(f"views() gives no {view.name}, only {', '.join(histories) or 'nothing'}")
    where = f"views(), {view.name}"
    _require_frame(histories[view.name], where)
    _has(histories[view.name], where, TIME, *view.entity, *view.fields)
    return _timed(histories[view.name], where)


def _require_frame(table: Any, where: str) -> None:
    if not isinstance(table, pd.DataFrame):
        raise PrepareError(f"{where} gives {type(table).__name__}, expected pandas.DataFrame")
    if twice := [str(name) for name in table.columns[table.columns.duplicated()]]:
        raise PrepareError(f"{where} gives the column {twice[0]} more than once; drop or rename the others")


def _require_one_type(values: "pd.Series[Any]") -> None:
    """Parquet keeps no column of several types."""
    kinds = sorted({type(value).__name__ for value in values.dropna()}) if values.dtype == object else []
    if len(kinds) > 1:
        found = " and ".join(kinds)
        raise PrepareError(f"rows(), column {values.name}: found {found}, expected one type: .astype(str)")


def _has(table: pd.DataFrame, where: str, *columns: str) -> None:
    if lacking := [name for name in columns if name not in table.columns]:
        raise PrepareError(f"{where} gives no column {', '.join(lacking)}, only {', '.join(map(str, table.columns))}")


def _dated(field: SchemaField, values: "pd.Series[Any]") -> "pd.Series[Any]":
    """A field's values as moments in UTC; raises PrepareError for what is none."""
    try:
        encode(field, values.tolist())
    except RowsError as error:
        raise PrepareError(f"rows(): {error}") from error
    return pd.to_datetime(pd.Series([moment_of(value) for value in values], index=values.index), utc=True)


def _timed(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table with its moments in UTC; raises PrepareError where they are none, or say no time zone."""
    moments = table[TIME]
    wanted = "expected moments with their time zone: pd.to_datetime(…, utc=True), or .dt.tz_localize(…) before it"
    if not isinstance(moments.dtype, pd.DatetimeTZDtype):
        kind = "moments without a time zone" if moments.dtype.kind == "M" else moments.dtype
        raise PrepareError(f"{where}, column {TIME}: found {kind}, {wanted}")
    if moments.isna().any():
        raise PrepareError(f"{where}, column {TIME}, row {int(moments.isna().argmax())}: found nothing, {wanted}")
    # merge_asof takes none but equal types, and two sources may differ in zone and unit.
    return table.assign(**{TIME: moments.dt.tz_convert("UTC").dt.as_unit("ns")})


def _warn_of_rounding(name: str, values: "pd.Series[Any]", seen: Inputs) -> None:
    """A model sees float32: of whole numbers above 2^24 those that it cannot hold become others."""
    exact = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    whole = (exact == np.floor(exact)) & (exact != seen)
    if whole.any():
        row = int(whole.argmax())
        log.warning(
            "column %s: the model sees %d for %d (float32), and another number in %d of %d rows; make it a category, "
            "or give the difference to what matters",
            name, seen[row], exact[row], whole.sum(), len(whole),
        )  # fmt: skip


def split(model: Model, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The windows (or, without time, seeded shares) to train, choose and judge on; raises PrepareError if empty."""
    if isinstance(model.split, ByTime):
        validation, test = rows[TIME] >= model.split.validation, rows[TIME] >= model.split.test
    else:
        place = _places(model.split, rows)
        test = place < model.split.test
        validation = place < model.split.test + model.split.validation
    parts = {"train": rows[~validation], "validation": rows[validation & ~test], "test": rows[test]}
    if empty := [name for name, part in parts.items() if part.empty]:
        last = f"; the rows are from {rows[TIME].min()} to {rows[TIME].max()}" if TIME in rows else ""
        raise PrepareError(f"{model.schema.model}: {model.split} leaves no rows for {', '.join(empty)}{last}")
    return parts


def _places(how: ByShare, rows: pd.DataFrame) -> "pd.Series[float]":
    """Where each row stands among all, from 0 to below 1, in a seeded order that keeps clusters together.

    Rows of one patient in both would let a model be judged on whom it has learnt.
    """
    unit = pd.factorize(rows[CLUSTER])[0] if CLUSTER in rows else np.arange(len(rows))
    units = rows.groupby(unit).agg(rows=(TRUTH, "size"), label=(TRUTH, "first"))
    units = units.assign(drawn=np.random.default_rng(how.seed).permutation(len(units))).sort_values("drawn")
    counted = units.groupby(units["label"] if how.stratified else np.zeros(len(units)))["rows"]
    place = (counted.cumsum() - units["rows"]) / counted.transform("sum")
    return pd.Series(place.reindex(unit).to_numpy(), index=rows.index)


def check_labels(output: Output, parts: Mapping[str, pd.DataFrame]) -> None:
    """Raise PrepareError where a label that is needed is not there: each to train on; of two, each in every part.

    Without both of two labels no threshold can be chosen, and hardly a metric is defined.
    """
    for name, part in parts.items() if output.task == "binary" else [("train", parts["train"])]:
        if lacking := [label for label in output.labels if not (part[TRUTH] == label).any()]:
            raise PrepareError(
                f"none of the {len(part)} rows to {_USE[name]} has the label {lacking[0]!r} of {output.name}; "
                f"move the split, train on more rows, or leave the label out"
            )


def sampled(part: pd.DataFrame, share: float, seed: int, least: int) -> pd.DataFrame:
    """A seeded share of the rows, in their order, but not fewer than `least` (if there are so many)."""
    count = min(len(part), max(least, round(share * len(part))))
    return part.sample(n=count, random_state=seed).sort_index() if count < len(part) else part


def without_views(rows: pd.DataFrame, schema: ModelSchema, share: float, seed: int) -> pd.DataFrame:
    """The rows, with each view missing in a seeded share of them: wholly, as it is where the online store has none."""
    for place, view in enumerate(schema.views):
        dropped = np.random.default_rng((seed, place)).random(len(rows)) < share
        rows = rows.assign(**{name: rows[name].where(~dropped, None) for name in view.fields})
    return rows


def fill_vocabularies(schema: ModelSchema, train: pd.DataFrame, target: Floats, minimum: int) -> ModelSchema:
    """The schema with the categories that training saw at least `minimum` times.

    They stand in the order of their mean target, so that one threshold on the code parts likely from unlikely ones:
    for a tree that split is as good as the best of all subsets (Fisher 1958; Breiman et al., CART, section 9.4).
    """
    fields = []
    for field in schema.fields:
        if field.type in ("category", "categories"):
            values = train[field.name].explode() if field.type == "categories" else train[field.name]
            groups = pd.Series(target, index=train.index).reindex(values.index).groupby(values.astype(str).to_numpy())
            means = groups.agg(["mean", "size"])
            kept = means[means["size"] >= minimum].reset_index(names="value")
            order = kept.sort_values(["mean", "value"])["value"]
            if kept.empty:
                most = int(means["size"].max()) if len(means) else 0
                raise PrepareError(
                    f"column {field.name}: none of its {len(means)} values stands {minimum} times in the {len(train)} "
                    f"rows to train on (the most frequent {most} times), so the model would know none; lower "
                    f"minimum_count, or leave the field out"
                )
            field = field.model_copy(update={"vocabulary": tuple(order)})
        fields.append(field)
    return ModelSchema.model_validate(schema.model_dump() | {"fields": [field.model_dump() for field in fields]})


def target_of(schema: ModelSchema, rows: pd.DataFrame) -> Floats:
    """The truth as numbers, shape (rows,): a label's place among the output's labels, or the value itself.

    Raises PrepareError that names the row.
    """
    truth, output = rows[TRUTH], schema.output
    if output.task == "regression":
        places, wanted = pd.to_numeric(truth, errors="coerce"), "a finite number"
    else:
        places = truth.map({label: place for place, label in enumerate(output.labels)})
        wanted = f"one of the labels {', '.join(map(repr, output.labels))}"
    target = places.to_numpy(dtype=np.float64, na_value=np.nan)
    if (broken := ~np.isfinite(target)).any():
        row = int(broken.argmax())
        (value,) = truth.iloc[[row]].tolist()
        given = "nothing" if pd.isna(value) else repr(value)
        turn = "" if isinstance(value, str) or output.task == "regression" else "; labels are text: .astype(str)"
        raise PrepareError(
            f"column {TRUTH}, row {row}: found {given}, expected {wanted} (so in {broken.sum()} of {len(rows)}){turn}"
        )
    return target


def prepare(work: Work) -> dict[str, int]:
    """Write schema.json and the three parts' rows; {part: rows}."""
    settings = work.settings
    model = rolled(work.model, read_logged(folder_of(settings.model)))
    rows = with_logged(model, assemble(model, checked_tables(work)), work.tables / DATA)
    least = {"train": 200, "validation": CHOSEN_ROWS, "test": JUDGED_ROWS}
    seeds = {"train": settings.seed, "validation": settings.seed, "test": model.split.seed}
    parts = {
        name: sampled(part, settings.sample, seeds[name], least[name]) for name, part in split(model, rows).items()
    }
    if fault := clusters_of(model, parts["test"]).fault:
        raise PrepareError(f"{model.schema.model}: {fault}")
    check_labels(model.schema.output, parts)
    target = target_of(model.schema, parts["train"])
    # A sample sees rare categories more rarely by its share.
    minimum = max(2, round(model.minimum_count * settings.sample))
    schema = fill_vocabularies(model.schema, parts["train"], target, minimum)
    parts["train"] = without_views(parts["train"], schema, model.view_dropout, settings.seed)
    for name, part in parts.items():
        with written(work.rows(name)) as temporary:
            part.to_parquet(temporary, index=False)
    with written(work.schema) as temporary:
        temporary.write_text(schema.to_json(), encoding="utf-8")
    return {name: len(part) for name, part in parts.items()}


def load_part(work: Work, part: str) -> tuple[ModelSchema, pd.DataFrame]:
    """The filled schema and one part's rows, as `prepare` wrote them."""
    return work.read(work.schema, ModelSchema), pd.read_parquet(work.rows(part))


def examples(work: Work, part: str) -> Examples:
    """One part's rows as numbers."""
    schema, rows = load_part(work, part)
    return Examples(encode_frame(schema, rows), target_of(schema, rows))
