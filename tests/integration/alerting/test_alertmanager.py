"""What Alertmanager makes of alerts, with the routes that are deployed: who is told what, and what is held back."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from loopback import Quiet, serving
from services import answers_http, free_port, process, program

from plumbline.monitoring.alert import send

ROUTES = Path(__file__).parents[3] / "kustomize/monitoring/routes.yaml"
INSTALL = "make services"


class Alerting:
    """An Alertmanager that sends at once, and what it sent: (path, body)."""

    def __init__(self, url: str, sent: "Queue[tuple[str, dict[str, Any]]]") -> None:
        self.url, self.sent = url, sent

    def fire(self, *alerts: dict[str, str]) -> None:
        body = [
            {"labels": labels, "annotations": {"summary": f"{labels['alertname']} happened", "runbook": "x.md#y"}}
            for labels in alerts
        ]
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.url}/api/v2/alerts", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310

    def messages(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """So many messages, and then none for a while."""
        found = [self.sent.get(timeout=30) for _ in range(count)]
        with pytest.raises(Empty):
            self.sent.get(timeout=3)
        return sorted(found, key=lambda item: item[0])


@pytest.fixture
def alerting(tmp_path: Path) -> Iterator[Alerting]:
    sent: Queue[tuple[str, dict[str, Any]]] = Queue()

    class Receiver(Quiet):
        def do_POST(self) -> None:
            sent.put((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(202)
            self.end_headers()
            self.wfile.write(b"{}")

    with serving(Receiver) as here:
        yield from _alertmanager(tmp_path, here, sent)


def _alertmanager(tmp_path: Path, here: str, sent: Queue[tuple[str, dict[str, Any]]]) -> Iterator[Alerting]:
    (tmp_path / "slack-url").write_text(f"{here}/slack")
    (tmp_path / "pagerduty-key").write_text("0" * 32)
    text = ROUTES.read_text().replace("/etc/alertmanager/receivers", str(tmp_path))
    text = text.replace("group_wait: 30s", "group_wait: 1s").replace("group_wait: 10s", "group_wait: 1s")
    (tmp_path / "routes.yaml").write_text(text.replace("global:\n", f"global:\n  pagerduty_url: {here}/pagerduty\n"))
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [program("prometheus-alertmanager", INSTALL), "--cluster.listen-address="]
    command += [f"--web.listen-address={address}", f"--config.file={tmp_path}/routes.yaml"]
    command += [f"--storage.path={tmp_path}/data"]
    ready = f"http://{address}/-/ready"
    with process(command, ready=lambda: answers_http(ready), log=tmp_path / "alertmanager.log"):
        yield Alerting(f"http://{address}", sent)


def test_a_ticket_is_one_message_for_all_pods(alerting: Alerting) -> None:
    common = {"alertname": "ModelRefused", "severity": "ticket", "namespace": "models", "model": "flights"}
    alerting.fire(common | {"pod": "a"}, common | {"pod": "b"})
    [(path, message)] = alerting.messages(1)
    assert (path, message["channel"]) == ("/slack", "#plumbline")
    [attachment] = message["attachments"]
    assert attachment["title"] == "FIRING ModelRefused flights"
    assert attachment["title_link"].endswith("/docs/runbooks/x.md#y")
    assert attachment["text"] == "ModelRefused happened\n" * 2


def test_a_page_wakes_somebody_and_is_in_slack_too(alerting: Alerting) -> None:
    alerting.fire({"alertname": "MLflowDown", "severity": "page", "namespace": "mlflow"})
    (first, page), (second, _) = alerting.messages(2)
    assert (first, second) == ("/pagerduty", "/slack")
    assert page["payload"]["summary"] == "MLflowDown: MLflowDown happened"
    assert page["links"][0]["href"].endswith("/docs/runbooks/x.md#y")


def test_what_follows_from_a_cause_is_held_back(alerting: Alerting) -> None:
    flights = {"namespace": "models", "model": "flights"}
    alerting.fire(
        {"alertname": "ModelNotServed", "severity": "page", **flights},
        {"alertname": "ServingErrorBudgetBurn", "severity": "page", "window": "1h", **flights},
        {"alertname": "ServingErrorBudgetBurn", "severity": "ticket", "window": "1d", **flights},
        {"alertname": "Watchdog", "severity": "none"},
    )
    told = alerting.messages(2)
    assert [path for path, _ in told] == ["/pagerduty", "/slack"]
    assert all("ModelNotServed" in json.dumps(message) for _, message in told)


def test_a_workflow_that_says_why_it_failed_is_told_of_once(alerting: Alerting) -> None:
    send(alerting.url, "WorkflowFailed", "train-model-x", "fit: out of memory")
    alerting.fire({"alertname": "WorkflowFailed", "severity": "ticket", "namespace": "workflows", "phase": "Failed"})
    [(_, message)] = alerting.messages(1)
    [attachment] = message["attachments"]
    assert attachment["text"] == "WorkflowFailed: train-model-x\nfit: out of memory"
    assert attachment["title_link"].endswith("/docs/runbooks/workflows.md#workflowfailed")


def test_the_routes_are_valid() -> None:
    done = subprocess.run([program("amtool", INSTALL), "check-config", ROUTES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
