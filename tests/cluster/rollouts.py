"""What the Rollout of the model does, as it is seen from outside."""

import time
from collections.abc import Callable
from itertools import groupby
from typing import Any

import workflows
from workstation import Workstation

from harness.kubectl import Kubectl
from harness.processes import wait_until

NAMESPACE = ("--namespace=models",)
MODEL = "flights"


def phase(kubectl: Kubectl) -> tuple[str, str]:
    """(image, phase) of the Rollout; the phase counts only once the controller saw the newest specification."""
    try:
        return _phase(rollout(kubectl))
    except RuntimeError:
        return "", "Missing"


def rollout(kubectl: Kubectl) -> dict[str, Any]:
    """The model's Rollout."""
    return kubectl.get("rollout", f"{MODEL}-server", *NAMESPACE)


def _phase(rollout: dict[str, Any]) -> tuple[str, str]:
    status = rollout.get("status", {})
    seen = status.get("observedGeneration") == str(rollout["metadata"]["generation"])
    containers = rollout["spec"]["template"]["spec"]["containers"]
    image = next(item["image"] for item in containers if item["name"] == "server")
    return str(image), status.get("phase", "") if seen else "Unseen"


def healthy(kubectl: Kubectl, image: str) -> None:
    """Wait until a release with this image serves everything."""
    wait_until(f"{image} to be Healthy", lambda: phase(kubectl) == (image, "Healthy"), seconds=300)


def settled(kubectl: Kubectl, desk: Workstation) -> str:
    """Wait until git, cluster and registry agree: the image that serves everything."""
    release = desk.release(MODEL)
    assert release is not None
    healthy(kubectl, release.spec.image)
    agreed(kubectl, desk, MODEL)
    return release.spec.image


def agreed(kubectl: Kubectl, desk: Workstation, model: str) -> None:
    """Wait until git, cluster and registry say the same of a model."""
    if not desk.agree(model):
        workflows.reconcile_now(kubectl)  # by itself it comes once a minute
        wait_until("git, cluster and registry to agree", lambda: desk.agree(model), seconds=120)


def weight(kubectl: Kubectl) -> int:
    """Percent of the traffic that the gateway is told to send to the canary."""
    routes = kubectl.get("virtualservice", f"{MODEL}-weights", *NAMESPACE)["spec"]["http"][0]["route"]
    return int(next(r.get("weight", 0) for r in routes if r["destination"]["host"] == f"{MODEL}-canary"))


def canary(kubectl: Kubectl) -> tuple[str, int]:
    """(image, percent of the traffic) of the canary, as the controller says; ("", 0) where there is none."""
    found = rollout(kubectl)
    canary = found.get("status", {}).get("canary", {}).get("weights", {}).get("canary", {})
    image, state = _phase(found)
    return (image, int(canary.get("weight", 0))) if state in ("Progressing", "Paused") else ("", 0)


def watch(kubectl: Kubectl, until: Callable[[], bool], seconds: float) -> list[tuple[int, tuple[float, float]]]:
    """Canary weights in order until `until`, each with the (monotonic) times between which it stood."""
    seen = [(time.monotonic(), weight(kubectl))]
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"not after {seconds} s; weights: {[w for w, _ in _runs(seen)]}"
        time.sleep(0.25)
        seen.append((time.monotonic(), weight(kubectl)))
    return _runs(seen)


def _runs(seen: list[tuple[float, int]]) -> list[tuple[int, tuple[float, float]]]:
    found = []
    for value, group in groupby(seen, key=lambda item: item[1]):
        times = [at for at, _ in group]
        found.append((value, (times[0], times[-1])))
    return found


def story(kubectl: Kubectl) -> str:
    """The Rollout as it is, what each kept analysis measured, and the namespace's last events: why a test failed."""
    status = rollout(kubectl).get("status", {})
    lines = [f"{status.get('phase')} {status.get('message', '')} at step {status.get('currentStepIndex')}"]
    for run in analyses(kubectl):
        lines.append(f"{run['metadata']['name']} {run.get('status', {}).get('phase')}")
        for metric in run.get("status", {}).get("metricResults", []):
            values = [item.get("value") or item.get("message", "") for item in metric.get("measurements", [])]
            lines.append(f"  {metric['name']} {metric['phase']}: {', '.join(values)}")
    events = kubectl.run("get", "events", *NAMESPACE, "--sort-by=.lastTimestamp").splitlines()
    return "\n".join([*lines, *events[-40:]])


def failed_metrics(kubectl: Kubectl) -> set[str]:
    """Metrics that the newest analysis calls failed."""
    return {item["name"] for item in analyses(kubectl)[-1]["status"]["metricResults"] if item["phase"] == "Failed"}


def analyses(kubectl: Kubectl) -> list[dict[str, Any]]:
    """The kept AnalysisRuns, the newest last."""
    runs: list[dict[str, Any]] = kubectl.get("analysisruns", *NAMESPACE, "--sort-by=.metadata.creationTimestamp")[
        "items"
    ]
    return runs
