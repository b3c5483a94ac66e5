"""What a cluster says about a model: the releases that its Rollout runs, and what its analyses found.

It is read; the one thing written is the status of a canary that a person lets go on.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from plumbline.core.documents import leaves
from plumbline.core.errors import Accident, Refused
from plumbline.core.names import one_line
from plumbline.core.release import Release

_NAMESPACE = "models"
_SUFFIX = "-server"
"""Of a model's Rollout."""
RELEASE_TEXT = "release.yaml"
"""Said of pods that mount another text of it."""
_RELEASE_VOLUME = "/spec/volumes/release/configMap/name"
_OF_RELEASE = {
    "/spec/containers/server/image",
    "/metadata/labels/app.kubernetes.io/version",
    *(f"/metadata/annotations/plumbline.dev/{name}" for name in ("digest", "gate", "approved-by")),
    # Argo Rollouts' own.
    "/metadata/labels/rollouts-pod-template-hash",
    "/metadata/labels/plumbline.dev/role",
    "/metadata/creationTimestamp",
}
_MERGE = "application/merge-patch+json"
_ROLLOUTS = {"group": "argoproj.io", "version": "v1alpha1", "namespace": _NAMESPACE}


@dataclass(frozen=True, slots=True)
class Served:
    """What tells one release from another in a pod template."""

    version: str
    digest: str
    """Of the artifact."""
    image: str

    @property
    def digests(self) -> tuple[str, str]:
        """What of it can be barred: the digests of its artifact and of its image."""
        return self.digest, self.image.rpartition("@")[2]

    @classmethod
    def of(cls, release: Release) -> "Served":
        """What a release.yaml asks for."""
        return cls(release.spec.version, release.spec.artifact.digest, release.spec.image)

    @classmethod
    def in_template(cls, template: Mapping[str, Any]) -> "Served":
        """What a pod template runs, as kustomize/model-server writes it."""
        metadata = template["metadata"]
        containers = template["spec"]["containers"]
        return cls(
            metadata["labels"]["app.kubernetes.io/version"],
            metadata["annotations"]["plumbline.dev/digest"],
            next(container["image"] for container in containers if container["name"] == "server"),
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a canary was aborted."""

    metric: str
    """The failed metric of its analysis; empty where it was aborted without a verdict (never ready, no metrics)."""
    reason: str


@dataclass(frozen=True, slots=True)
class Running:
    """A model's Rollout at one moment."""

    wanted: Served
    """What the Rollout was last told to run."""
    stable: Served | None
    """What serves all traffic that is not a canary's; None before the first release is up."""
    phase: str
    """The controller's word: Healthy, Progressing, Paused, Degraded; Unseen until it saw the newest specification."""
    weight: int
    """Percent of the traffic that goes to `wanted` while it is a canary."""
    message: str
    failure: Failure | None
    """Set where the canary of `wanted` was aborted."""
    pods: tuple[str, ...] | None = None
    """Where a canary's pods differ from stable's beyond what `Served` holds, empty without a canary: paths of the pod
    template, and RELEASE_TEXT. None where the two were not compared."""


class Cluster:
    """The cluster of KUBECONFIG, or the one that this pod runs in."""

    @staticmethod
    def is_configured() -> bool:
        """Whether somebody named a cluster: by KUBECONFIG, by kubectl's own file, or by running in a pod."""
        named = any(os.environ.get(name) for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"))
        return named or Path("~/.kube/config").expanduser().exists()

    @cached_property
    def _api(self) -> Any:
        from kubernetes import client, config

        try:
            config.load_config()  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise Accident(f"no cluster: {error}; set KUBECONFIG or run in a pod") from error
        return client

    def running(self, model: str) -> Running | None:
        """The Rollout of a model, or None where there is none; raises Accident where the API does not answer."""
        rollout = self.document(model)
        return None if rollout is None else self._told(model, rollout)

    def models(self) -> Mapping[str, Callable[[], Running]]:
        """{model that has a Rollout: what tells it, as `running` does} of one listing: each as it was then."""
        named = {item["metadata"]["name"]: item for item in self._list("rollouts")}
        return {
            (model := name.removesuffix(_SUFFIX)): partial(self._told, model, item)
            for name, item in named.items()
            if name.endswith(_SUFFIX)
        }

    def _told(self, model: str, rollout: Mapping[str, Any]) -> Running:
        status = rollout.get("status", {})
        wanted, stable_hash = _served(model, rollout["spec"]["template"]), status.get("stableRS", "")
        seen = status.get("observedGeneration") == str(rollout["metadata"]["generation"])
        canary = status.get("currentPodHash", "")
        weights = status.get("canary", {}).get("weights", {})
        return Running(
            wanted=wanted,
            stable=wanted if stable_hash and stable_hash == canary else self._stable(model, stable_hash),
            phase=status.get("phase", "Progressing") if seen else "Unseen",
            weight=int(weights.get("canary", {}).get("weight", 0)),
            message=status.get("message", ""),
            failure=self._failure(canary, rollout) if seen and status.get("abort") else None,
            pods=self._pods(model, canary, stable_hash),
        )

    def document(self, model: str) -> Any:
        """The object itself, or None where there is none."""
        return self._get("rollouts", f"{model}{_SUFFIX}")

    def patch_status(self, model: str, status: Mapping[str, Any]) -> None:
        """Merge into the status of a model's Rollout; raises Accident where the API does not take it."""
        name = f"{model}{_SUFFIX}"
        call = self._api.CustomObjectsApi().patch_namespaced_custom_object_status
        body = {"status": dict(status)}
        done = self._ask(name, lambda: call(**_ROLLOUTS, plural="rollouts", name=name, body=body, _content_type=_MERGE))
        if done is None:
            raise Accident(f"the cluster, {name}: it is gone")

    def _stable(self, model: str, pod_hash: str) -> Served | None:
        template = self._template(model, pod_hash)
        return None if template is None else _served(model, template)

    def _pods(self, model: str, canary: str, stable: str) -> tuple[str, ...] | None:
        if canary == stable:
            return ()
        templates = self._template(model, stable), self._template(model, canary)
        return None if templates[0] is None or templates[1] is None else differing(templates[0], templates[1])

    def _template(self, model: str, pod_hash: str) -> Any:
        """The pod template of a ReplicaSet as the API server keeps it, None where there is none."""
        if not pod_hash:
            return None
        name = f"{model}{_SUFFIX}-{pod_hash}"
        replica_set = self._ask(name, lambda: self._api.AppsV1Api().read_namespaced_replica_set(name, _NAMESPACE))
        if replica_set is None:
            return None
        return self._api.ApiClient().sanitize_for_serialization(replica_set)["spec"]["template"]

    def _failure(self, pod_hash: str, rollout: Mapping[str, Any]) -> Failure:
        runs = self._list("analysisruns", label_selector=f"rollouts-pod-template-hash={pod_hash}")
        # The same pods may have failed before, beside another stable: that was another canary's verdict.
        runs = [run for run in runs if _revision(run) in ("", _revision(rollout))]
        for run in sorted(runs, key=lambda run: run["metadata"]["creationTimestamp"], reverse=True):
            for metric in run.get("status", {}).get("metricResults", []):
                if metric.get("phase") == "Failed":
                    return Failure(metric["name"], _explained(metric))
        return Failure("", one_line(rollout["status"].get("message") or "aborted"))

    def _get(self, plural: str, name: str) -> Any:
        return self._ask(
            name,
            lambda: self._api.CustomObjectsApi().get_namespaced_custom_object(**_ROLLOUTS, plural=plural, name=name),
        )

    def _list(self, plural: str, **chosen: str) -> list[Any]:
        listing = self._ask(
            plural,
            lambda: self._api.CustomObjectsApi().list_namespaced_custom_object(**_ROLLOUTS, plural=plural, **chosen),
        )
        return list(listing["items"]) if listing else []

    def _ask(self, what: str, call: Any) -> Any:
        from urllib3.exceptions import HTTPError

        try:
            return call()
        except self._api.ApiException as error:
            if error.status == 404:
                return None
            raise Accident(f"the cluster, {what}: {error.status} {error.reason}") from error
        except HTTPError as error:
            raise Accident(f"the cluster, {what}: {error}; try again when it answers") from error


def _served(model: str, template: Mapping[str, Any]) -> Served:
    try:
        return Served.in_template(template)
    except (KeyError, StopIteration) as error:
        what = f"without {error}" if isinstance(error, KeyError) else "without a container named server"
        raise Refused(f"the cluster, {model}{_SUFFIX}: pods {what} are none that promotion made") from error


def _revision(item: Mapping[str, Any]) -> str:
    """Which of a Rollout's canaries it is of; a template that comes again is a new one."""
    return str((item["metadata"].get("annotations") or {}).get("rollout.argoproj.io/revision", ""))


def differing(stable: Any, canary: Any) -> tuple[str, ...]:
    """Where two pod templates differ in more than the release's own values; RELEASE_TEXT where its file differs."""
    ours, theirs = ({"/" + "/".join(path): leaf for path, leaf in leaves(side)} for side in (stable, canary))
    paths = sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))
    return tuple(RELEASE_TEXT if path == _RELEASE_VOLUME else path for path in paths if path not in _OF_RELEASE)


def _explained(metric: Mapping[str, Any]) -> str:
    """The analysis's words for a failed metric, with the last value that was measured."""
    values = [item["value"] for item in metric.get("measurements", []) if item.get("value")]
    return one_line(f"{metric.get('message') or 'failed'}{f'; last value {values[-1]}' if values else ''}")
