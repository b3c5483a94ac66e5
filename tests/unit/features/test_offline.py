"""The point-in-time join, against the rule in plain words."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plumbline.core.schema import ModelSchema, Output, SchemaField, View
from plumbline.features.offline import encode_frame, join_view, latest

START = pd.Timestamp("2013-01-01", tz="UTC")
VIEW = View(name="weather", entity=("origin",), fields=("wind", "rain"), max_age_seconds=3600)
SCHEMA = ModelSchema(
    model="m",
    fields=(
        SchemaField(name="origin", type="category", description="From", example="A", vocabulary=("A", "B")),
        SchemaField(name="wind", type="number", description="Wind", example=1.0, required=False),
        SchemaField(name="rain", type="integer", description="Rain", example=1, required=False),
    ),
    output=Output(task="regression", name="y", description="Y"),
    views=(VIEW,),
)


def at(minutes):
    return START + pd.to_timedelta(minutes, unit="min")


def history(observations):
    """(minute known, origin, wind, rain) as a view's history."""
    return pd.DataFrame(
        {
            "at": [at(minute) for minute, *_ in observations],
            "origin": [origin for _, origin, *_ in observations],
            "wind": [float(wind) for *_, wind, _ in observations],
            "rain": [float(rain) for *_, rain in observations],
        }
    )


def rows(moments):
    return pd.DataFrame({"at": [at(minute) for minute, _ in moments], "origin": [origin for _, origin in moments]})


minutes = st.integers(0, 300)
origins = st.sampled_from(["A", "B", "C"])
observed = st.lists(st.tuples(minutes, origins, st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30)
unique = observed.map(lambda many: list({each[:2]: each for each in many}.values()))
few = settings(max_examples=30)


@few
@given(unique, st.lists(st.tuples(minutes, origins), min_size=1, max_size=20))
def test_each_row_gets_the_newest_values_known_at_its_moment_and_none_too_old(observations, moments):
    joined = join_view(rows(moments), VIEW, history(observations))
    for (moment, origin), found in zip(moments, joined.to_dict("records"), strict=True):
        known = [o for o in observations if o[1] == origin and moment - 60 <= o[0] <= moment]
        if known:
            _, _, wind, rain = max(known)
            assert (found["wind"], found["rain"]) == (wind, rain)
        else:
            assert np.isnan(found["wind"])
            assert np.isnan(found["rain"])


@few
@given(unique, minutes, st.integers(0, 9))
def test_what_becomes_known_later_changes_nothing(observations, moment, wind):
    moments = [(moment, origin) for origin in "ABC"]
    later = [(moment + 1, origin, wind, wind) for origin in "ABC"]
    without = [o for o in observations if o[0] <= moment]
    assume(without)
    pd.testing.assert_frame_equal(
        join_view(rows(moments), VIEW, history(without)), join_view(rows(moments), VIEW, history(without + later))
    )


@few
@given(unique, minutes)
def test_the_latest_values_are_those_of_the_join(observations, moment):
    joined = join_view(rows([(moment, origin) for origin in "ABC"]), VIEW, history(observations)).set_index("origin")
    newest = latest(VIEW, history(observations), at(moment)).set_index("origin")
    assert set(newest.index) == set(joined.index[joined["wind"].notna()])
    for origin in newest.index:
        assert newest.loc[origin, "wind"] == joined.loc[origin, "wind"]


def test_order_index_and_other_columns_of_the_rows_are_kept():
    given_rows = rows([(50, "B"), (10, "A"), (30, "B")]).assign(truth=[1, 2, 3])
    given_rows.index = pd.Index([7, 5, 9])
    joined = join_view(given_rows, VIEW, history([(5, "A", 1, 1), (40, "B", 2, 2)]))
    assert list(joined.index) == [7, 5, 9]
    assert list(joined["truth"]) == [1, 2, 3]
    assert joined["wind"].tolist()[:2] == [2, 1]
    assert np.isnan(joined["wind"].tolist()[2])


@pytest.mark.parametrize(("age", "found"), [(0, True), (60, True), (61, False)])
def test_both_ends_of_the_age_are_included_as_they_are_online(age, found):
    joined = join_view(rows([(100, "A")]), VIEW, history([(100 - age, "A", 1, 1)]))
    assert bool(joined["wind"].notna().iloc[0]) is found


def test_a_frame_encodes_as_its_rows_do():
    frame = pd.DataFrame({"origin": ["B", "??", "A"], "wind": [1.5, np.nan, 2.0], "rain": [np.nan, 3.0, 4.0]})
    records: list[Any] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    np.testing.assert_array_equal(encode_frame(SCHEMA, frame), SCHEMA.encode(records))
