"""Nothing is promoted unmeasured, dead controllers lose nothing, a tampered model serves nobody, MLflow may be gone."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import boto3
import pytest
import rollouts
import servers
from person import Person
from rollouts import MODEL, NAMESPACE
from traffic import Traffic
from workstation import Workstation

from harness.kubectl import Kubectl
from harness.processes import wait_until
from plumbline.tree.kubectl import KubectlError

pytestmark = pytest.mark.timeout(900)
_CONTROLLERS = {
    "argo-rollouts": "app.kubernetes.io/name=argo-rollouts",
    "argocd": "app.kubernetes.io/name=argocd-application-controller",
    "istio-system": "app=istiod",
}


@pytest.mark.long
def test_unmeasured_waits_and_a_third_version_takes_its_place_under_dead_controllers(
    kubectl: Kubectl, desk: Workstation, stable: str, open_gateway: Callable[..., Traffic]
) -> None:
    """Without requests an analysis is inconclusive: the canary waits at 10 % for a person, however long.

    A newer release takes its place and begins at 10 % again; Rollouts, Argo CD and istiod are killed in its middle,
    and it goes on to 100 % without a failed request.
    """
    good = desk.release(MODEL)
    assert good is not None
    unmeasured, third = servers.another("none"), servers.another("none")
    desk.promote(MODEL, good.spec.version, unmeasured)
    wait_until("an inconclusive analysis", lambda: rollouts.phase(kubectl) == (unmeasured, "Paused"), seconds=240)
    time.sleep(5)
    assert rollouts.phase(kubectl) == (unmeasured, "Paused")
    assert rollouts.weight(kubectl) == 10
    assert not rollouts.failed_metrics(kubectl)
    # A person has the step judged again, still without requests, then lets it pass, which git says.
    judged = len(rollouts.analyses(kubectl))
    desk.run("promote", "resume", "--model", MODEL)
    wait_until("another analysis", lambda: len(rollouts.analyses(kubectl)) > judged, seconds=60)
    wait_until("it to be inconclusive", lambda: rollouts.phase(kubectl) == (unmeasured, "Paused"), seconds=240)
    word = ("--by", "a person", "--reason", "nobody asks at night")
    desk.run("promote", "skip", "--model", MODEL, "--env", "local", *word)
    wait_until("the next weight", lambda: rollouts.weight(kubectl) == 50, seconds=60)
    of_stable = ("pod", *NAMESPACE, "--selector=plumbline.dev/role=stable")
    kubectl.run("delete", *of_stable)  # what they mount must still be there, though git names another release
    kubectl.run("wait", *of_stable, "--for=condition=Ready", "--timeout=60s")

    with open_gateway() as traffic:
        begun = time.monotonic()
        desk.promote(MODEL, good.spec.version, third)
        wait_until("its canary", lambda: rollouts.canary(kubectl) == (third, 10), seconds=120)
        for namespace, selector in _CONTROLLERS.items():
            kubectl.run("delete", "pod", f"--namespace={namespace}", f"--selector={selector}", "--wait=false")
        seen = rollouts.watch(kubectl, lambda: rollouts.phase(kubectl) == (third, "Healthy"), seconds=400)
        time.sleep(3)
        answers = traffic.between(begun, time.monotonic())
    assert [weight for weight, _ in seen if weight > 0] == [10, 50, 100]
    failed = [answer for answer in answers if answer.status != 200]
    print(f"{len(failed)} of {len(answers)} requests failed, {time.monotonic() - begun:.0f} s from the commit to 100 %")
    assert not failed


def test_a_tampered_model_leaves_its_pod_unready_and_the_old_one_serves(
    kubectl: Kubectl,
    desk: Workstation,
    person: Person,
    stable: str,
    bodies: list[str],
    open_gateway: Callable[..., Traffic],
) -> None:
    """Somebody writes to the bucket, somebody else to git past the gate: the new pod says why and takes no call."""
    release = desk.release(MODEL)
    assert release is not None
    store = boto3.client("s3")
    uri = urlsplit(release.spec.artifact.uri)
    place = {"Bucket": uri.netloc, "Key": f"{uri.path.strip('/')}/model.onnx"}
    right = store.get_object(**place)["Body"].read()
    path, image = f"clusters/local/models/{MODEL}/release.yaml", servers.another("none")
    with ExitStack() as undo:
        undo.callback(store.put_object, **place, Body=right)
        store.put_object(**place, Body=right[:-1] + bytes([right[-1] ^ 1]))
        undo.callback(person.revert, person.edit(path, (f"image: {stable}", f"image: {image}")))

        def told() -> bool:
            with suppress(KubectlError):  # the container is still being made
                return "tampered" in kubectl.run(
                    "logs", *NAMESPACE, "--selector=plumbline.dev/role=canary", "--tail=-1"
                )
            return False

        wait_until("the reason in the log", told, seconds=120)
        assert rollouts.phase(kubectl) == (image, "Progressing")
        assert [open_gateway().ask(body)[0] for body in bodies[:200]] == [200] * 200
    rollouts.healthy(kubectl, stable)


def test_a_new_pod_starts_while_mlflow_is_gone(
    kubectl: Kubectl, stable: str, bodies: list[str], open_gateway: Callable[..., Traffic]
) -> None:
    """What is served is read from the release store; MLflow is no longer synced, as docs/gitops.md says."""
    mlflow = ("--namespace=mlflow", "deployment/mlflow")
    replicas = kubectl.get("deployment", "mlflow", mlflow[0])["spec"]["replicas"]

    def sync(automated: dict[str, bool] | None) -> None:
        patch = json.dumps({"spec": {"syncPolicy": {"automated": automated}}})
        kubectl.run("patch", "application/mlflow", "--namespace=argocd", "--type=merge", f"--patch={patch}")

    with ExitStack() as undo:
        undo.callback(kubectl.run, "rollout", "status", *mlflow, "--timeout=180s")
        undo.callback(kubectl.run, "scale", *mlflow, f"--replicas={replicas}")
        undo.callback(sync, {"prune": True, "selfHeal": True})
        sync(None)  # else any commit brings it back
        kubectl.run("scale", *mlflow, "--replicas=0")
        kubectl.run(
            "wait", mlflow[0], "pod", "--selector=app.kubernetes.io/name=mlflow", "--for=delete", "--timeout=90s"
        )
        kubectl.run("delete", "pod", *NAMESPACE, f"--selector=plumbline.dev/model={MODEL}", "--wait=true")
        rollouts.healthy(kubectl, stable)
        assert not kubectl.items("pods", mlflow[0], "--selector=app.kubernetes.io/name=mlflow")
        assert [open_gateway().ask(body)[0] for body in bodies[:50]] == [200] * 50
