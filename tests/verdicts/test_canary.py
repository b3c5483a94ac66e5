"""What the analyses say of canaries over time: rendered queries, a real Prometheus, looks as Argo Rollouts has them."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analyses import Analysis, Verdict
from canaries import Callers, Floats, Pods, Trial, repeated
from canaries import history as history_of
from monte_carlo import is_at_most
from prometheus import prometheus

NOW = float(int(time.time()) - 3600)
NOT_SIMULATED = frozenset({"agreement", "replay"})
"""tests/integration has them, with the server's own cells and with what a check stores."""
Run = Callable[[Trial, int], list[Verdict]]


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    """As production has it."""
    return Analysis.of("production")


@pytest.fixture
def run(analysis: Analysis, tmp_path: Path) -> Run:
    """The verdicts of so many canaries of one kind."""

    def verdicts(trial: Trial, count: int) -> list[Verdict]:
        trials = list(repeated("canary", trial, count))
        with prometheus(tmp_path, history_of(trials, NOW)) as server:
            begin = NOW - trial.callers.seconds + trial.callers.weights[-1][0]  # of the last step's analysis
            return [analysis.run(server, name, f"{name}-stable", begin, NOW, NOT_SIMULATED) for name, _, _ in trials]

    return verdicts


def _of(found: list[Verdict]) -> str:
    kinds = Counter(f"{verdict.phase} {verdict.metric}".strip() for verdict in found)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())


@pytest.mark.parametrize(("per_second", "seconds"), [(0.5, 600), (2, 240), (17, 120), (100, 90)])
def test_500_to_everything_is_taken_back_at_any_traffic(
    run: Run, trials: Callable[[int, int], int], measured: Callable[[str, str], None], per_second: float, seconds: int
) -> None:
    found = run(Trial(Callers(per_second, seconds), Pods(errors=1.0)), trials(1, 20))
    tenth = 10 / (0.1 * per_second)
    worst = max(verdict.seconds for verdict in found)
    measured(f"500 to everything, {per_second:g}/s", f"{_of(found)}; at most {worst:.0f} s after its first pod")
    assert {(verdict.phase, verdict.metric) for verdict in found} == {("Failed", "error-share")}
    assert worst <= 2 * tenth + 90


@pytest.mark.parametrize(
    ("name", "canary", "metrics"),
    [
        ("all of a canary's servers answer 422", Pods(refused=1.0), {"refusal-share"}),
        ("4 % fail", Pods(errors=0.04), {"error-share"}),
        ("+15 ms on 4 ms", Pods(slower=0.015), {"p95-above-stable"}),
        ("a CPU limit: a fifth takes 150 ms more", Pods(throttled=0.2), {"p95", "p95-above-stable"}),
        ("restarted thrice, else well", Pods(restarts=(40, 80, 120)), {"restarts"}),
        ("5 % never reach a pod", Pods(lost=0.05), {"lost-share"}),
        ("20 % fail, restarted in between", Pods(errors=0.2, restarts=(70,)), {"error-share"}),
    ],
)
def test_a_fault_is_found(
    run: Run, trials: Callable[[int, int], int], measured: Callable[[str, str], None], name: str, canary: Pods,
    metrics: set[str],
) -> None:  # fmt: skip
    found = run(Trial(Callers(50, 300), canary), trials(1, 20))
    measured(f"{name}, 50/s", f"{_of(found)}; at most {max(verdict.seconds for verdict in found):.0f} s")
    assert {verdict.phase for verdict in found} == {"Failed"}
    assert {verdict.metric for verdict in found} <= metrics


@pytest.mark.parametrize(
    ("name", "canary"),
    [("5xx", Pods(failing_one=1.0)), ("422", Pods(refusing_one=1.0))],
)
def test_what_fails_for_one_caller_alone_is_neither_taken_back_nor_promoted(
    run: Run, trials: Callable[[int, int], int], measured: Callable[[str, str], None], name: str, canary: Pods
) -> None:
    found = run(Trial(Callers(50, 300), canary), trials(2, 20))
    measured(f"{name} to one caller of several, 50/s", _of(found))
    assert {verdict.phase for verdict in found} == {"Inconclusive"}


def test_where_there_is_one_caller_alone_what_fails_is_taken_back(
    run: Run, trials: Callable[[int, int], int], measured: Callable[[str, str], None]
) -> None:
    found = run(Trial(Callers(50, 120, sole=True), Pods(errors=1.0)), trials(1, 20))
    measured("500 to everything, one key for all, 50/s", _of(found))
    assert {(verdict.phase, verdict.metric) for verdict in found} == {("Failed", "error-share")}


def test_a_canary_that_dies_before_it_answers_is_taken_back(run: Run, measured: Callable[[str, str], None]) -> None:
    """Its servers begin again and again; no request reaches them, so nothing else has a figure."""
    nobody = Callers(20, 180, weights=((0, 0.0),))
    (found,) = run(Trial(nobody, Pods(restarts=(20, 40, 70, 120))), 1)
    measured("crash loop, no answer", f"{found.phase} {found.metric} after {found.seconds:.0f} s")
    assert (found.phase, found.metric) == ("Failed", "restarts")


def _outage(at: Floats) -> Floats:
    """A fifth fails for a minute, from when the canary has half of the callers."""
    return np.where((at > 150) & (at < 210), 0.2, 0.0)


INNOCENT = {
    "alike": Callers(50),
    "batches": Callers(50, batches=0.3),
    "slow batches": Callers(50, batches=0.3, batch_seconds=0.4),
    "uneven callers in bursts, some of whose requests fail and are refused": Callers(50, callers=20),
    "a tenth fails, of stable too": Callers(50, errors=lambda at: np.full_like(at, 0.1)),
    "an outage of a minute at the second weight": Callers(50, weights=((0, 0.1), (150, 0.5)), errors=_outage),
}


@pytest.mark.parametrize("name", INNOCENT)
def test_the_innocent_are_not_taken_back(
    run: Run, trials: Callable[[int, int], int], measured: Callable[[str, str], None], name: str
) -> None:
    found = run(Trial(INNOCENT[name]), trials(3, 60))
    failed = sum(verdict.phase == "Failed" for verdict in found)
    measured(f"innocent: {name}", _of(found))
    assert is_at_most(failed, len(found), 0.05)


@pytest.mark.parametrize(("per_second", "seconds"), [(100, 120), (17, 420), (2, 2400)])
def test_a_good_release_is_promoted(
    run: Run, trials: Callable[[int, int], int], measured: Callable[[str, str], None], per_second: float, seconds: int
) -> None:
    found = run(Trial(Callers(per_second, seconds)), trials(1, 20))
    measured(f"good, {per_second:g}/s", f"{_of(found)}; at most {max(verdict.seconds for verdict in found):.0f} s")
    assert {verdict.phase for verdict in found} == {"Successful"}


def test_without_answers_a_canary_waits_or_goes_back_as_the_environment_says(
    analysis: Analysis, tmp_path: Path
) -> None:
    trial = Trial(Callers(per_second=1, seconds=300, weights=((0, 0.0),)))
    with prometheus(tmp_path, history_of([("canary", trial, 0)], NOW)) as server:
        for undecided, phase in (("wait", "Inconclusive"), ("back", "Error")):
            values = {**analysis.values, "undecided": undecided, "patience": "120", "looks": "10"}
            verdict = replace(analysis, values=values).run(
                server, "canary", "canary-stable", NOW - 300, NOW, NOT_SIMULATED
            )
            assert verdict.phase == phase
