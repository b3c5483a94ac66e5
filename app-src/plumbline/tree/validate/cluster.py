"""Objects put to an API server: applied, or asked about without a trace, with the server's reason where it refuses."""

import json
import time
from dataclasses import dataclass, field
from threading import Lock

import httpx

from plumbline.core.errors import Accident
from plumbline.tree.render.build import Object
from plumbline.tree.validate.crds import Crd

_JSON = {"Content-Type": "application/apply-patch+yaml"}
_APPLY = {"fieldManager": "validate", "force": "true"}
_STRICT = _APPLY | {"fieldValidation": "Strict"}
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class ClusterError(Accident):
    """What must be in place before anything can be asked is not; the message says why."""


class UnknownKindError(RuntimeError):
    """The API server has no such kind: a CRD is missing, or the object is misspelled."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said to one object: nothing where it accepts."""

    refusal: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Cluster:
    """Server-side apply by kind, without a line of Go between: `kubectl` gives no structured reason for each object."""

    client: httpx.Client
    _kinds: dict[str, dict[str, Object]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def apply(self, item: Object) -> None:
        """Make an object so. Raises ClusterError with the server's reason."""
        answer = self._put(item, _STRICT)
        if answer.refusal:
            raise ClusterError(f"{name_of(item)}: {answer.refusal}")

    def ask(self, item: Object, namespace: str = "", subresource: str = "", user: str = "") -> Answer:
        """Would it be accepted: every field known, every value legal, every policy content? Nothing is stored.

        user: who is said to ask, with every right of the cluster.
        """
        return self._put(item, _STRICT | {"dryRun": "All"}, namespace, subresource, user)

    def set_status(self, item: Object, controller: str) -> None:
        """Write the status of an object that exists, as its controller would; some kinds keep it in the object."""
        headers = _JSON | _as(controller)
        for path in (f"{self._path(item)}/status", self._path(item)):
            answer = self.client.patch(path, params=_STRICT, headers=headers, json=item)
            if answer.status_code != httpx.codes.NOT_FOUND:
                break
        answer.raise_for_status()

    def delete(self, item: Object) -> None:
        """Take an object away."""
        self.client.delete(self._path(item)).raise_for_status()

    def load(self, crds: list[Crd], seconds: float = 300) -> None:
        """Create CRDs and wait until each is served. Raises ClusterError."""
        for crd in crds:
            answer = self.client.post(_CRDS, headers={"Content-Type": "application/yaml"}, content=crd.text)
            if answer.is_error:
                raise ClusterError(f"{crd.name}: {answer.json()['message']}")
        deadline = time.monotonic() + seconds
        while waiting := [crd.name for crd in crds if not self._serves(crd.name)]:
            if time.monotonic() > deadline:
                raise ClusterError(f"not served after {seconds} s: {', '.join(waiting)}")
            time.sleep(0.2)
        self._kinds.clear()

    def _serves(self, name: str) -> bool:
        """A CRD is established a moment before its kind can be found."""
        crd = self.client.get(f"{_CRDS}/{name}").json()
        conditions = crd.get("status", {}).get("conditions") or []
        if not any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
            return False
        spec = crd["spec"]
        versions = [f"{spec['group']}/{version['name']}" for version in spec["versions"] if version["served"]]
        return all(spec["names"]["kind"] in self._kinds_of(version) for version in versions)

    def _kinds_of(self, version: str) -> dict[str, Object]:
        answer = self.client.get(_root(version))
        resources = answer.json()["resources"] if answer.is_success else []
        return {entry["kind"]: entry for entry in resources if "/" not in entry["name"]}

    def _put(
        self, item: Object, parameters: dict[str, str], namespace: str = "", subresource: str = "", user: str = ""
    ) -> Answer:
        try:
            path = self._path(item, namespace) + (f"/{subresource}" if subresource else "")
        except UnknownKindError as error:
            return Answer(str(error))
        headers = _JSON | (_as(user) if user else {})
        answer = self.client.patch(path, params=parameters, headers=headers, content=json.dumps(item))
        warnings = tuple(value.split(" ", 2)[2].strip('"') for value in answer.headers.get_list("warning"))
        return Answer("" if answer.is_success else str(answer.json()["message"]), warnings)

    def _path(self, item: Object, namespace: str = "") -> str:
        kind, metadata = self._kind(item), item["metadata"]
        place = f"/namespaces/{metadata.get('namespace', namespace)}" if kind["namespaced"] else ""
        return f"{_root(item['apiVersion'])}{place}/{kind['name']}/{metadata['name']}"

    def _kind(self, item: Object) -> Object:
        version, kind = item["apiVersion"], item["kind"]
        with self._lock:
            if version not in self._kinds:
                self._kinds[version] = self._kinds_of(version)
        try:
            return self._kinds[version][kind]
        except KeyError:
            raise UnknownKindError(f"no kind {kind} in {version}: its CRD is in none of the pinned versions") from None


def _as(user: str) -> dict[str, str]:
    return {"Impersonate-User": user, "Impersonate-Group": "system:masters"}


def name_of(item: Object) -> str:
    """How people name an object: Kind/name."""
    return f"{item['kind']}/{item['metadata']['name']}"


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"
