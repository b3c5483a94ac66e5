"""The flights' rows: what is known before departure, and nothing else."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plumbline.features.offline import join_view
from plumbline.training import models
from plumbline.training.model import load
from plumbline.training.prepare import assemble

if not any((Path(folder) / "flights").is_dir() for folder in models.__path__):
    pytest.skip("a person has removed the model", allow_module_level=True)
from plumbline.training.models.flights import data

KNOWN_LATER = {"dep_time", "dep_delay", "arr_time", "air_time"}


@pytest.fixture(scope="module")
def model():
    return load("flights")


@pytest.fixture
def tables():
    flight = {
        "year": 2013,
        "month": 7,
        "day": 1,
        "sched_dep_time": 1545,
        "sched_arr_time": 2359,
        "arr_delay": 15.0,
        "carrier": "UA",
        "flight": 1,
        "tailnum": "N14228",
        "origin": "EWR",
        "dest": "IAH",
        "distance": 1400,
        "minute": 45,
        "time_hour": "2013-07-01T19:00:00Z",
    }
    flights = pd.DataFrame(
        [
            flight,
            {**flight, "arr_delay": 16.0, "flight": 2, "tailnum": None},
            {**flight, "arr_delay": np.nan, "flight": 3},
            {**flight, "origin": "JFK", "flight": 4},
        ]
    )
    hours = pd.date_range("2013-06-30T16:00Z", "2013-07-01T20:00Z", freq="h")
    weather = pd.DataFrame({"origin": "EWR", "time_hour": hours.strftime("%Y-%m-%dT%H:%M:%SZ")})
    for name, column in data.TABLES["weather"].columns.items():
        if column.dtype.type == np.float64:
            weather[name] = np.arange(len(weather), dtype=float) / 10 + (1000 if name == "pressure" else 0)
    planes = pd.DataFrame({"tailnum": ["N14228"], "year": [1999.0], "seats": [149.0]})
    return {"flights": flights, "planes": planes, "weather": weather}


def test_no_column_that_is_known_only_later_is_even_read():
    assert not KNOWN_LATER & set(data.TABLES["flights"].columns)


def test_sixteen_minutes_are_late_fifteen_are_not_and_a_flight_without_arrival_is_left_out(model, tables):
    rows = model.rows(tables)
    assert list(rows["truth"]) == ["on_time", "late", "on_time"]
    assert list(rows["slice_origin"]) == ["EWR", "EWR", "JFK"]
    assert list(rows["slice_month"]) == ["2013-07"] * 3


def test_the_fields_are_what_a_caller_would_send(model, tables):
    first, second, _ = model.rows(tables).to_dict("records")
    assert first["at"] == pd.Timestamp("2013-07-01T18:45Z"), "an hour before 15:45 in New York"
    assert (first["weekday"], first["departure"], first["arrival"]) == (1, 945, 1439)
    assert (first["plane_year"], first["plane_seats"]) == (1999, 149)
    assert np.isnan(second["plane_year"])


def test_weather_is_known_from_the_end_of_its_hour(model, tables):
    """At 18:45 the newest hour that is over is 17:00 to 18:00; the one that began at 18:00 is not over."""
    rows = assemble(model, tables)
    hours = list(tables["weather"]["time_hour"])
    expected = tables["weather"]["temp"][hours.index("2013-07-01T17:00:00Z")]
    assert rows["temperature"].iloc[0] == pytest.approx(expected)
    assert np.isnan(rows["temperature"].iloc[2]), "no weather was observed at JFK"


def test_later_weather_changes_nothing_earlier_weather_does(model, tables):
    before = assemble(model, tables)
    changed = tables["weather"].copy()
    numbers = changed.select_dtypes("number").columns
    changed.loc[changed["time_hour"] >= "2013-07-01T18:00:00Z", numbers] = 900.0
    pd.testing.assert_frame_equal(assemble(model, {**tables, "weather": changed}), before)
    changed.loc[changed["time_hour"] == "2013-07-01T17:00:00Z", "temp"] = 7.0
    assert not assemble(model, {**tables, "weather": changed}).equals(before)


def test_summaries_look_back_over_their_hours_only(model, tables):
    weather = tables["weather"]
    weather["precip"] = 0.0
    weather.loc[weather["time_hour"] == "2013-07-01T11:00:00Z", "precip"] = 0.5
    history = model.views(tables)["weather"].set_index("at")
    noon = pd.Timestamp("2013-07-01T12:00Z")
    wet = history["precipitation_6h"] > 0
    assert wet[wet].index.min() == noon
    assert wet[wet].index.max() == noon + pd.Timedelta(hours=5)
    assert (history["precipitation_24h"][noon:] == 0.5).all()
    assert (history["precipitation_6h"] >= 0).all()


def test_weather_older_than_three_hours_is_missing(model, tables):
    view = model.schema.views[0]
    history = model.views(tables)["weather"]
    last = history["at"].max()
    rows = pd.DataFrame({"at": last + pd.to_timedelta(["3h", "3h 1s"]), "origin": "EWR"})
    assert join_view(rows, view, history)["temperature"].notna().tolist() == [True, False]


def test_the_known_slip_of_the_wind_is_taken_as_not_measured(tmp_path):
    data.fetch(tmp_path)
    weather = pd.read_csv(tmp_path / "weather.csv")
    assert weather["wind_speed"].max() < 60
    assert len(pd.read_csv(tmp_path / "flights.csv", usecols=["year"])) == 336_776
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flights.csv", "planes.csv", "weather.csv"]
