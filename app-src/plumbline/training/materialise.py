"""From the history of a model's views to the online store: the same values that the point-in-time join would use."""

from pathlib import Path

import pandas as pd
from redis import Redis

from plumbline.core.columns import TIME
from plumbline.features.offline import latest
from plumbline.features.online import Entry, write
from plumbline.training.data import read_tables
from plumbline.training.model import Model, load, own_code
from plumbline.training.prepare import history_of


def entries(
    model: Model, histories: dict[str, pd.DataFrame], as_of: pd.Timestamp, shown_as: pd.Timestamp
) -> dict[str, list[Entry]]:
    """The newest values of each view's entities as of a moment, dated as if it were `shown_as`; {view: entries}."""
    # Shifted as whole nanoseconds: seconds as floats may round a value of this very moment into the future.
    shift = shown_as - as_of
    by_view: dict[str, list[Entry]] = {}
    for view in model.schema.views:
        newest = latest(view, history_of(view, histories), as_of)
        by_view[view.name] = [
            Entry(
                entity={name: row[name] for name in view.entity},
                values={name: None if pd.isna(row[name]) else row[name] for name in view.fields},
                at=(row[TIME] + shift).timestamp(),
            )
            for row in newest.to_dict("records")
        ]
    return by_view


def materialise(name: str, data: Path, url: str, as_of: pd.Timestamp, shown_as: pd.Timestamp) -> dict[str, int]:
    """Write the values as of `as_of` into Redis as if that moment were `shown_as`; {view: entities written}.

    The two are the same but for a replay: values of 2013 would be too old for any request of today.
    """
    model = load(name)
    tables = read_tables(model, data)
    with own_code("views()"):
        histories = dict(model.views(tables))
    by_view = entries(model, histories, as_of, shown_as)
    with Redis.from_url(url) as client:
        return {
            view.name: write(client, model.schema, view, by_view[view.name], now=shown_as.timestamp())
            for view in model.schema.views
        }
