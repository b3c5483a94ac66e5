"""What the online store answers is what the point-in-time join gave to training."""

import numpy as np
import pandas as pd
import pytest
import redis

from plumbline.features.offline import join_view
from plumbline.features.online import entity_key, newest_key, read
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
    fields = {field.name: field for field in model.schema.fields}
    with redis.Redis.from_url(redis_url) as client:
        for index, origin in enumerate(rows["origin"]):
            known = read(fields, view, client.get(entity_key("flights", view, {"origin": origin})))
            if known is not None:
                assert known.holds(view, moment.timestamp())
            online = np.array(known.values if known else [None] * len(view.fields), dtype=float)
            np.testing.assert_array_equal(online, offline.loc[index, list(view.fields)].to_numpy(dtype=float))


def test_the_command_replays_old_values_as_if_they_were_of_now(training, flights, model, redis_url):
    _, work = flights
    options = ("--model", "flights", "--data", work / "data", "--redis-url", redis_url, "--as-of", "2013-07-10T21:00")
    assert training("materialise", *options, "--replay").startswith("weather: 3 entities as of 2013-07-10T21:00")
    (view,) = model.schema.views
    fields, now = {field.name: field for field in model.schema.fields}, pd.Timestamp.now(tz="UTC").timestamp()
    with redis.Redis.from_url(redis_url) as client:
        known = read(fields, view, client.get(entity_key("flights", view, {"origin": "JFK"})))
        assert known
        assert known.holds(view, now)
        assert now - view.max_age_seconds < float(client.get(newest_key("flights", view)) or 0) <= now
