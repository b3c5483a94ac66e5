"""A read-out for people."""

from plumbline.monitoring.experiment.readout import Readout, as_table


def test_an_empty_log_is_said_with_what_fills_it() -> None:
    first, second = as_table(Readout((), 3)).splitlines()
    assert first.startswith("the log has no such answers; `plumbline monitor consume`")
    assert second == "feedback for unknown predictions: 3"
