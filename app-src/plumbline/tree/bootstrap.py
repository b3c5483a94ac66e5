"""`scripts/bootstrap ENV`: takes an empty cluster to this repository. From then on Argo CD follows git by itself.

Safe to run again: what is there is applied once more, Secrets that are there stay as they are. Argo CD comes from the
environment's own Application `argo-cd`, so that what is installed here is what it later makes of itself.
"""

import base64
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from plumbline.core.documents import load
from plumbline.core.errors import Accident, Misuse
from plumbline.promotion.registry import signing
from plumbline.tree import api_keys
from plumbline.tree.fill_in import to_fill_in
from plumbline.tree.kubectl import Kubectl
from plumbline.tree.render.build import Objects, build, environments
from plumbline.tree.render.sync import ours

NAMESPACE = "argocd"


class BootstrapError(Accident):
    """What stands in the way, in one line."""


class Bootstrap:
    """One run against one cluster, with a line for each thing that happens."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._start = time.monotonic()
        self._last = ""

    def install(self, application: dict[str, Any]) -> None:
        """Argo CD at the version and with the settings of its own Application, until it runs."""
        self._say(f"Argo CD {application['spec']['source']['targetRevision']}")
        labels = application["spec"]["syncPolicy"]["managedNamespaceMetadata"]["labels"]
        self._kubectl.apply([_object("Namespace", NAMESPACE, labels=labels)])
        objects = manifests(application)
        self._kubectl.apply(objects)
        for item in objects:
            if item["kind"] in ("Deployment", "StatefulSet"):
                name = f"{item['kind'].lower()}/{item['metadata']['name']}"
                self._say(f"waiting for {name}")
                self._kubectl.run("rollout", "status", name, f"--namespace={NAMESPACE}", "--timeout=300s")

    def install_crds(self, applications: Objects) -> None:
        """The CRDs of the projects that these Applications install, before Argo CD begins.

        With every event of every CRD it reads the API's whole schema again, about a second each and one by one, and
        hears of nothing else meanwhile. Those that it finds as it would make them itself cause no event.
        """
        with ThreadPoolExecutor() as pool:
            built = list(pool.map(manifests, applications))
        for application, objects in zip(applications, built, strict=True):
            # As they are: Argo CD marks what belongs to an Application, but no CRD.
            if crds := [item for item in objects if item["kind"] == "CustomResourceDefinition"]:
                self._say(f"{len(crds)} CRDs of {application['metadata']['name']}")
                self._kubectl.apply(crds)

    def make_secrets(self, wanted: list[dict[str, Any]]) -> None:
        """Those of clusters/<env>/secrets.yaml that are absent; one that is there gives its values to the others."""
        present = {_key(item): item for item in self._kubectl.items("secrets", "--all-namespaces")}
        spaces = {item["metadata"]["name"] for item in self._kubectl.items("namespaces")}
        values: dict[str, dict[str, str]] = {}
        for secret in wanted:
            keys = [(space, secret["name"]) for space in secret["namespaces"]]
            absent = [key for key in keys if key not in present]
            data = next((present[key]["data"] for key in keys if key in present), None)
            values[secret["name"]] = contents(secret, values) if data is None else _decoded(data)
            for space, name in absent:
                if space not in spaces:
                    self._kubectl.apply([_object("Namespace", space)])
                    spaces.add(space)
                self._kubectl.create(_object("Secret", name, namespace=space) | {"stringData": values[name]})
            if absent:
                self._say(f"made Secret {secret['name']} in {', '.join(space for space, _ in absent)}")

    def hand_over(self, objects: Objects) -> None:
        """The root Application and the projects; everything else is the root's to make, in its order."""
        self._say("root Application: from here on git decides")
        self._kubectl.apply([item for item in objects if item["kind"] == "AppProject" or _key(item)[1] == "platform"])

    def wait(self, minutes: float) -> None:
        """Until every Application is Synced and Healthy; raises BootstrapError as soon as one has given up."""
        deadline = time.monotonic() + minutes * 60
        while True:
            applications = self._kubectl.items("applications", f"--namespace={NAMESPACE}")
            sets = self._kubectl.items("applicationsets", f"--namespace={NAMESPACE}")
            for item in applications:
                if (reason := failure(item)) is not None:
                    raise BootstrapError(f"Application {_key(item)[1]}: {reason}")
            waiting = {_key(item)[1]: state for item in applications if (state := lacking(item))}
            if applications and not waiting and all(map(up_to_date, sets)):
                self._say(f"all {len(applications)} Applications are Synced and Healthy")
                return
            left = ", ".join(f"{name} ({state})" for name, state in sorted(waiting.items()))
            self._say(
                f"{len(applications) - len(waiting)} of {len(applications)} Applications are ready; waiting for {left}"
            )
            if time.monotonic() > deadline:
                raise BootstrapError(f"not done after {minutes:g} minutes; waiting for {left}")
            time.sleep(2)

    def _say(self, text: str) -> None:
        if text != self._last:
            sys.stderr.write(f"[{time.monotonic() - self._start:5.0f} s] {text}\n")
            self._last = text


def contents(secret: dict[str, Any], earlier: dict[str, dict[str, str]]) -> dict[str, str]:
    """New values for an entry of secrets.yaml; `earlier` are those of the entries before it."""
    # A token's alphabet is safe in a URL.
    values: dict[str, str] = {key: secrets.token_urlsafe(24) for key in secret.get("random", [])}
    values |= secret.get("fixed", {})
    if (name := secret.get("privateKey")) is not None:
        values[name] = signing.new_private_key()
    if (half := secret.get("publicHalf")) is not None:
        (private,) = earlier[half["of"]].values()
        values[half["key"]] = signing.public_half(private)
    if (file := secret.get("apiKeys")) is not None:
        (key,) = earlier[file["of"]].values()
        values[file["key"]] = api_keys.for_everything(key)
    return values


def _decoded(data: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def manifests(application: dict[str, Any]) -> Objects:
    """The objects of an Application, built as Argo CD's repo server builds them. Needs git's way to the source."""
    source = application["spec"]["source"]
    remote = f"{source['repoURL']}//{source['path']}?ref={source['targetRevision']}"
    with TemporaryDirectory(prefix="bootstrap-") as folder:
        kustomization = {"resources": [remote], **source.get("kustomize", {})}
        # Argo CD writes an image as NAME:TAG.
        named = [image.rsplit(":", 1) for image in kustomization.get("images", [])]
        kustomization["images"] = [{"name": name, "newTag": tag} for name, tag in named]
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        return build(Path(folder), ".", warnings=True)


def is_kustomization(source: dict[str, Any], own: str) -> bool:
    """Whether it is a project's folder of manifests: no chart, be it in git, and not of this repository without CRDs.

    What is a chart in git says `helm:`. The CRDs of charts come with their wave.
    """
    return "chart" not in source and "helm" not in source and source["repoURL"] != own


def lacking(application: dict[str, Any]) -> str:
    """What an Application is instead of Synced and well; a canary that waits for somebody (Suspended) is well."""
    status = application.get("status", {})
    states = (status.get("sync", {}).get("status"), status.get("health", {}).get("status"))
    well = states in (("Synced", "Healthy"), ("Synced", "Suspended"))
    return "" if well else ", ".join(state or "Unknown" for state in states)


def failure(application: dict[str, Any]) -> str | None:
    """Why an Application gave up on what git says now: a sync that may still be tried again is Running."""
    status = application.get("status", {})
    operation = status.get("operationState", {})
    if operation.get("phase") not in ("Failed", "Error") or not lacking(application):
        return None
    tried = operation.get("syncResult", {}).get("revision")
    if tried and tried != status.get("sync", {}).get("revision"):
        return None
    return " ".join(str(operation.get("message", "its sync failed")).split())


def up_to_date(applicationset: dict[str, Any]) -> bool:
    """Whether it has made an Application of each folder that it finds."""
    conditions = applicationset.get("status", {}).get("conditions", [])
    return any((item["type"], item["status"]) == ("ResourcesUpToDate", "True") for item in conditions)


def _object(kind: str, name: str, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **metadata}}


def _key(item: dict[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def bootstrap(root: Path, environment: str, context: str | None, minutes: float) -> None:
    """Take a cluster to an environment; raises Misuse for an unknown one, Accident for what stands in the way."""
    if environment not in (names := environments(root)):
        raise Misuse(f"there is no environment {environment!r}; expected one of {', '.join(names)}")
    if missing := to_fill_in(root, environment):
        raise Misuse(f"{len(missing)} to fill in before this environment can run:\n" + "\n".join(map(str, missing)))
    work = Bootstrap(Kubectl(context))
    objects = build(root, f"clusters/{environment}")
    applications = [item for item in objects if item["kind"] == "Application"]
    work.install(next(item for item in applications if _key(item)[1] == "argo-cd"))
    own = ours(objects, environment)
    work.install_crds([item for item in applications if is_kustomization(item["spec"]["source"], own)])
    if (wanted := root / "clusters" / environment / "secrets.yaml").exists():
        work.make_secrets(load(wanted.read_text(encoding="utf-8"), str(wanted)))
    work.hand_over(objects)
    work.wait(minutes)
