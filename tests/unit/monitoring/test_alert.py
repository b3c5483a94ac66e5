"""One alert to Alertmanager: what is posted, and what is said when nobody takes it."""

import json
from datetime import datetime

import pytest
from typer.testing import CliRunner

from plumbline.monitoring.alert import readable
from plumbline.monitoring.cli import app

NODES = json.dumps([{"displayName": "train", "message": "OOMKilled"}, {"displayName": "gate", "phase": "Failed"}])
LINES = "train: OOMKilled\ngate: Failed"


def call(url, text=NODES):
    options = ["--name", "WorkflowFailed", "--subject", "train-model-x", "--text", text, "--url", url]
    return CliRunner().invoke(app, ["alert", *options])


def test_an_alert_names_the_workflow_and_each_failed_node(alertmanager):
    result = call(alertmanager.url, text=json.dumps(NODES))
    assert result.exit_code == 0, result.output
    assert LINES in result.output
    (alert,) = alertmanager.alerts
    assert alert["labels"] == {"alertname": "WorkflowFailed", "subject": "train-model-x", "severity": "ticket"}
    assert alert["annotations"]["description"] == LINES
    assert datetime.fromisoformat(alert["startsAt"]) < datetime.fromisoformat(alert["endsAt"])


def test_an_alert_that_nobody_takes_is_said_and_may_be_tried_again(alertmanager):
    alertmanager.status = 400
    for result in (call(alertmanager.url), call("http://127.0.0.1:9")):
        assert result.exit_code == 1
        assert "did not take the alert" in result.output


@pytest.mark.parametrize("text", ["drift in 3 columns", "", "null", "[1]", '{"a": 1}'])
def test_other_text_is_sent_as_it_is(text):
    assert readable(text) == text
