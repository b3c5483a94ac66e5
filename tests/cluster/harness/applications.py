"""What Argo CD says of its Applications."""

from typing import Any

from harness.kubectl import Kubectl


def states(kubectl: Kubectl) -> dict[str, str]:
    """{Application: its sync and health in words, `Synced Healthy` where all is well}."""
    return {item["metadata"]["name"]: _state(item.get("status", {})) for item in _applications(kubectl)}


def complaints(kubectl: Kubectl) -> str:
    """A line for each Application that is not, and for each of its objects that is not."""
    lines = []
    for item in _applications(kubectl):
        status = item.get("status", {})
        if _state(status) != "Synced Healthy":
            said = [condition["message"] for condition in status.get("conditions", [])]
            said.append(status.get("operationState", {}).get("message", ""))
            lines.append(f"{item['metadata']['name']}: {_state(status)} {' '.join(said)[:500]}".rstrip())
            lines += [line for resource in status.get("resources", []) if (line := _complaint(resource))]
    return "\n".join(lines)


def _applications(kubectl: Kubectl) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = kubectl.get("applications", "--namespace=argocd")["items"]
    return items


def _state(status: dict[str, Any]) -> str:
    return f"{status.get('sync', {}).get('status', 'Unknown')} {status.get('health', {}).get('status', 'Unknown')}"


def _complaint(resource: dict[str, Any]) -> str:
    health = resource.get("health", {})
    if resource.get("status") == "Synced" and health.get("status", "Healthy") == "Healthy":
        return ""
    name = f"{resource['kind']} {resource.get('namespace', '')}/{resource['name']}"
    return f"  {name}: {resource.get('status')} {health.get('status', '')} {health.get('message', '')[:300]}".rstrip()
