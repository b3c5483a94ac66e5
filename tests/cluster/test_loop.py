"""From a training in pods to what is served: a good release climbs the ladder, a bad one is taken back, in git too."""

import time
from collections.abc import Callable

import pytest
import rollouts
import servers
import workflows
from person import Person
from rollouts import MODEL
from servers import Fault
from traffic import Traffic
from workstation import Workstation

from harness.kubectl import Kubectl
from harness.processes import wait_until

pytestmark = pytest.mark.timeout(900)
_SETTLE = 2.0  # seconds that the gateway may take to learn a new weight
_LADDER = f"clusters/local/models/{MODEL}/canary.yaml"


def test_a_training_in_pods_ends_at_all_of_the_traffic(
    kubectl: Kubectl, desk: Workstation, traffic: Traffic, ask: Callable[[dict[str, str]], str], stable: str
) -> None:
    """A killed pod and all: data to MLflow to git, then 10 → 50 → 100, with the shares that were asked for.

    Each share within 4 standard deviations, no request failed.
    """
    before = desk.release(MODEL)
    assert before is not None
    begun = time.monotonic()
    seed, image = str(desk.unused_seed(MODEL)), servers.another("none")
    name = workflows.submit(kubectl, "train-model", model=MODEL, sample="0.05", trials="2", seed=seed, image=image)
    workflows.kill_pod(kubectl, name, "train")
    wait_until("the commit", lambda: desk.release(MODEL) != before, seconds=600)
    trained = time.monotonic()
    after = desk.release(MODEL)
    assert after is not None
    version = str(after.spec.version)

    wait_until("the canary", lambda: rollouts.weight(kubectl) == 10, seconds=120)
    wait_until("the gateway to know it", lambda: ask({"x-plumbline-arm": "canary"}) == version, seconds=30)
    assert ask({"x-plumbline-arm": "stable"}) == before.spec.version
    seen = rollouts.watch(kubectl, lambda: rollouts.phase(kubectl) == (after.spec.image, "Healthy"), seconds=300)
    time.sleep(5)

    steps = [run for run in seen if run[0] > 0]
    assert [weight for weight, _ in steps] == [10, 50, 100]
    for weight, (start, end) in steps:
        answers = traffic.between(start + _SETTLE, end)
        share = sum(answer.version == version for answer in answers) / len(answers)
        expected = weight / 100
        deviation = (expected * (1 - expected) / len(answers)) ** 0.5
        print(f"weight {weight}: {share:.3f} of {len(answers)} requests in {end - start:.1f} s")
        assert abs(share - expected) <= 4 * deviation, f"{share:.3f} of {len(answers)}, expected {expected}"
    answers = traffic.between(begun, time.monotonic())
    failed = [answer for answer in answers if answer.status != 200]
    print(f"{len(failed)} of {len(answers)} requests failed; {trained - begun:.0f} s of training, "
          f"{time.monotonic() - trained:.0f} s from the commit to 100 %")  # fmt: skip
    assert not failed

    workflows.succeeded(kubectl, name, seconds=60)
    tries = workflows.nodes(kubectl, name)
    assert tries["train"]["phase"] == "Succeeded"
    assert {"search(0:0)", "search(1:1)"} <= set(tries)
    assert desk.mlflow.get_run(after.spec.lineage.run).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("fault", "metrics"),
    [
        ("errors", {"error-share"}),
        pytest.param("slow", {"p95", "p95-above-stable"}, marks=pytest.mark.long),
        pytest.param("permuted", {"agreement", "replay"}, marks=pytest.mark.long),
        pytest.param("dead", {"error-share"}, marks=pytest.mark.long),
        pytest.param("refusing", {"refusal-share"}, marks=pytest.mark.long),
        pytest.param("crashing", {"restarts", "lost-share"}, marks=pytest.mark.long),
    ],
)
def test_a_bad_release_is_aborted_and_reverted_in_git(
    kubectl: Kubectl, desk: Workstation, person: Person, traffic: Traffic, stable: str, fault: Fault, metrics: set[str]
) -> None:
    """Aborted at its first step by the metric that sees the fault; `plumbline promote reconcile` makes git say so."""
    if fault == "slow":  # a pull request that changes one line changes the ladder
        person.edit(_LADDER, ("- setWeight: 10\n", "- setWeight: 20\n"))
    good = desk.release(MODEL)
    assert good is not None
    bad = servers.another(fault)
    begun = time.monotonic()
    desk.promote(MODEL, good.spec.version, bad)
    seen = rollouts.watch(kubectl, lambda: rollouts.phase(kubectl) == (bad, "Degraded"), seconds=300)
    verdict = time.monotonic()
    wait_until("all traffic back on stable", lambda: rollouts.weight(kubectl) == 0, seconds=30)
    back = time.monotonic()
    assert [weight for weight, _ in seen if weight > 0] == [20 if fault == "slow" else 10]
    failed = rollouts.failed_metrics(kubectl)
    assert failed
    assert failed <= metrics

    time.sleep(_SETTLE)
    after = time.monotonic()
    time.sleep(3)
    assert {answer.status for answer in traffic.between(after, time.monotonic())} == {200}

    if fault != "slow":  # one of the three waits for its minute to come
        workflows.reconcile_now(kubectl)
    wait_until("the revert", lambda: desk.release(MODEL) == good, seconds=120)
    reverted = time.monotonic()
    print(f"{failed}: {verdict - begun:.0f} s after the commit, 0 % {back - verdict:.1f} s later, "
          f"in git {reverted - verdict:.0f} s later: {desk.log()[0]}")  # fmt: skip
    assert desk.log()[0].rpartition(" rejected by ")[2] in failed
    with pytest.raises(AssertionError, match="barred"):
        desk.promote(MODEL, good.spec.version, bad)
