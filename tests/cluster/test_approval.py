"""Production's rules on the running platform: nothing is served for which nobody answers; an experiment by caller."""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rollouts
import servers
from approvals import Approver, approvers
from person import Person
from rollouts import MODEL, NAMESPACE
from traffic import Traffic
from workstation import Workstation

from harness import applications
from harness.kubectl import Kubectl
from harness.processes import wait_until
from plumbline.promotion.delivery.approval import APPROVERS

pytestmark = pytest.mark.timeout(900)
ADA = Approver("Ada")
_FOLDER = f"clusters/local/models/{MODEL}"
_SERVER = "  - ../../model-server\n"
_ADMISSION = "  - ../../../policies/admission\n"
_ENVIRONMENT = "    local:\n"
# (file, a line of it, the line and what production has after it)
_EXPERIMENT = (
    f"{_FOLDER}/kustomization.yaml",
    (_SERVER, f"{_SERVER}  - ../../../../policies/experiments/{MODEL}\n"),
)
_PRODUCTION = (
    (
        "clusters/local/admission/kustomization.yaml",
        (_ADMISSION, f"{_ADMISSION}  - ../../../policies/admission/guarded\n"),
    ),
    (f"policies/promotion/{MODEL}.yaml", (_ENVIRONMENT, f"{_ENVIRONMENT}      approval: true\n")),
)


@pytest.fixture
def as_production(kubectl: Kubectl, person: Person, stable: str) -> Iterator[None]:
    """The environment asks for an approval and tries a release on a fifth of the callers first."""

    def waits() -> bool:
        return _asked_at(kubectl) is not None

    person.edit(*_EXPERIMENT)
    # The release that is served now was never approved: once the rule stands, nothing about it can be changed.
    wait_until("the experiment's steps", waits, seconds=120)
    person.write(APPROVERS, approvers(ADA.entry("local")))
    for change in _PRODUCTION:
        person.edit(*change)
    rule = ("get", "validatingadmissionpolicybinding", "release.plumbline.dev")
    wait_until("production's rules", lambda: kubectl.try_run(*rule), seconds=120)
    yield
    person.revert()
    wait_until("the rules to go", lambda: not kubectl.try_run(*rule), seconds=120)
    wait_until("the experiment to go", lambda: not waits(), seconds=120)


def test_an_approved_release_is_tried_by_a_fifth_of_the_callers(
    kubectl: Kubectl,
    desk: Workstation,
    person: Person,
    as_production: None,
    stable: str,
    open_gateway: Callable[..., Traffic],
    bodies: list[str],
    tmp_path: Path,
) -> None:
    """Refused by the gate, and by admission where somebody commits it past the gate, until it is approved.

    Then each caller stays in one arm, 80/20, until a person has seen enough; the registry follows what runs.
    """
    before = desk.release(MODEL)
    assert before is not None
    version, image = desk.train(MODEL), servers.another("none")
    with pytest.raises(AssertionError, match="approval: nobody approved it"):
        desk.promote(MODEL, version, image)

    release = f"{_FOLDER}/release.yaml"
    (signed,) = re.findall("approvedBy: .*", (person.folder / release).read_text())
    unsigned = (signed, 'approvedBy: ""')
    past_the_gate = person.edit(release, unsigned, (f"image: {stable}", f"image: {image}"))
    wait_until("the refusal", lambda: "nobody approved the release" in applications.complaints(kubectl), seconds=120)
    assert rollouts.phase(kubectl) == (stable, "Healthy")
    person.revert(past_the_gate)
    wait_until("the commit that mends it", lambda: not applications.complaints(kubectl), seconds=120)

    about = (f"--model={MODEL}", f"--version={version}", "--env=local", f"--image={image}", "--reason=read the card")
    mallory = Approver("Mallory").key(tmp_path)
    with pytest.raises(AssertionError, match="not made with a key that is trusted here"):
        desk.run("promote", "approve", *about, PROMOTION_APPROVER_KEY=str(mallory))
    # As a person hands it to the Workflow's form, whose next pod commits it.
    line = desk.run("promote", "approve", *about, "--detached", PROMOTION_APPROVER_KEY=str(ADA.key(tmp_path)))
    desk.run("promote", "approve", *about[:4], f"--signed={line.strip()}")
    desk.promote(MODEL, version, image)
    with open_gateway(callers=300) as traffic:
        wait_until("the experiment", lambda: _asks(kubectl), seconds=240)
        arms = arms_of(traffic, bodies, callers=300, calls=3)
        # As `kubectl argo rollouts promote --full` does.
        full = json.dumps({"status": {"promoteFull": True}})
        rollout = ("rollout", f"{MODEL}-server", *NAMESPACE)
        kubectl.run("patch", *rollout, "--subresource=status", "--type=merge", f"--patch={full}")
        rollouts.healthy(kubectl, image)

        def everywhere() -> bool:
            return set.union(*arms_of(traffic, bodies, callers=50, calls=1).values()) == {version}

        wait_until("the gateway to send every caller to the new version", everywhere, seconds=30)
    assert all(len(versions) == 1 for versions in arms.values()), "a caller was in both arms"
    shares = Counter(next(iter(versions)) for versions in arms.values())
    print(f"callers by version: {dict(shares)}")
    assert shares.keys() == {before.spec.version, version}
    assert abs(shares[version] / 300 - 0.2) < 4 * (0.2 * 0.8 / 300) ** 0.5
    assert {answer.status for answer in traffic.answers} == {200}
    rollouts.settled(kubectl, desk)
    assert desk.mlflow.get_model_version_by_alias(MODEL, "local").tags["semver"] == version


def _asked_at(kubectl: Kubectl) -> int | None:
    """The step of the Rollout that asks for the experiment's verdict, if it has one."""
    steps = rollouts.rollout(kubectl)["spec"]["strategy"]["canary"]["steps"]
    asked = [[item["templateName"] for item in step.get("analysis", {}).get("templates", [])] for step in steps]
    return asked.index([f"{MODEL}-experiment"]) if [f"{MODEL}-experiment"] in asked else None


def _asks(kubectl: Kubectl) -> bool:
    """Whether the canary has come so far."""
    return bool(rollouts.rollout(kubectl)["status"].get("currentStepIndex") == _asked_at(kubectl))


def arms_of(gateway: Traffic, bodies: list[str], callers: int, calls: int) -> dict[str, set[str]]:
    """{caller: the versions that answered}."""
    arms = defaultdict(set)
    for _ in range(calls):
        for caller in (f"caller-{number}" for number in range(callers)):
            status, answer = gateway.ask(random.choice(bodies), {"x-subject": caller})
            assert status == 200
            arms[caller].add(json.loads(answer)["version"])
    return arms
