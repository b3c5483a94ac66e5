"""What is counted of the answers: by score, and by the cells of their input."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bundles import schema_of
from plumbline.serving.inference.profile import Profile
from plumbline.serving.metrics import Metrics

NAN = float("nan")
# distance, hour, carrier, origin, wind
ROWS = np.array(
    [[1400, 17, 2, 1, 12.5], [0, 0, 0, NAN, -12.5], [0.75, 1, NAN, 0, NAN], [3e38, 23, 3, 0, 1e-30]], dtype=np.float32
)


def _counted(kind, answers, rows=ROWS):
    metrics = Metrics()
    metrics.bind("delays", "v1.0.0", "stable")
    profile, answers = Profile(schema_of(kind), metrics), np.array(answers, np.float32)
    for place in range(len(rows)):  # each a request of its own
        profile.add(rows[place : place + 1], answers[place : place + 1])
    return metrics.registry


def _cells(registry, name):
    samples = [sample for family in registry.collect() for sample in family.samples if sample.name == name]
    return {(sample.labels["field"], sample.labels["cell"]): sample.value for sample in samples}


def test_cells_are_named_by_values_not_by_a_versions_codes():
    rows = _cells(_counted("binary", [[0.9, 0.1]] * 4), "serving_cell_rows_total")
    assert {cell for field, cell in rows if field == "distance"} == {"1024..2048", "0", "0.5..1", "65536..131072"}
    assert {cell for field, cell in rows if field == "carrier"} == {"UA", "AA", "missing", "WN"}
    assert {cell for field, cell in rows if field == "origin"} == {"JFK", "EWR", "missing"}
    assert rows["origin", "EWR"] == 2
    wind = {cell for field, cell in rows if field == "wind"}
    assert wind == {"8..16", "-(8..16)", "missing", f"{2.0**-16:g}..{2.0**-15:g}"}


def test_a_number_of_any_size_lies_in_the_cell_of_its_power():
    powers = np.arange(-126, 128)
    generator = np.random.default_rng(0)
    sizes = np.ldexp(np.append(generator.uniform(1, 2, len(powers) - 2), [1, 2 - 2**-23]), powers)
    rows = np.zeros((2 * len(powers), 5), np.float32)
    rows[:, 0] = np.concatenate((sizes, -sizes))
    found = _cells(_counted("binary", [[0.9, 0.1]] * len(rows), rows), "serving_cell_rows_total")
    expected: Counter[Any] = Counter()
    for power in np.clip(powers, -16, 16).tolist():
        cell = f"{2.0**power:g}..{2.0 ** (power + 1):g}"
        expected.update([cell, f"-({cell})"])
    assert {cell: count for (field, cell), count in found.items() if field == "distance"} == expected


def test_every_field_counts_every_row_and_its_level():
    answers = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.0, 1.0]]
    registry = _counted("binary", answers)
    rows, levels = (_cells(registry, f"serving_cell_{name}_total") for name in ("rows", "levels"))
    for field in ("distance", "hour", "carrier", "origin", "wind"):
        assert sum(value for (name, _), value in rows.items() if name == field) == 4
        assert sum(value for (name, _), value in levels.items() if name == field) == pytest.approx(1.9)
    assert levels["carrier", "WN"] == 1.0
    labels = {"model": "delays", "version": "v1.0.0", "role": "stable"}
    assert registry.get_sample_value("serving_level_variance", labels) == pytest.approx(np.var([0.1, 0.2, 0.6, 1.0]))
    bucket = registry.get_sample_value("serving_prediction_score_bucket", labels | {"le": "0.25"})
    assert bucket == 2


def test_a_batch_is_one_observation_whatever_its_rows():
    """A caller who sends a thousand alike says no more than one who sends one."""
    metrics = Metrics()
    metrics.bind("delays", "v1.0.0", "stable")
    profile = Profile(schema_of("binary"), metrics)
    profile.add(ROWS[:1], np.array([[0.9, 0.1]], np.float32))
    profile.add(ROWS[[1] * 1000], np.array([[0.3, 0.7]] * 1000, np.float32))
    cells = _cells(metrics.registry, "serving_cell_rows_total")
    assert [cells["carrier", name] for name in ("UA", "AA")] == pytest.approx([1, 1])
    labels = {"model": "delays", "version": "v1.0.0", "role": "stable"}
    assert metrics.registry.get_sample_value("serving_level_variance", labels) == pytest.approx(np.var([0.1, 0.7]))
    bucket = metrics.registry.get_sample_value("serving_prediction_score_bucket", labels | {"le": "+Inf"})
    assert bucket == pytest.approx(2)


def _overlap(rows):
    """Of a model whose level is a sum of what each field says."""
    level = rows.mean(axis=1)
    registry = _counted("binary", np.stack([1 - level, level], axis=1), rows)
    return registry.get_sample_value("serving_cell_overlap", {"model": "delays", "version": "v1.0.0", "role": "stable"})


def test_fields_that_say_the_same_overlap_wholly_and_others_not_at_all():
    coins = np.random.default_rng(0).integers(0, 2, (20_000, 5)).astype(np.float32)
    assert _overlap(coins) == pytest.approx(1, abs=0.05)
    assert _overlap(np.repeat(coins[:, :1], 5, axis=1)) == pytest.approx(5)
    # Two of one kind and three of another: 4 + 9 over 2 + 3.
    assert _overlap(coins[:, [0, 0, 1, 1, 1]]) == pytest.approx((4 * 0.16 + 9 * 0.36) / (2 * 0.16 + 3 * 0.36), abs=0.1)


def test_labels_that_were_swapped_move_the_level_of_a_multiclass_model():
    levels = [
        _cells(_counted("multiclass", [answer] * 4), "serving_cell_levels_total")["carrier", "UA"]
        for answer in ([0.1, 0.2, 0.7], [0.7, 0.2, 0.1])
    ]
    assert levels == pytest.approx([0.8, 0.2])


def test_values_of_any_size_and_sign_have_a_level_between_0_and_1():
    values = [[-3e38], [-1.0], [0.0], [3e38]]
    levels = _cells(_counted("regression", values), "serving_cell_levels_total")
    carriers = [levels["carrier", cell] for cell in ("UA", "AA", "missing", "WN")]
    assert carriers[0] == 0.0
    assert carriers[1] < carriers[2] == 0.5
    assert carriers[3] == 1.0


def test_answers_that_were_refused_are_not_counted():
    rows = _cells(_counted("binary", [[NAN, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]]), "serving_cell_rows_total")
    assert ("carrier", "UA") not in rows
    assert rows["carrier", "AA"] == 1
    assert _cells(_counted("binary", [[NAN, 0.1]] * 4), "serving_cell_rows_total") == {}


def test_rows_are_counted_while_nobody_scrapes():
    """A server that is not scraped keeps no more than a thousand rows."""
    metrics = Metrics()
    metrics.bind("delays", "v1.0.0", "stable")
    profile = Profile(schema_of("binary"), metrics)
    for _ in range(3000):
        profile.add(ROWS[:1], np.array([[0.9, 0.1]], np.float32))
    assert len(profile._outputs) < 1024
    assert _cells(metrics.registry, "serving_cell_rows_total")["carrier", "UA"] == 3000


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_the_series_are_valid_text(kind):
    answers = [[0.9, 0.1]] * 4 if kind == "binary" else [[-5.0]] * 4
    families = list(text_string_to_metric_families(generate_latest(_counted(kind, answers)).decode()))
    (scores,) = (family for family in families if family.name == "serving_prediction_score")
    values = [sample.value for sample in scores.samples if sample.name.endswith("_bucket")]
    assert values == sorted(values)
    assert values[-1] == 4
