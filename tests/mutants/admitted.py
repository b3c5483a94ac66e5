"""What whoever writes to the cluster, or to kustomize/, sends to the API server past everything else."""

from dataclasses import dataclass

FOLDER = "policies/admission/examples/"


@dataclass(frozen=True)
class Sent:
    """An object that the API server must refuse, by one policy of production alone."""

    name: str
    """What it is."""
    file: str
    """Of policies/admission/examples, without `refused-` and `.yaml`."""

    @property
    def policy(self) -> str:
        return self.file.partition("/")[0]

    @property
    def path(self) -> str:
        folder, _, name = self.file.partition("/")
        return f"{FOLDER}{folder}/refused-{name}.yaml"


SENT = [
    Sent("a Workflow of one's own steps", "workflows/steps-of-its-own"),
    Sent("a Workflow that mounts the signing key", "workflows/volumes"),
    Sent("a Workflow under the account that signs", "workflows/account"),
    Sent("a Workflow whose pods are patched", "workflows/pod-spec-patch"),
    Sent("a trainer's Workflow that promotes", "workflows/trainer-promotes"),
    Sent("a Workflow whose stored template is changed on the way", "workflows/stored-template-on-the-way"),
    Sent("a server that believes another public key", "model-server/another-public-key"),
    Sent("a server's settings with another public key", "model-settings/another-public-key"),
    Sent("a server with a command of its own", "model-server/command"),
    Sent("a server that imports code from elsewhere", "model-server/python-path"),
    Sent("a debugger in a server's pod", "model-server/debugger"),
    Sent("another image in a running pod", "model-server/other-image-in-a-running-pod"),
    Sent("code beside the release", "model-settings/code-beside-the-release"),
    Sent("a model's traffic to a foreign host", "hosts/foreign-host"),
    Sent("a canary that nobody judges", "ladder/empty-analysis"),
    Sent("a header route that takes everybody", "ladder/route-to-everybody"),
    Sent("a release without a report of the gate", "release/no-gate-report"),
    Sent("a release that nobody approved", "release/not-approved"),
]
