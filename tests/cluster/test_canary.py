"""A commit becomes a canary; a good one ends at 100 %, a bad one is taken back."""

import time
from collections.abc import Callable
from itertools import groupby

import pytest
from harness.kubectl import Kubectl
from harness.processes import wait_until
from person import Person
from servers import Server
from traffic import Traffic

pytestmark = pytest.mark.timeout(900)
_SETTLE = 2.0  # seconds that the gateway may take to learn a new weight
_MODEL = ("--namespace=models",)


def _phase(kubectl: Kubectl) -> tuple[str, str]:
    """(version, phase) of the Rollout; the phase counts only once the controller saw the newest specification."""
    try:
        rollout = kubectl.get("rollout", "flights-server", *_MODEL)
    except RuntimeError:
        return "", "Missing"
    status = rollout.get("status", {})
    seen = status.get("observedGeneration") == str(rollout["metadata"]["generation"])
    return rollout["metadata"]["labels"]["app.kubernetes.io/version"], status.get("phase", "") if seen else "Unseen"


def _canary_weight(kubectl: Kubectl) -> int:
    routes = kubectl.get("virtualservice", "flights-server", *_MODEL)["spec"]["http"][0]["route"]
    return int(next(r.get("weight", 0) for r in routes if r["destination"]["host"] == "flights-canary"))


def _watch(kubectl: Kubectl, until: Callable[[], bool], seconds: float) -> list[tuple[float, int]]:
    """(time, canary weight) about four times a second until `until`."""
    seen = []
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"not after {seconds} s; weights: {[w for w, _ in _runs(seen)]}"
        seen.append((time.monotonic(), _canary_weight(kubectl)))
        time.sleep(0.25)
    return [*seen, (time.monotonic(), _canary_weight(kubectl))]


def _runs(seen: list[tuple[float, int]]) -> list[tuple[int, tuple[float, float]]]:
    """Weights in order, each with the window in which it stood."""
    windows = []
    for weight, group in groupby(seen, key=lambda item: item[1]):
        times = [at for at, _ in group]
        windows.append((weight, (times[0], times[-1])))
    return windows


@pytest.fixture
def serving(kubectl: Kubectl, person: Person, servers: dict[str, Server], traffic: Traffic) -> None:
    """v1.0.0 is served, whatever was before; with traffic, since without it no canary would be judged."""
    person.release("flights", "v1.0.0", servers["v1.0.0"])
    wait_until("v1.0.0", lambda: _phase(kubectl) == ("v1.0.0", "Healthy"), seconds=240)


@pytest.mark.usefixtures("serving")
def test_a_good_release_climbs_the_ladder(
    kubectl: Kubectl, person: Person, traffic: Traffic, servers: dict[str, Server]
) -> None:
    """10 → 50 → 100, the measured share of each step within 4 standard deviations, no failed request."""
    time.sleep(5)
    begun = time.monotonic()
    person.release("flights", "v1.1.0", servers["v1.1.0"])
    seen = _watch(kubectl, lambda: _phase(kubectl) == ("v1.1.0", "Healthy"), seconds=300)
    time.sleep(5)

    steps = [run for run in _runs(seen) if run[0] > 0]
    assert [weight for weight, _ in steps] == [10, 50, 100]
    for weight, (start, end) in steps:
        answers = traffic.between(start + _SETTLE, end)
        share = sum(answer.version == "v1.1.0" for answer in answers) / len(answers)
        expected = weight / 100
        deviation = (expected * (1 - expected) / len(answers)) ** 0.5
        print(f"weight {weight}: {share:.3f} of {len(answers)} requests in {end - start:.1f} s")
        assert abs(share - expected) <= 4 * deviation, f"{share:.3f} of {len(answers)}, expected {expected}"
    answers = traffic.between(begun, time.monotonic())
    failed = [answer for answer in answers if answer.status != 200]
    print(f"{len(failed)} of {len(answers)} requests failed; {time.monotonic() - begun:.0f} s from commit to 100 %")
    assert not failed


@pytest.mark.usefixtures("serving")
def test_a_faulty_release_is_aborted_and_reverted(
    kubectl: Kubectl, person: Person, traffic: Traffic, faulty_server: Server
) -> None:
    """One answer in five an error: aborted at 10 %, stable serves again, and the revert makes git true."""
    time.sleep(5)
    begun = time.monotonic()
    person.release("flights", "v1.2.0", faulty_server)
    seen = _watch(kubectl, lambda: _phase(kubectl) == ("v1.2.0", "Degraded"), seconds=300)
    verdict = time.monotonic()
    wait_until("all traffic back on stable", lambda: _canary_weight(kubectl) == 0, seconds=30)
    back = time.monotonic()
    assert [weight for weight, _ in _runs(seen) if weight > 0] == [10]
    runs = kubectl.get("analysisruns", *_MODEL, "--sort-by=.metadata.creationTimestamp")["items"]
    (metric,) = runs[-1]["status"]["metricResults"]
    assert (metric["name"], metric["phase"]) == ("error-share", "Failed")

    time.sleep(_SETTLE)
    after = time.monotonic()
    time.sleep(5)
    answers = traffic.between(after, time.monotonic())
    assert {(answer.status, answer.version) for answer in answers} == {(200, "v1.0.0")}
    harmed = [a for a in traffic.between(begun, after) if a.status != 200]
    print(f"verdict {verdict - begun:.0f} s after the commit, 0 % {back - verdict:.1f} s later, {len(harmed)} errors")

    person.revert()
    wait_until("the revert", lambda: _phase(kubectl) == ("v1.0.0", "Healthy"), seconds=120)
    application = ("get", "application/model-flights", "--namespace=argocd", "-o")
    state = "jsonpath={.status.sync.status} {.status.health.status}"
    wait_until("Synced and Healthy", lambda: kubectl.run(*application, state) == "Synced Healthy", seconds=60)
