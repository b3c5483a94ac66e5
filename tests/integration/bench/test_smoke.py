"""The benchmark's machinery on two servers that need no environment of their own."""

from contextlib import ExitStack

import pytest
import services
from bench import ours, soak, studies
from bench.load import LoadError, closed
from bench.rounds import measure
from bench.servers import ECHO, MINIMAL, by_name
from bench.subject import boosting

from bundles import make_keys


def test_servers_are_started_checked_and_measured_side_by_side(tmp_path):
    subject = boosting(tmp_path / "model", make_keys(tmp_path / "keys"), trees=5, rows=200)
    with ExitStack() as stack:
        url = stack.enter_context(services.redis(tmp_path / "redis"))
        kinds = [MINIMAL, ours.kind(url, batch=by_name)]
        servers = studies.start(stack, kinds, subject, tmp_path / "servers")
        found = measure(servers, "one", lambda *given: closed(4, 1, *given), 1, tmp_path)
        many = measure(servers, "many", lambda *given: closed(1, 1, *given), 1, tmp_path)
        subject.expected[0] += 0.5
        with pytest.raises(LoadError, match="wrong answer"):
            servers[0].check(subject)
        written = studies.metric(servers[1], "serving_prediction_log_written_total")
    base = found[MINIMAL.name]
    mine = found[ours.NAME].summary(base)
    assert mine["rate"] > 50
    assert mine["ratio"] == pytest.approx(found[ours.NAME].windows[0].rate / base.windows[0].rate, abs=1e-3)
    assert mine["cpu_us"] > 1
    assert all(0 < series.windows[0].p50 <= series.windows[0].p99 for series in many.values())
    assert written > 50
    assert ECHO.name not in found


def test_a_soak_counts_requests_and_weighs_the_server(tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "_WINDOW", 1)
    monkeypatch.setattr(soak, "_BATCHES", 1)
    subject = boosting(tmp_path / "model", make_keys(tmp_path / "keys"), trees=5, rows=200)
    with ExitStack() as stack:
        url = stack.enter_context(services.redis(tmp_path / "redis"))
        (server,) = studies.start(stack, [ours.kind(url)], subject, tmp_path / "servers")
        (none, before), (asked, after) = soak._drive(server, tmp_path, most=1, seconds=600)
        counted = studies.metric(server, "serving_requests_total")
    assert none == 0
    assert 50 < asked <= counted
    assert before > 20
    assert after > 20


@pytest.mark.timeout(900)  # a dozen starts
def test_the_server_answers_right_without_each_of_its_features(tmp_path):
    subject = boosting(tmp_path / "model", make_keys(tmp_path / "keys"), trees=5, rows=200)
    with services.redis(tmp_path / "redis") as url:
        for kind in studies.without_features(url):
            with ExitStack() as stack:
                studies.start(stack, [kind], subject, tmp_path / "servers")
