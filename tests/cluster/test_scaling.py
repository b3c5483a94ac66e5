"""KEDA gives the model as many pods as its callers need, and takes them back."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import rollouts
from bench.load import Requests, closed
from person import Person
from rollouts import MODEL
from traffic import Traffic, api_key

from harness.kubectl import Kubectl
from harness.processes import wait_until
from harness.settings import GATEWAY_NODE_PORT

pytestmark = pytest.mark.timeout(900)
_SERVER = "clusters/local/model-server/kustomization.yaml"
_MOST = "{op: replace, path: /spec/maxReplicaCount, value: 4}\n"


def ready(kubectl: Kubectl) -> int:
    """Pods that serve; -1 while there are others too."""
    status = rollouts.rollout(kubectl)["status"]
    serving = int(status.get("readyReplicas", 0))
    return serving if status.get("replicas") == serving else -1


def test_pods_come_under_load_and_go_again_without_a_failed_request(
    kubectl: Kubectl, stable: str, open_gateway: Callable[..., Traffic]
) -> None:
    """From two to four under callers that do not wait, and back to two when they are gone."""
    wait_until("two pods", lambda: ready(kubectl) == 2, seconds=240)
    with open_gateway(threads=1) as calm:
        with open_gateway(threads=16, pause=0) as busy:
            begun = time.monotonic()
            wait_until("four pods", lambda: ready(kubectl) == 4, seconds=240)
            grown = time.monotonic()
        left = time.monotonic()
        wait_until("two pods again", lambda: ready(kubectl) == 2, seconds=300)
        shrunk = time.monotonic()
        time.sleep(3)
    print(f"four pods after {grown - begun:.0f} s, two again {shrunk - left:.0f} s after the load")
    assert {answer.status for answer in (*calm.answers, *busy.answers)} == {200}
    assert rollouts.phase(kubectl) == (stable, "Healthy")


@pytest.mark.parametrize("pods", [1, 2])
def test_throughput_through_the_gateway(
    kubectl: Kubectl, person: Person, stable: str, bodies: list[str], tmp_path: Path, pods: int
) -> None:
    """Sixteen connections while a commit holds the number of pods: none fails, and the figures are printed."""
    held = _MOST.replace("4", str(pods))
    person.edit(_SERVER, (_MOST, f"{held}      - {held.replace('max', 'min')}"))
    wait_until(f"just {pods} pods", lambda: ready(kubectl) == pods, seconds=240)
    time.sleep(5)  # the gateway learns of it
    headers = {"Host": f"{MODEL}.models.internal", "Content-Type": "application/json", "x-api-key": api_key(kubectl)}
    url = f"http://127.0.0.1:{GATEWAY_NODE_PORT}/v1/predict"
    idle = _idle()
    window = closed(16, 10, Requests(url, [body.encode() for body in bodies], headers), tmp_path)
    busy = 1 - (_idle() - idle) / window.seconds / (os.cpu_count() or 1)
    print(f"pods: {pods}, {window.rate:.0f} answers/s, p95 {window.p95 * 1000:.0f} ms; "
          f"all of the machine's processors {busy:.0%} busy")  # fmt: skip
    assert rollouts.phase(kubectl) == (stable, "Healthy")


def _idle() -> float:
    """Seconds that all processors together have had nothing to do."""
    return float(Path("/proc/uptime").read_text().split()[1])
