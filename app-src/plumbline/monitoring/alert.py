"""One alert to Alertmanager, from a Workflow that failed or found something."""

import json
from datetime import UTC, datetime, timedelta

import httpx

from plumbline.core.errors import Accident

STANDS = timedelta(hours=12)
"""Nobody takes such an alert back, so it ends by itself."""
_LONGEST = 4000
# The page in docs/runbooks that its message links to; what is not listed gets the table of them.
RUNBOOKS = {
    "WorkflowFailed": "workflows.md#workflowfailed",
    "ModelDrift": "quality.md#driftfound",
    "ConfigurationAborted": "rollouts.md#configurationaborted",
}


class AlertError(Accident):
    """Alertmanager did not take the alert; the message says why."""


def send(url: str, name: str, subject: str, text: str) -> None:
    """Post it; raises AlertError. The same name and subject again is the same alert, which stands longer."""
    now = datetime.now(UTC)
    alert = {
        "labels": {"alertname": name, "subject": subject, "severity": "ticket"},
        "annotations": {
            "summary": f"{name}: {subject}",
            "description": readable(text),
            "runbook": RUNBOOKS.get(name, "README.md"),
        },
        "startsAt": now.isoformat(),
        "endsAt": (now + STANDS).isoformat(),
    }
    try:
        httpx.post(f"{url.rstrip('/')}/api/v2/alerts", json=[alert], timeout=30).raise_for_status()
    except httpx.HTTPError as error:
        raise AlertError(f"{url} did not take the alert: {error}") from error


def readable(text: str) -> str:
    """The text, or where it is Argo's JSON of failed nodes, a line for each of them."""
    try:
        nodes = json.loads(text)
        if isinstance(nodes, str):  # Argo quotes the list once more
            nodes = json.loads(nodes)
        lines = [f"{node['displayName']}: {node.get('message') or node.get('phase', 'failed')}" for node in nodes]
    except (ValueError, TypeError, KeyError, AttributeError):
        lines = [text]
    return "\n".join(lines)[:_LONGEST]
