"""A read-out for people."""

import pytest

from plumbline.monitoring.experiment.readout import Line, Readout, as_table
from plumbline.monitoring.live import Figure
from plumbline.monitoring.stats import from_moments


def test_an_empty_log_is_said_with_what_fills_it() -> None:
    first, second = as_table(Readout((), 3)).splitlines()
    assert first.startswith("the log has no such answers; `plumbline monitor consume`")
    assert second == "feedback for unknown predictions: 3"


@pytest.mark.parametrize("by_policy", [True, False])
def test_rows_of_one_caller_have_a_figure_and_no_interval(by_policy: bool) -> None:
    nan = float("nan")
    quality = Figure("recall", 0.5, nan, nan, 2, 1) if by_policy else None
    line = Line("v1.0.0", "stable", "", 2, 2, None, None, quality=quality)
    line.metrics["absolute_error"] = from_moments(1, 2, 1, 4, 1, 2)
    [_, told, _] = as_table(Readout((line,), 0)).splitlines()
    assert f"{'recall' if by_policy else 'absolute_error'} 0.5 (one caller: no interval)" in told
    assert "nan" not in told
