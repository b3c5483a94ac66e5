"""Values of another day are replayed at the same distance from now, to the nanosecond."""

import pandas as pd

from plumbline.core.columns import TIME
from plumbline.core.schema import ModelSchema, Output, SchemaField, View
from plumbline.training.materialise import entries

SCHEMA = ModelSchema(
    model="m",
    fields=(
        SchemaField(name="origin", type="category", description="", example="JFK"),
        SchemaField(name="wind", type="number", description="", example=1.0, required=False),
    ),
    output=Output(task="regression", name="y", description=""),
    views=(View(name="weather", entity=("origin",), fields=("wind",), max_age_seconds=3600),),
)


def test_a_value_of_the_very_moment_is_never_replayed_as_one_of_the_future():
    (view,) = SCHEMA.views
    moment = pd.Timestamp("2013-07-10T21:00Z")
    row = {TIME: moment, "origin": "JFK", **dict.fromkeys(view.fields, 1.0)}
    history = pd.DataFrame([row])
    # Sums of seconds as floats fail for 6 % of such moments.
    for now in pd.date_range("2026-11-25T13:00:00.000001Z", periods=200, freq="7919us"):
        (entry,) = entries(view, history, moment, now)
        assert entry.at == now.timestamp()
