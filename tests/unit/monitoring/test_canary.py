"""What a canary's verdict needs: the command's arithmetic is that of the analyses."""

from pathlib import Path

import pytest
import yaml
from analyses import judged

from plumbline.core.documents import DocumentError
from plumbline.monitoring.canary.plan import FEWEST, Rules, as_text, lower, plan, upper

SHARES = Path(__file__).parents[3] / "kustomize/model-server/analysis/shares.yaml"
VALUES = {"undecided": "wait", "patience": "600", "margin": "0.01"}
RULES = Rules((10, 50, 100), 30, 20, 360, 7200, "wait", 6600, 0.01, 200)


METRICS = {
    metric["name"]: metric
    for path in (SHARES, SHARES.with_name("gateway.yaml"))
    for metric in yaml.safe_load(path.read_text())["spec"]["metrics"]
}
BY_CALLER = ("error-share", "refusal-share")
"""Those that one caller alone does not decide."""


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_commands_bounds_are_those_of_the_analyses(metric):
    cases = [
        (failed, answers, of_stable, asked, margin)
        for answers in (1, 7, 10, 60, 268, 3000)
        for failed in {0, 1, answers // 20, answers // 5, answers}
        for asked in (10, 300)
        for of_stable in {0, asked // 10, asked}
        for margin in (0.01, 0.1)
    ]
    found = set()
    for failed, answers, of_stable, asked, margin in cases:
        counts = (failed, answers, of_stable, asked)
        more = failed - answers * of_stable / asked
        aborts = more >= FEWEST and lower(*counts) > margin
        expected = "Failed" if aborts else "Successful" if upper(*counts) < margin else "Inconclusive"
        nobody_else = [0.0] * 4 if metric["name"] in BY_CALLER else []
        assert judged(metric, VALUES, [*counts, margin, 60.0, *nobody_else]) == expected, counts
        found.add(expected)
    assert found == {"Failed", "Successful", "Inconclusive"}


@pytest.mark.parametrize("name", BY_CALLER)
@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ((0, 0, 0, 0), "Failed"),  # nobody else asks
        ((0, 60, 0, 60), "Inconclusive"),
        ((1, 60, 0, 60), "Inconclusive"),
        ((1, 1, 0, 20), "Failed"),  # one more caller, and it fails for that one too
        ((30, 60, 0, 60), "Failed"),
        ((30, 60, 30, 60), "Inconclusive"),  # the others fail of stable as well
    ],
)
def test_one_caller_alone_aborts_nothing(name, others, verdict):
    assert judged(METRICS[name], VALUES, [40, 100, 0, 100, 0.01, 60.0, *others]) == verdict


def test_ten_of_ten_are_enough_to_abort_and_not_to_promote():
    assert plan(RULES, 0.5, 0).dead <= 10
    assert plan(RULES, 0.5, 0).steps[0].answers == 268


def test_a_ladder_that_its_traffic_can_not_pass_in_time_is_said_with_what_happens_then():
    slow = plan(RULES, 0.1, 0)
    assert [step.decided for step in slow.steps] == [False, True, True]
    assert "NOT IN TIME, a person is paged" in as_text("flights", "production", 0.1, RULES, slow)
    fast = plan(RULES, 100, 0)
    assert all(step.decided for step in fast.steps)
    assert [step.seconds for step in fast.steps] == [70, 70, 70]
    assert sum(step.seconds for step in plan(RULES, 1, 0).steps) > 2000


def test_what_fails_of_stable_too_needs_more_answers():
    assert plan(RULES, 100, 0.02).steps[0].answers > 2 * plan(RULES, 100, 0).steps[0].answers


def test_objects_without_the_analysis_are_refused_by_name():
    with pytest.raises(DocumentError, match="flights-server"):
        Rules.of([], "flights")
