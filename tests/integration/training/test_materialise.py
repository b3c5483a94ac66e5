"""What the online store answers is what the point-in-time join gave to training."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis

from plumbline.features.offline import join_view
from plumbline.features.online import OnlineReader
from plumbline.training.data import read_tables
from plumbline.training.materialise import materialise
from plumbline.training.model import load

MOMENTS = ["2013-07-10T21:17:30Z", "2013-11-03T06:30Z", "2014-01-02T00:00Z"]

# The first test waits for the services and a training, which on a busy machine takes minutes.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def model():
    return load("flights")


@pytest.fixture(scope="module")
def history(model, flights):
    _, work = flights
    return model.views(read_tables(model, work / "data"))["weather"]


@pytest.mark.parametrize("moment", [pd.Timestamp(moment) for moment in MOMENTS])
def test_online_and_offline_values_are_equal(model, history, flights, redis_url, moment):
    _, work = flights
    (view,) = model.schema.views
    rows = pd.DataFrame({"at": moment, "origin": ["EWR", "JFK", "LGA", "BOS"]})
    offline = join_view(rows, view, history)
    counted = materialise("flights", work / "data", redis_url, moment, moment)
    assert counted["weather"] == (offline["temperature"].notna().sum())
    reader = OnlineReader(model.schema)
    requests: list[Any] = rows[["origin"]].to_dict("records")
    with redis.Redis.from_url(redis_url) as client:
        wanted = list(reader.wanted(requests))
        assert [index for index, _, _ in wanted] == list(rows.index)
        for index, known, key in wanted:
            values = reader.values(known, client.get(key), moment.timestamp())
            online = np.array([values.get(name, math.nan) for name in view.fields])
            np.testing.assert_array_equal(online, offline.loc[index, list(view.fields)].to_numpy(dtype=float))


def test_the_command_replays_old_values_as_if_they_were_of_now(training, flights, model, redis_url):
    _, work = flights
    options = ("--model", "flights", "--data", work / "data", "--redis-url", redis_url, "--as-of", "2013-07-10T21:00")
    assert training("materialise", *options, "--replay").startswith("weather: 3 entities as of 2013-07-10T21:00")
    reader = OnlineReader(model.schema)
    with redis.Redis.from_url(redis_url) as client:
        ((_, view, key),) = reader.wanted([{"origin": "JFK"}])
        now = pd.Timestamp.now(tz="UTC").timestamp()
        assert "temperature" in reader.values(view, client.get(key), now)
