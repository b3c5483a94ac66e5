"""KEDA gives the model as many pods as its callers need, and takes them back."""

import time
from collections.abc import Callable

import pytest
import rollouts
from harness.kubectl import Kubectl
from harness.processes import wait_until
from rollouts import MODEL, NAMESPACE
from traffic import Traffic

pytestmark = pytest.mark.timeout(900)


def test_pods_come_under_load_and_go_again_without_a_failed_request(
    kubectl: Kubectl, stable: str, open_gateway: Callable[..., Traffic]
) -> None:
    """From two to four under callers that do not wait, and back to two when they are gone."""

    def pods() -> int:
        return int(kubectl.get("rollout", f"{MODEL}-server", *NAMESPACE)["status"].get("readyReplicas", 0))

    wait_until("two pods", lambda: pods() == 2, seconds=240)
    with open_gateway(threads=1) as calm:
        with open_gateway(threads=16, pause=0) as busy:
            begun = time.monotonic()
            wait_until("four pods", lambda: pods() == 4, seconds=240)
            grown = time.monotonic()
            time.sleep(10)
        left = time.monotonic()
        wait_until("two pods again", lambda: pods() == 2, seconds=300)
        shrunk = time.monotonic()
        time.sleep(3)
    early, late = busy.between(begun, begun + 15), busy.between(grown, left)
    print(f"four pods after {grown - begun:.0f} s, two again {shrunk - left:.0f} s after the load; "
          f"{len(early) / 15:.0f} answers/s of two pods, {len(late) / (left - grown):.0f} of four")  # fmt: skip
    assert {answer.status for answer in (*calm.answers, *busy.answers)} == {200}
    assert rollouts.phase(kubectl) == (stable, "Healthy")
