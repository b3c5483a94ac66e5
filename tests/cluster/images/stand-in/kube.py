"""The API server as a pod's own account reaches it, and a loop around what a controller does."""

import json
import os
import ssl
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_URL = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
TRUST = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
"""Also what stands for a cloud has its certificate of the cluster's authority."""


def request(method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
    """One request; None for what is not there (404)."""
    headers = {"Authorization": f"Bearer {(_ACCOUNT / 'token').read_text()}", "Content-Type": kind}
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(_URL + path, data, headers, method=method)  # noqa: S310 - https
    try:
        with urllib.request.urlopen(asked, timeout=10, context=TRUST) as answer:  # noqa: S310 - https
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404 and method == "GET":
            return None
        raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from None


def items(path: str) -> list[dict[str, Any]]:
    """A list, empty where its CRD is not there yet."""
    return list((request("GET", path) or {"items": []})["items"])


def apply(path: str, wanted: dict[str, Any], manager: str) -> None:
    """Server-side apply."""
    request("PATCH", f"{path}?fieldManager={manager}&force=true", wanted, "application/apply-patch+yaml")


def set_status(path: str, status: dict[str, Any]) -> None:
    """Merge into an object's status."""
    request("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")


def condition(ready: bool, reason: str, message: str, before: list[dict[str, Any]]) -> dict[str, Any]:
    """The condition Ready, since when it is so."""
    state = "True" if ready else "False"
    since = next((one["lastTransitionTime"] for one in before if (one["type"], one["status"]) == ("Ready", state)), "")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = {"reason": reason, "message": message}
    return {"type": "Ready", "status": state, "lastTransitionTime": since or now, **said}


def forever(look: Callable[[], None], seconds: float = 2) -> None:
    """Look again and again; what fails is said and tried at the next look."""
    while True:
        try:
            look()
        except Exception:
            traceback.print_exc(file=sys.stderr)
        time.sleep(seconds)
