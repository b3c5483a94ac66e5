"""Rows to train, choose and judge on: views joined as of each row's moment, windows split, vocabularies filled."""

import numpy as np
import pandas as pd

from plumbline.core.errors import Misuse
from plumbline.core.schema import ModelSchema
from plumbline.core.values import RowsError
from plumbline.features.offline import encode_frame, join_view
from plumbline.training.data import checked_tables
from plumbline.training.model import SLICE, TIME, TRUTH, ByTime, Examples, Floats, Model, Tables
from plumbline.training.work import Work, written

PARTS = ("train", "validation", "test")
JUDGED_ROWS = 10_000
"""A sample never leaves fewer rows to judge on (if there are as many): promotion compares outputs on so many."""


class PrepareError(Misuse):
    """Rows that a model's folder gave and that training cannot use; the message says which column."""


def assemble(model: Model, tables: Tables) -> pd.DataFrame:
    """All rows with all fields, `truth`, slices and, where there is time, `at`; raises PrepareError."""
    rows = model.rows(tables)
    histories = model.views(tables)
    for view in model.schema.views:
        rows = join_view(rows, view, histories[view.name])
    names = [field.name for field in model.schema.fields]
    extra = [name for name in rows.columns if name.startswith(SLICE)]
    time = [TIME] if isinstance(model.split, ByTime) else []
    if lacking := [name for name in [*names, TRUTH, *time] if name not in rows.columns]:
        raise PrepareError(f"{model.schema.model}: rows() gives no column {', '.join(lacking)}")
    try:
        encode_frame(model.schema, rows)
    except RowsError as error:  # what is refused when it is asked for must not be learnt from either
        raise PrepareError(f"{model.schema.model}: {error}") from error
    return rows[[*time, *names, TRUTH, *extra]].reset_index(drop=True)


def split(model: Model, rows: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """The windows (or, without time, seeded shares) to train, choose and judge on; raises PrepareError if empty."""
    if isinstance(model.split, ByTime):
        validation, test = rows[TIME] >= model.split.validation, rows[TIME] >= model.split.test
    else:
        place = pd.Series(np.random.default_rng(seed).permutation(len(rows)) / len(rows), index=rows.index)
        test = place < model.split.test
        validation = place < model.split.test + model.split.validation
    parts = {"train": rows[~validation], "validation": rows[validation & ~test], "test": rows[test]}
    if empty := [name for name, part in parts.items() if part.empty]:
        raise PrepareError(f"{model.schema.model}: the split leaves no rows for {', '.join(empty)}")
    return parts


def sampled(part: pd.DataFrame, share: float, seed: int, least: int) -> pd.DataFrame:
    """A seeded share of the rows, in their order, but not fewer than `least` (if there are so many)."""
    count = min(len(part), max(least, round(share * len(part))))
    return part.sample(n=count, random_state=seed).sort_index() if count < len(part) else part


def fill_vocabularies(schema: ModelSchema, train: pd.DataFrame, target: Floats, minimum: int) -> ModelSchema:
    """The schema with the categories that training saw at least `minimum` times.

    They stand in the order of their mean target, so that one threshold on the code parts likely from unlikely ones:
    for a tree that split is as good as the best of all subsets (Fisher 1958; Breiman et al., CART, section 9.4).
    """
    fields = []
    for field in schema.fields:
        if field.type == "category":
            groups = pd.Series(target, index=train.index).groupby(train[field.name].astype(str))
            means = groups.agg(["mean", "size"])
            kept = means[means["size"] >= minimum].reset_index(names="value")
            order = kept.sort_values(["mean", "value"])["value"]
            field = field.model_copy(update={"vocabulary": tuple(order)})
        fields.append(field)
    return ModelSchema.model_validate(schema.model_dump() | {"fields": [field.model_dump() for field in fields]})


def target_of(schema: ModelSchema, rows: pd.DataFrame) -> Floats:
    """The truth as numbers, shape (rows,): a label's place among the output's labels, or the value itself."""
    if schema.output.task == "regression":
        return np.asarray(rows[TRUTH], dtype=np.float64)
    places = rows[TRUTH].map({label: place for place, label in enumerate(schema.output.labels)})
    if places.isna().any():
        raise PrepareError(f"{TRUTH}: {rows[TRUTH][places.isna()].iloc[0]!r} is none of {schema.output.labels}")
    return np.asarray(places, dtype=np.float64)


def prepare(work: Work) -> dict[str, int]:
    """Write schema.json and the three parts' rows; {part: rows}."""
    model, settings = work.model, work.settings
    rows = assemble(model, checked_tables(work))
    least = {"train": 200, "validation": 200, "test": JUDGED_ROWS}
    parts = {
        name: sampled(part, settings.sample, settings.seed, least[name])
        for name, part in split(model, rows, settings.seed).items()
    }
    target = target_of(model.schema, parts["train"])
    # A sample sees rare categories more rarely by its share.
    minimum = max(2, round(model.minimum_count * settings.sample))
    schema = fill_vocabularies(model.schema, parts["train"], target, minimum)
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
