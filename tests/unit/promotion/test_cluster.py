"""What a cluster's objects say of a model, over HTTP as the API server is asked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Quiet, as_cluster

from plumbline.core.errors import Refused
from plumbline.promotion.delivery.cluster import Cluster, Served

ROLLOUTS = "/apis/argoproj.io/v1alpha1/namespaces/models/rollouts"
RUNS = "/apis/argoproj.io/v1alpha1/namespaces/models/analysisruns"
REVISION = "rollout.argoproj.io/revision"
IMAGE = "registry.example/model-server@sha256:" + "1" * 64


def template(letter: str) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": {"app.kubernetes.io/version": f"v1.0.{letter}"},
            "annotations": {"plumbline.dev/digest": "sha256:" + letter * 64},
        },
        "spec": {"containers": [{"name": "server", "image": IMAGE}]},
    }


def rollout(name: str = "flights-server", revision: str = "5") -> dict[str, Any]:
    """An aborted canary of 2 beside the stable 1."""
    return {
        "metadata": {"name": name, "generation": 7, "annotations": {REVISION: revision}},
        "spec": {"template": template("2")},
        "status": {
            "observedGeneration": "7",
            "phase": "Degraded",
            "abort": True,
            "message": "ReplicaSet has timed out progressing",
            "stableRS": "s",
            "currentPodHash": "c",
        },
    }


def run(revision: str | None) -> dict[str, Any]:
    """A failed analysis of the canary's pods."""
    annotations = {} if revision is None else {REVISION: revision}
    results = [{"name": "error-share", "phase": "Failed", "message": "too many", "measurements": [{"value": "[0.2]"}]}]
    about = {"name": "run", "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": annotations}
    return {"metadata": about, "status": {"metricResults": results}}


class Api(dict[str, Any]):
    """Objects by their path; everything else is not there."""

    def __init__(self) -> None:
        super().__init__({f"{ROLLOUTS}/flights-server": rollout(), ROLLOUTS: {"items": [rollout()]}})
        for pod_hash, letter in (("s", "1"), ("c", "2")):
            about = {"metadata": {"name": pod_hash}, "spec": {"selector": {}, "template": template(letter)}}
            self[f"/apis/apps/v1/namespaces/models/replicasets/flights-server-{pod_hash}"] = about
        self[RUNS] = {"items": []}
        self.asked: list[str] = []


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    objects = Api()

    class Handler(Quiet):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            objects.asked.append(path)
            self.send_response(200 if path in objects else 404)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(objects.get(path, {})).encode())

    with as_cluster(Handler, tmp_path, monkeypatch):
        yield objects


@pytest.mark.parametrize(
    ("revisions", "metric"),
    [(["5"], "error-share"), ([None], "error-share"), (["3"], ""), ([], ""), (["3", "5"], "error-share")],
)
def test_a_verdict_is_of_this_canary_and_not_of_an_earlier_one_of_the_same_pods(
    api: Api, revisions: list[str | None], metric: str
) -> None:
    """A release that failed beside another stable and came again is judged anew: never ready is no verdict."""
    api[RUNS] = {"items": [run(revision) for revision in revisions]}
    running = Cluster().running("flights")
    assert running is not None
    assert running.failure is not None
    assert running.failure.metric == metric
    assert running.failure.reason == (
        "too many; last value [0.2]" if metric else "ReplicaSet has timed out progressing"
    )
    assert running.stable == Served("v1.0.1", "sha256:" + "1" * 64, IMAGE)
    assert running.pods == ()


def test_many_models_are_one_listing_and_each_is_told_from_it(api: Api) -> None:
    api[ROLLOUTS] = {"items": [rollout(), rollout("of-somebody-else"), rollout("diabetes-server")]}
    cluster = Cluster()
    models = cluster.models()
    assert list(models) == ["flights", "diabetes"]
    api[ROLLOUTS] = {"items": []}
    del api[f"{ROLLOUTS}/flights-server"]
    assert models["flights"]().message == "ReplicaSet has timed out progressing"
    assert [path for path in api.asked if path.startswith(ROLLOUTS)] == [ROLLOUTS]
    assert (cluster.running("flights"), cluster.models()) == (None, {}), "nothing is kept"


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("labels", "pods without 'labels' are none that"),
        ("containers", "pods without a container named server are none"),
    ],
)
def test_a_rollout_of_somebody_elses_is_told_as_such(api: Api, lacks: str, said: str) -> None:
    found = rollout()
    pods = found["spec"]["template"]
    pods["metadata"].pop("labels") if lacks == "labels" else pods["spec"].update(containers=[])
    api[f"{ROLLOUTS}/flights-server"] = found
    with pytest.raises(Refused, match=said):
        Cluster().running("flights")
