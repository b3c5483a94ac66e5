"""What the runbooks tell a person to look at can be looked at: every reading command is run as it stands there."""

import shlex

import pytest
from rollouts import MODEL, NAMESPACE
from runbooks import commands, is_read

from harness.kubectl import Kubectl

pytestmark = pytest.mark.timeout(300)
READS = sorted({command.split(" | ")[0] for _, command in commands() if is_read(command)})


def test_every_command_that_reads_is_answered(kubectl: Kubectl, served: None) -> None:
    pods = kubectl.get("pods", *NAMESPACE, f"--selector=plumbline.dev/model={MODEL}")["items"]
    values = {"<model>": MODEL, "<pod>": pods[0]["metadata"]["name"], "<namespace>": "models"}
    assert READS
    refused = []
    for command in READS:
        for placeholder, value in values.items():
            command = command.replace(placeholder, value)
        if not kubectl.try_run(*shlex.split(command)[1:]):
            refused.append(command)
    assert refused == []
