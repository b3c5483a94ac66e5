"""Windows, shares, samples and vocabularies."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from plumbline.core.schema import ModelSchema, Output, SchemaField
from plumbline.training.model import ByShare, ByTime, Model
from plumbline.training.prepare import PrepareError, assemble, fill_vocabularies, sampled, split, target_of

FIELDS = (
    SchemaField(name="carrier", type="category", description="Who", example="AA"),
    SchemaField(name="seats", type="integer", description="Seats", example=3, minimum=1, maximum=9),
    SchemaField(name="year", type="number", description="Year", example=3, required=False),
)
SCHEMA = ModelSchema(
    model="m",
    fields=FIELDS,
    output=Output(task="binary", name="positive", description="Positive?", labels=("no", "yes")),
)
JULY, AUGUST = pd.Timestamp("2013-07-01", tz="UTC"), pd.Timestamp("2013-08-01", tz="UTC")


def frame(**changes):
    return pd.DataFrame(
        {
            "at": pd.to_datetime(["2013-06-30T23:59Z", "2013-07-01T00:00Z", "2013-07-31T23:59Z", "2013-08-01T00:00Z"]),
            "carrier": ["AA", "BB", "AA", "CC"],
            "seats": [1, 2, 3, 9],
            "year": [1.0, np.nan, 2.0, 3.0],
            "truth": ["no", "yes", "no", "yes"],
        }
        | changes
    )


def model_of(rows, how):
    def unused(*_):
        raise AssertionError

    return Model(
        schema=SCHEMA,
        tables={},
        fetch=unused,
        rows=lambda _: rows,
        split=how,
        baseline=unused,
        candidate=unused,
        defaults={},
        space=unused,
    )


BY_TIME = ByTime(validation=JULY, test=AUGUST)


def test_windows_are_cut_at_their_beginnings():
    parts = split(model_of(frame(), BY_TIME), frame(), seed=0)
    assert {name: list(part.index) for name, part in parts.items()} == {"train": [0], "validation": [1, 2], "test": [3]}


def test_shares_are_disjoint_whole_and_the_same_for_the_same_seed():
    rows = pd.DataFrame({"carrier": ["AA"] * 1000})
    model = model_of(rows, ByShare(validation=0.1, test=0.3))
    parts, again, other = (split(model, rows, seed) for seed in (1, 1, 2))
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [600, 100, 300]
    assert sorted(index for part in parts.values() for index in part.index) == list(range(1000))
    assert list(parts["test"].index) == list(again["test"].index) != list(other["test"].index)


def test_an_empty_window_is_named():
    with pytest.raises(PrepareError, match="no rows for test"):
        split(model_of(frame(), BY_TIME), frame().iloc[:3], seed=0)


@pytest.mark.parametrize("how", [lambda: ByTime(validation=AUGUST, test=JULY), lambda: ByShare(0.5, 0.5)])
def test_a_split_that_cannot_be_is_refused(how):
    with pytest.raises(ValueError, match="split"):
        how()


def test_a_sample_keeps_order_and_never_falls_below_the_least():
    rows = pd.DataFrame({"x": range(1000)})
    assert len(sampled(rows, 0.1, 0, least=10)) == 100
    assert len(sampled(rows, 0.1, 0, least=300)) == 300
    assert len(sampled(rows, 0.1, 0, least=5000)) == 1000
    assert sampled(rows, 0.1, 0, least=10)["x"].is_monotonic_increasing
    assert sampled(rows, 0.1, 0, 1).equals(sampled(rows, 0.1, 0, 1))


def test_a_vocabulary_holds_frequent_values_in_the_order_of_their_target():
    train = pd.DataFrame({"carrier": ["AA"] * 3 + ["BB"] * 3 + ["CC"] * 2 + [None]})
    target = np.array([1.0, 1, 0, 0, 0, 0, 1, 1, 1])
    (carrier, *_) = fill_vocabularies(SCHEMA, train, target, minimum=3).fields
    assert carrier.vocabulary == ("BB", "AA")
    (carrier, *_) = fill_vocabularies(SCHEMA, train, target, minimum=2).fields
    assert carrier.vocabulary == ("BB", "AA", "CC"), "what is missing is no category"


def test_truth_becomes_the_place_of_its_label():
    assert target_of(SCHEMA, frame()).tolist() == [0, 1, 0, 1]
    with pytest.raises(PrepareError, match=r"'maybe' is none of \('no', 'yes'\)"):
        target_of(SCHEMA, frame(truth=["no", "maybe", "no", "yes"]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (frame(seats=[1, 2, 3, 10]), "column seats, row 3: found 10, expected an integer from 1 to 9"),
        (frame(seats=[0, 2, 3, 4]), "column seats, row 0: found 0,"),
        (frame(seats=[1, np.nan, 3, 4]), "column seats, row 1: found nothing"),
        (frame(carrier=["AA", None, "AA", "BB"]), "column carrier, row 1: found nothing"),
        (frame().drop(columns=["truth"]), "no column truth"),
        (frame().drop(columns=["at", "seats"]), "no column seats, at"),
    ],
)
def test_rows_that_no_caller_could_send_are_refused(rows, message):
    with pytest.raises(PrepareError, match=message):
        assemble(model_of(rows, BY_TIME), {})


def test_without_time_rows_need_no_moment():
    model = dataclasses.replace(model_of(frame().drop(columns="at"), BY_TIME), split=ByShare())
    assert list(assemble(model, {}).columns) == ["carrier", "seats", "year", "truth"]
