"""From the history of a model's views to the online store: the same values that the point-in-time join would use."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import fsspec
import pandas as pd
from redis import Redis

from plumbline.core.columns import TIME
from plumbline.core.errors import Accident
from plumbline.core.schema import View
from plumbline.features.offline import latest
from plumbline.features.online import Entry, write
from plumbline.training.data import read_tables
from plumbline.training.model import Model, Source, Tables, load, own_code
from plumbline.training.prepare import history_of


def entries(view: View, history: pd.DataFrame, as_of: pd.Timestamp, shown_as: pd.Timestamp) -> list[Entry]:
    """The newest values of a view's entities as of a moment, dated as if it were `shown_as`."""
    # Shifted as whole nanoseconds: seconds as floats may round a value of this very moment into the future.
    shift = shown_as - as_of
    return [
        Entry(
            entity={name: row[name] for name in view.entity},
            values={name: None if pd.isna(row[name]) else row[name] for name in view.fields},
            at=(row[TIME] + shift).timestamp(),
        )
        for row in latest(view, history, as_of).to_dict("records")
    ]


def materialise(name: str, data: Path, url: str, as_of: pd.Timestamp, shown_as: pd.Timestamp) -> dict[str, int]:
    """Write the values as of `as_of` into Redis as if that moment were `shown_as`; {view: entities written}.

    The two are the same but for a replay: values of 2013 would be too old for any request of today.
    """
    model = load(name)
    histories = _histories(model, read_tables(model, data))
    with Redis.from_url(url) as client:
        return {
            view.name: write(
                client,
                model.schema,
                view,
                entries(view, history_of(view, histories), as_of, shown_as),
                now=shown_as.timestamp(),
            )
            for view in model.schema.views
        }


def fill(name: str, url: str, now: pd.Timestamp) -> dict[str, int]:
    """Write what the declared sources of a model's views say now; {view: entities written}.

    Raises Accident, after every view was tried, where a source can't be read or is not what its tables' schemas say:
    what stands in the store stays there until it is too old.
    """
    model = load(name)
    written, faults = {}, []
    wanted: dict[Source, list[View]] = {}
    for view in model.schema.views:
        if (source := model.sources[view.name]) is not None:
            wanted.setdefault(source, []).append(view)
    with Redis.from_url(url) as client:
        for source, views in wanted.items():
            as_of = now if source.year is None else now + pd.DateOffset(year=source.year)
            try:
                histories = _histories(model, _read(model, source))
            except Exception as error:  # of whatever client reads the place
                faults += [_fault(name, view, error) for view in views]
                continue
            for view in views:
                try:
                    newest = entries(view, history_of(view, histories), as_of, now)
                except Exception as error:  # of what the model's own code made of it
                    faults.append(_fault(name, view, error))
                else:
                    written[view.name] = write(client, model.schema, view, newest, now=now.timestamp())
    if faults:
        raise Accident(f"the online store keeps what it has: {'; '.join(faults)}")
    return written


def _fault(name: str, view: View, error: Exception) -> str:
    return f"{name}, {view.name}: {' '.join(str(error).split()) or type(error).__name__}"


def _read(model: Model, source: Source) -> Tables:
    """The tables of a source, as they are now."""
    with tempfile.TemporaryDirectory(prefix="source-") as temporary:
        folder = Path(temporary)
        if source.place:
            for name in source.tables:
                place = f"{source.place.rstrip('/')}/{name}.csv"
                with fsspec.open(place) as there, (folder / f"{name}.csv").open("wb") as here:
                    shutil.copyfileobj(there, here)
        else:
            with own_code("fetch()"):
                model.fetch(folder)
        return read_tables(model, folder, source.tables)


def _histories(model: Model, tables: Tables) -> Mapping[str, pd.DataFrame]:
    with own_code("views()"):
        return dict(model.views(tables))
