"""What a person does with a canary that an inconclusive analysis paused: have it judged again, or go on without.

The patches are those that Argo Rollouts' controller understands (v1.10.1, rollout/analysis.go, needsNewAnalysisRun):
without pause conditions, `controllerPause` tells it that the inconclusive run was seen, and it starts another one.
Cleared too, it would take the old run for a new one and pause again; with the next step's number it goes on.
"""

from typing import Any, Literal

from pydantic import AwareDatetime

from plumbline.core.documents import Strict, parse
from plumbline.core.errors import Refused
from plumbline.core.names import Digest, Line, Name, Version
from plumbline.promotion.delivery.cluster import Cluster, Served
from plumbline.promotion.delivery.documents import checked, dump
from plumbline.promotion.delivery.git import Change, Subject, checkout
from plumbline.promotion.delivery.proposal import Delivered, write
from plumbline.promotion.delivery.records import read_served, require_environment
from plumbline.promotion.settings import Settings


class Skip(Strict):
    """`policies/skips/<environment>/<model>.yaml`: the last step that somebody let pass without a verdict."""

    apiVersion: Literal["plumbline.dev/v1"] = "plumbline.dev/v1"
    kind: Literal["Skip"] = "Skip"
    environment: Name
    model: Name
    version: Version
    digest: Digest
    image: str
    step: int
    """Of canary.yaml, from 0."""
    by: Line
    reason: Line
    at: AwareDatetime


def skip_path(environment: str, model: str) -> str:
    """Where git holds it."""
    return f"policies/skips/{environment}/{model}.yaml"


def resume(cluster: Cluster, model: str) -> str:
    """Have the paused step judged again; returns what was done. Raises Refused where nothing inconclusive waits."""
    step, _ = _waiting(cluster, model)
    cluster.patch_status(model, {"pauseConditions": None})
    return f"step {step} is judged again"


def skip(
    settings: Settings, cluster: Cluster, environment: str, model: str, by: str, reason: str
) -> tuple[Delivered | None, int]:
    """Go on after the paused step without its verdict, once git says who let it pass and why: (where, step).

    Where that waits for a pull request the canary waits too; None where git said so already.

    Raises Refused where nothing inconclusive waits, or where what waits is not what git names.
    """
    step, waiting = _waiting(cluster, model)
    path = skip_path(environment, model)

    def change() -> Change | None:
        require_environment(tree, environment)
        release = read_served(tree, environment, model)
        if release is None or Served.of(release) != waiting:
            raise Refused(f"the canary of {waiting.version} is not what git names in {environment}; wait for Argo CD")
        what = {"version": waiting.version, "digest": waiting.digest, "image": waiting.image, "step": step}
        record = checked(Skip, environment=environment, model=model, **what, by=by, reason=reason)
        title = f"{model}({environment}): step {step} of {waiting.version} passes without a verdict"
        about = Subject("step", model, waiting.version, environment)
        text = tree.read(path)
        if text is not None and what.items() <= parse(text, Skip, path).model_dump().items():
            return None  # merged meanwhile
        return Change({path: dump(record)}, f"{title}\n\nBy: {by}\nReason: {reason}\n", about)

    with checkout(settings) as tree:
        delivered = write(tree, change)
    if delivered is not None and delivered.waiting:
        return delivered, step
    cluster.patch_status(model, {"pauseConditions": None, "controllerPause": False, "currentStepIndex": step + 1})
    return delivered, step


def _waiting(cluster: Cluster, model: str) -> tuple[int, Served]:
    """The number of the step that waits after an inconclusive analysis, and what is its canary."""
    rollout: dict[str, Any] | None = cluster.document(model)
    status = (rollout or {}).get("status", {})
    reasons = [item["reason"] for item in status.get("pauseConditions") or []]
    if rollout is None or reasons != ["InconclusiveAnalysisRun"]:
        what = ", ".join([status.get("phase", "not there"), *reasons])
        raise Refused(f"{model} waits for nobody after an inconclusive analysis: it is {what}; nothing was changed")
    return int(status.get("currentStepIndex") or 0), Served.in_template(rollout["spec"]["template"])
