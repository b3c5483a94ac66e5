"""What lies between a canary and stable, held against what the gate saw."""

from typing import Any

import numpy as np
import pytest

from bundles import schema_of
from plumbline.core.evidence import Expected
from plumbline.core.metrics.clusters import Clusters
from plumbline.monitoring.canary.expected import Pair, unexpected
from plumbline.monitoring.canary.replay import Logged
from plumbline.promotion.gate.answers import Answers, Rows
from plumbline.promotion.gate.expected import shifts

Numbers = Any


def drawn(seed: int, count: int, kind: str, moved: float = 0.0, callers: int = 0) -> Pair:
    """Rows whose new answers lie near the old ones, as far as `moved` at WN's."""
    rng = np.random.default_rng(seed)
    carriers = rng.choice(["UA", "AA", "WN"], count)
    caller = rng.integers(0, callers, count) if callers else np.arange(count)
    rows = [Logged({"carrier": str(name)}, {}, str(who)) for name, who in zip(carriers, caller, strict=True)]
    late = rng.beta(2, 5, count)
    later = np.clip(late + rng.normal(0, 0.02, count) + moved * (carriers == "WN"), 0, 1)
    if kind == "regression":
        return Pair(schema_of("regression").output, rows, Answers(100 * later[:, None], None),
                    Answers(100 * late[:, None], None))  # fmt: skip
    both = (Answers(np.column_stack([1 - score, score]), 0.5) for score in (later, late))
    return Pair(schema_of("binary").output, rows, *both)


def expected_of(pair: Pair) -> Expected:
    slices = {"carrier": np.array([row.features["carrier"] for row in pair.rows])}
    rows = Rows(pair.output, np.zeros(len(pair.rows)), Clusters.of_rows(len(pair.rows)), slices=slices)
    seen = tuple(shifts(rows, pair.new, pair.old))
    return Expected(version="v1.0.0", artifact="sha256:" + "1" * 64, shifts=seen)


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_canary_that_differs_as_the_gate_saw_is_as_expected(kind: str) -> None:
    seen = expected_of(drawn(0, 5000, kind))
    assert not any(unexpected(drawn(seed, 300, kind), seen) for seed in range(1, 40))


def test_a_release_that_is_meant_to_differ_is_as_expected_too() -> None:
    seen = expected_of(drawn(0, 5000, "binary", moved=0.3))
    assert not any(unexpected(drawn(seed, 300, "binary", moved=0.3), seen) for seed in range(1, 40))
    assert unexpected(drawn(1, 300, "binary"), seen), "and what does not differ as it was meant to is not"


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_carriers_answers_that_lie_elsewhere_are_found_and_named(kind: str) -> None:
    seen = expected_of(drawn(0, 5000, kind))
    places = [unexpected(drawn(seed, 300, kind, moved=0.15), seen) for seed in range(1, 21)]
    assert all(any(line.startswith("carrier=WN: ") for line in lines) for lines in places)
    assert not any("UA" in line for lines in places for line in lines)


def test_one_callers_rows_are_no_more_than_one_observation() -> None:
    seen, pair = expected_of(drawn(0, 5000, "binary")), drawn(1, 300, "binary")
    later = np.clip(pair.old.outputs[:, 1] + 0.3 * (np.arange(300) < 100), 0, 1)
    new = Answers(np.column_stack([1 - later, later]), 0.5)
    of_one = [row._replace(caller="one") if place < 100 else row for place, row in enumerate(pair.rows)]
    assert unexpected(Pair(pair.output, pair.rows, new, pair.old), seen)
    assert not unexpected(Pair(pair.output, of_one, new, pair.old), seen)
