"""Windows, shares, samples and vocabularies."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from plumbline.core.schema import ModelSchema, Output, SchemaField, View
from plumbline.features.offline import encode_frame
from plumbline.training.model import ByShare, ByTime, Day, Model, ModelError, Undeclared
from plumbline.training.prepare import (
    PrepareError,
    assemble,
    check_labels,
    clusters_of,
    fill_vocabularies,
    sampled,
    split,
    target_of,
    without_views,
)

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
        cluster=None,
        baseline=unused,
        candidate=unused,
        defaults={},
        space=unused,
    )


def seeded(model, seed):
    return dataclasses.replace(model, split=dataclasses.replace(model.split, seed=seed))


BY_TIME = ByTime(validation=JULY, test=AUGUST)


def test_windows_are_cut_at_their_beginnings():
    parts = split(model_of(frame(), BY_TIME), frame())
    assert {name: list(part.index) for name, part in parts.items()} == {"train": [0], "validation": [1, 2], "test": [3]}


def test_shares_are_disjoint_whole_and_the_same_for_the_same_seed():
    rows = pd.DataFrame({"carrier": ["AA"] * 1000, "truth": "yes"})
    model = model_of(rows, ByShare(validation=0.1, test=0.3))
    parts, again, other = (split(seeded(model, seed), rows) for seed in (1, 1, 2))
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [600, 100, 300]
    assert sorted(index for part in parts.values() for index in part.index) == list(range(1000))
    assert list(parts["test"].index) == list(again["test"].index) != list(other["test"].index)


def test_stratified_shares_hold_their_part_of_a_rare_label():
    rows = pd.DataFrame({"truth": ["yes" if number % 50 == 0 else "no" for number in range(1000)]})
    model = model_of(rows, ByShare(validation=0.1, test=0.3, stratified=True))
    for seed in range(5):
        parts = split(seeded(model, seed), rows)
        counts = {name: part["truth"].value_counts().to_dict() for name, part in parts.items()}
        assert counts == {
            "train": {"no": 588, "yes": 12},
            "validation": {"no": 98, "yes": 2},
            "test": {"no": 294, "yes": 6},
        }
    assert list(split(seeded(model, 0), rows)["test"].index) != list(split(seeded(model, 1), rows)["test"].index)
    number = ModelSchema(model="m", fields=FIELDS, output=Output(task="regression", name="y", description="Y"))
    with pytest.raises(ModelError, match="split: only labels can be stratified"):
        dataclasses.replace(model, schema=number)


@pytest.mark.parametrize("stratified", [False, True])
def test_a_cluster_is_in_one_part_alone(stratified):
    generator = np.random.default_rng(0)
    patients = generator.integers(0, 200, 2000)
    rows = pd.DataFrame({"_cluster": patients, "truth": np.where(patients % 10 == 0, "yes", "no")})
    parts = split(model_of(rows, ByShare(validation=0.2, test=0.3, stratified=stratified)), rows)
    held = {name: set(part["_cluster"]) for name, part in parts.items()}
    assert not held["train"] & held["test"]
    assert not held["train"] & held["validation"]
    assert not held["validation"] & held["test"]
    assert sum(map(len, parts.values())) == len(rows)
    assert len(parts["test"]) == pytest.approx(600, abs=60)
    if stratified:
        assert (parts["test"]["truth"] == "yes").mean() == pytest.approx((rows["truth"] == "yes").mean(), abs=0.03)


def test_clusters_are_a_column_or_the_day_of_a_place():
    day = dataclasses.replace(model_of(frame(), BY_TIME), cluster=Day("America/New_York"))
    assert list(assemble(day, {})["_cluster"]) == ["2013-06-30", "2013-06-30", "2013-07-31", "2013-07-31"]
    pilots = frame(pilot=[7, 7, 8, 9])
    by_pilot = dataclasses.replace(model_of(pilots, BY_TIME), cluster="pilot")
    rows = assemble(by_pilot, {})
    assert list(rows["_cluster"]) == ["7", "7", "8", "9"]
    assert (clusters_of(by_pilot, rows).count, clusters_of(by_pilot, rows).by) == (3, "pilot")
    alone = clusters_of(model_of(frame(), BY_TIME), frame())
    assert (alone.count, alone.by) == (4, "")


@pytest.mark.parametrize(
    ("changes", "cluster", "message"),
    [
        ({}, "pilot", r"m: MODEL.cluster: rows\(\) gives no column 'pilot'; expected one of at, carrier"),
        ({"pilot": ["a", None, "b", None]}, "pilot", r"m: MODEL.cluster, column pilot, row 1: found nothing.*2 of 4"),
    ],
)
def test_a_cluster_that_is_not_in_the_data_is_named(changes, cluster, message):
    model = dataclasses.replace(model_of(frame(**changes), BY_TIME), cluster=cluster)
    with pytest.raises(PrepareError, match=message):
        assemble(model, {})


@pytest.mark.parametrize(
    ("cluster", "message"),
    [("", "cluster: found ''"), (3, "cluster: found 3; expected the column"), (Undeclared, "cluster: found nothing")],
)
def test_a_cluster_must_be_declared(cluster, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(model_of(frame(), BY_TIME), cluster=cluster)
    with pytest.raises(ModelError, match="no time zone"):
        Day("Mars/Olympus")


def test_an_empty_window_is_named():
    with pytest.raises(
        PrepareError, match=r"no rows for test; the rows are from 2013-06-30 23:59:00\+00:00 to 2013-07-31"
    ):
        split(model_of(frame(), BY_TIME), frame().iloc[:3])


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
    with pytest.raises(PrepareError, match="row 1: found 'maybe', expected one of the labels 'no', 'yes'"):
        target_of(SCHEMA, frame(truth=["no", "maybe", "no", "yes"]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (frame(seats=[1, 2, 3, 10]), "column seats, row 3: found 10, expected an integer from 1 to 9"),
        (frame(seats=[0, 2, 3, 4]), "column seats, row 0: found 0,"),
        (frame(seats=[1, np.nan, 3, 4]), "column seats, row 1: found nothing"),
        (frame(carrier=["AA", None, "AA", "BB"]), "column carrier, row 1: found nothing"),
        (frame().drop(columns=["truth"]), "no column truth"),
        (frame().drop(columns=["at", "seats"]), "no column seats, at, only carrier"),
    ],
)
def test_rows_that_no_caller_could_send_are_refused(rows, message):
    with pytest.raises(PrepareError, match=message):
        assemble(model_of(rows, BY_TIME), {})


TIMES = frame()["at"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"at": TIMES.dt.tz_localize(None)},
            r"rows\(\), column at: found moments without a time zone, .*utc=True",
        ),
        ({"at": TIMES.astype(str)}, r"rows\(\), column at: found str, expected moments with their time zone"),
        ({"at": TIMES.where(TIMES < AUGUST)}, r"rows\(\), column at, row 3: found nothing"),
        ({"truth": [0, 1, 0, 1]}, "column truth, row 0: found 0, expected one of the labels 'no', 'yes' .*astype"),
        ({"truth": ["no", None, "no", "yes"]}, "column truth, row 1: found nothing"),
    ],
)
def test_moments_and_truths_that_are_none_are_refused_by_row(changes, message):
    with pytest.raises(PrepareError, match=message):
        assemble(model_of(frame(**changes), BY_TIME), {})


@pytest.mark.parametrize("truth", [["1", "2", "3", "much"], [1, 2, 3, np.inf], [1, 2, 3, None]])
def test_a_value_to_learn_is_a_finite_number(truth):
    schema = ModelSchema(model="m", fields=FIELDS, output=Output(task="regression", name="y", description="Y"))
    model = dataclasses.replace(model_of(frame(truth=truth), BY_TIME), schema=schema)
    with pytest.raises(PrepareError, match=r"column truth, row 3: found .*, expected a finite number"):
        assemble(model, {})


def test_moments_of_any_zone_and_unit_become_one(tmp_path):
    view = View(name="weather", entity=("carrier",), fields=("year",), max_age_seconds=10**9)
    history = pd.DataFrame({"carrier": ["AA"], "at": TIMES[:1].dt.as_unit("s"), "year": [7.0]})
    there = frame(at=TIMES.dt.tz_convert("America/New_York").dt.as_unit("ms")).drop(columns="year")
    model = dataclasses.replace(
        model_of(there, BY_TIME),
        schema=ModelSchema(model="m", fields=FIELDS, output=SCHEMA.output, views=(view,)),
        views=lambda _: {"weather": history},
        sources={"weather": None},
    )
    assert assemble(model, {})["year"].tolist() == pytest.approx([7, np.nan, 7, np.nan], nan_ok=True)
    without = dataclasses.replace(model, views=lambda _: {"weather": history.assign(at="2013-06-30")})
    with pytest.raises(PrepareError, match=r"views\(\), weather, column at: found str, expected moments"):
        assemble(without, {})
    with pytest.raises(PrepareError, match=r"views\(\) gives no weather, only nothing"):
        assemble(dataclasses.replace(model, views=lambda _: {}), {})


@pytest.mark.parametrize("given", [None, [1], {"weather": [1]}])
def test_what_views_gives_is_looked_at_before_it_is_joined(given):
    view = View(name="weather", entity=("carrier",), fields=("year",), max_age_seconds=9)
    schema = ModelSchema(model="m", fields=FIELDS, output=SCHEMA.output, views=(view,))
    model = dataclasses.replace(model_of(frame(), BY_TIME), schema=schema, sources={"weather": None})
    with pytest.raises(PrepareError, match=r"^views\(\).* gives (NoneType|list), expected .*pandas\.DataFrame"):
        assemble(dataclasses.replace(model, views=lambda _: given), {})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, r"rows\(\) gives NoneType, expected pandas.DataFrame"),
        (frame()["truth"], r"rows\(\) gives Series, expected pandas.DataFrame"),
        (pd.concat([frame(), frame()[["seats"]]], axis=1), r"rows\(\) gives the column seats more than once"),
        (frame().iloc[:0], r"rows\(\) gives no row"),
        (frame(slice_age=[1, "old", None, 2]), r"rows\(\), column slice_age: found int and str, expected one type"),
    ],
)
def test_what_rows_gives_is_looked_at_before_it_is_used(rows, said):
    with pytest.raises(PrepareError, match=f"^{said}"):
        assemble(model_of(rows, BY_TIME), {})


def test_what_rows_raises_is_said_in_one_line():
    model = dataclasses.replace(model_of(frame(), BY_TIME), rows=lambda tables: tables["planes"])
    with pytest.raises(ModelError, match=r"^rows\(\): KeyError: 'planes'$"):
        assemble(model, {})


def test_whole_numbers_that_float32_cannot_hold_are_warned_of(caplog):
    assemble(model_of(frame(year=[16777217, 16777216, 5.5, 0.1]), BY_TIME), {})
    (record,) = caplog.records
    assert "column year: the model sees 16777216 for 16777217 (float32)" in record.getMessage()
    assert "in 1 of 4 rows" in record.getMessage()


def test_a_label_that_is_not_there_to_train_on_is_named():
    parts = split(model_of(frame(), BY_TIME), frame())
    with pytest.raises(PrepareError, match="none of the 1 rows to train on has the label 'yes' of positive; move"):
        check_labels(SCHEMA.output, parts)
    both = frame().iloc[[0, 1]]
    with pytest.raises(PrepareError, match="none of the 1 rows to judge on has the label 'no'"):
        check_labels(SCHEMA.output, {"train": both, "validation": both, "test": parts["test"]})
    check_labels(SCHEMA.output, dict.fromkeys(("train", "validation", "test"), both))


def test_a_category_of_which_nothing_is_learnt_is_refused():
    train = pd.DataFrame({"carrier": ["AA", "AA", "BB"]})
    with pytest.raises(PrepareError, match=r"column carrier: none of its 2 values stands 3 times .*frequent 2 times"):
        fill_vocabularies(SCHEMA, train, np.zeros(3), minimum=3)


@pytest.mark.parametrize("name", ["at", "truth", "prediction", "native_yes", "slice_carrier"])
def test_a_field_with_the_name_of_a_column_of_ours_is_refused(name):
    field = SchemaField(name=name, type="number", description="", example=1.0)
    schema = ModelSchema(model="m", fields=(*FIELDS, field), output=SCHEMA.output)
    with pytest.raises(ModelError, match=f"fields: {name} would stand twice .*rename"):
        dataclasses.replace(model_of(frame(), BY_TIME), schema=schema)


@pytest.mark.parametrize("moment", [pd.Timestamp("2013-07-01"), "2013-07-01"])
def test_a_split_by_time_says_its_zone(moment):
    with pytest.raises(ModelError, match=r"split: validation is .*, expected a moment with its time zone, such as"):
        ByTime(validation=moment, test=AUGUST)


def test_without_time_rows_need_no_moment():
    model = dataclasses.replace(model_of(frame().drop(columns="at"), BY_TIME), split=ByShare())
    assert list(assemble(model, {}).columns) == ["carrier", "seats", "year", "truth"]


def test_each_view_is_wholly_missing_in_its_own_share_of_rows():
    optional = [
        SchemaField(name="low", type="number", description="Low", example=3, required=False),
        SchemaField(name="sky", type="category", description="Sky", example="AA", required=False),
        SchemaField(name="wet", type="boolean", description="Wet", example=True, required=False),
    ]
    views = (
        View(name="air", entity=("carrier",), fields=("low", "sky"), max_age_seconds=9),
        View(name="rain", entity=("carrier",), fields=("wet",), max_age_seconds=9),
    )
    schema = ModelSchema(model="m", fields=(*FIELDS, *optional), output=SCHEMA.output, views=views)
    many = 4000
    rows = pd.DataFrame({"carrier": "AA", "seats": 1, "low": np.arange(many, dtype=float), "sky": "AA", "wet": True})
    left = without_views(rows, schema, 0.15, 0)
    air, rain = left["low"].isna(), left["wet"].isna()
    assert (air == left["sky"].isna()).all(), "a view is dropped wholly or not at all"
    for dropped in (air, rain):
        assert dropped.mean() == pytest.approx(0.15, abs=0.02)
    assert (air & rain).mean() == pytest.approx(0.15**2, abs=0.01), "each view by itself"
    pd.testing.assert_frame_equal(left, without_views(rows, schema, 0.15, 0))
    assert not without_views(rows, schema, 0.15, 1)["low"].isna().equals(air)
    pd.testing.assert_frame_equal(left[~air & ~rain].astype(rows.dtypes), rows[~air & ~rain])
    for share, missing in ((0.0, 0), (0.999999, many)):
        assert without_views(rows, schema, share, 0)["low"].isna().sum() == missing
    assert encode_frame(schema.model_copy(update={"fields": schema.fields}), left.assign(year=1.0)).shape == (many, 6)


@pytest.mark.parametrize("share", [-0.1, 1, 1.5])
def test_a_share_of_rows_that_is_none_is_refused(share):
    with pytest.raises(ModelError, match="is no share of rows, expected 0 or more"):
        dataclasses.replace(model_of(frame(), ByShare()), view_dropout=share)
