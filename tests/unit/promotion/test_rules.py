"""Every rule passes, refuses and is inconclusive where it should be; nothing that is missing passes."""

import math
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from plumbline.core.errors import Inconclusive, Refused
from plumbline.core.metrics.clusters import Difference
from plumbline.core.names import SemVer
from plumbline.promotion.delivery.documents import Barred, Override
from plumbline.promotion.gate.comparison import Against, Comparisons
from plumbline.promotion.gate.gate import Judgement
from plumbline.promotion.gate.holdout import Parity
from plumbline.promotion.gate.rules import Evidence, Standing, judge, repository_of
from plumbline.promotion.gate.verdict import Verdict, worst
from plumbline.promotion.policy import Environment, Rules
from plumbline.promotion.registry.lifecycle import Lifecycle
from plumbline.training.report import Interval, Period, Report, Slice

DIGEST = "sha256:" + "a" * 64
SLICES = "roc_auc of every carrier (value)"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
RULES = Rules.model_validate(
    {
        "images": ["ghcr.io/plumbline/model-server"],
        "metrics": [{"metric": "roc_auc", "bound": "low", "min": 0.6}, {"metric": "log_loss", "max": 0.6}],
        "beats_baseline": {"metric": "log_loss", "by": 0.01},
        "champion": {"metric": "log_loss", "margin": 0.01},
        "slices": [{"column": "carrier", "metric": "roc_auc", "min": 0.55, "min_rows": 100}],
        "without_views": [{"view": "weather", "metric": "log_loss", "bound": "high", "max": 0.6}],
        "latency_p95_ms": 5,
        "size_mb": 5,
        "parity": {"max_abs_difference": 1e-5},
        "card": ["owner"],
    }
)
STAGING = Environment(lifecycle=Lifecycle.STAGING)
PRODUCTION = Environment(lifecycle=Lifecycle.PRODUCTION, approval=True, after="staging")


def at(value: float, spread: float = 0.01) -> Interval:
    return Interval(value=value, low=value - spread, high=value + spread)


def part(value: str, auc: float, rows: int = 200) -> Slice:
    return Slice(column="carrier", value=value, rows=rows, metrics={"roc_auc": at(auc)})


REPORT = Report(
    model="toy",
    metrics={"roc_auc": at(0.7), "log_loss": at(0.5)},
    baseline={"log_loss": at(0.6)},
    slices=(part("UA", 0.7), part("DL", 0.6), part("tiny", 0.1, rows=3)),
    threshold=0.5,
    train=Period(first=date(2013, 1, 1), last=date(2013, 8, 31), rows=10),
    test=Period(first=date(2013, 9, 1), last=date(2013, 12, 31), rows=10),
)
EVIDENCE = Evidence(
    report=REPORT,
    metrics=REPORT.metrics,
    slices=REPORT.slices,
    without_views={"weather": {"log_loss": at(0.55)}},
    parity=Parity(1e-7, 10_000),
    p95_ms=0.1,
    peak_mb=12,
    bytes=1_000_000,
    card={"owner": "Ada"},
    card_rendered=True,
    code_dirty=False,
    integrity="",
)
STANDING = Standing(
    version=SemVer(1, 1, 0),
    lifecycle=Lifecycle.NONE,
    rejected="",
    barred=None,
    digest=DIGEST,
    image="ghcr.io/plumbline/model-server:1@" + DIGEST,
    approved="",
    unapproved="",
    served=SemVer(1, 0, 0),
    served_before="",
    again="",
    after_done=True,
)
BARRED = Barred(model="toy", version="v1.1.0", digest=DIGEST, metric="error-rate", reason="20 % of 5xx", at=NOW)
APPROVED = "Ada for production on 2026-01-02: fine"


SAME = Against("v1.0.0", Difference(0.5, 0.5, 0.0, 0.002, 60), rows=1000)
COMPARED = Comparisons(
    by="day",
    clusters=60,
    fault="",
    tries=1,
    baseline=Difference(0.5, 0.6, -0.1, 0.01, 60),
    constant=Difference(0.5, 0.65, -0.15, 0.01, 60),
    champion=SAME,
)


def report(**changes: Any) -> Report:
    return REPORT.model_copy(update=changes)


def metrics(**values: float) -> dict[str, Interval]:
    return REPORT.metrics | {name: at(value) for name, value in values.items()}


def verdicts(
    evidence: Evidence, standing: Standing, environment: Environment = STAGING, compared: Comparisons = COMPARED
) -> dict[str, Verdict]:
    found = judge(RULES, environment, evidence, standing, compared)
    return {verdict.rule: verdict for verdict in found if verdict.outcome != "pass"}


def test_where_git_has_the_models_folder_its_rows_are_judged_on() -> None:
    """The run's own word is believed of a model alone of which git knows nothing."""
    defined = replace(STANDING, defined=True)
    assert verdicts(EVIDENCE, STANDING) == {}
    assert verdicts(replace(EVIDENCE, rows_of=DIGEST), defined) == {}
    assert verdicts(EVIDENCE, defined)["rows judged on"].outcome == "refused"


def test_a_good_version_passes_every_rule() -> None:
    assert verdicts(EVIDENCE, STANDING) == {}
    first = replace(COMPARED, champion=None)
    assert verdicts(EVIDENCE, replace(STANDING, served=None), compared=first) == {}, "the first release"
    in_staging = replace(STANDING, lifecycle=Lifecycle.STAGING, approved=APPROVED)
    assert verdicts(EVIDENCE, in_staging, PRODUCTION) == {}


@pytest.mark.parametrize(
    ("found", "outcome", "value"),
    [
        ({"weather": {"log_loss": at(0.595)}}, "refused", "0.605"),
        ({"weather": {"roc_auc": at(0.7)}}, "inconclusive", "nan"),
        ({}, "inconclusive", "nan"),
    ],
)
def test_a_model_that_is_worse_than_allowed_without_a_view_is_refused(
    found: dict[str, dict[str, Interval]], outcome: str, value: str
) -> None:
    (verdict,) = verdicts(replace(EVIDENCE, without_views=found), STANDING).values()
    assert (verdict.rule, verdict.outcome, verdict.limit) == ("log_loss without weather (high)", outcome, "≤ 0.6")
    assert verdict.value == value


def test_metrics_that_are_as_reported_share_a_line_and_one_that_is_not_has_its_own() -> None:
    def lines(**found: float) -> list[tuple[str, str]]:
        evidence = replace(EVIDENCE, metrics=metrics(**found))
        return [
            (item.rule, item.value)
            for item in judge(RULES, STAGING, evidence, STANDING, COMPARED)
            if "recomputed" in item.rule
        ]

    assert lines() == [("recomputed", "roc_auc, log_loss")]
    assert lines(roc_auc=0.6) == [("roc_auc recomputed", "0.6"), ("recomputed", "log_loss")]


@pytest.mark.parametrize("name", ["roc_auc", "log_loss"])
@pytest.mark.parametrize("bend", [{"value": 0.99}, {"low": 0.99}, {"high": 0.99}, {"low": -1.0}, {"high": math.nan}])
def test_a_bent_figure_of_the_report_is_refused_and_not_judged(name: str, bend: dict[str, float]) -> None:
    bent = REPORT.metrics | {name: REPORT.metrics[name].model_copy(update=bend)}
    assert [
        verdict.outcome for verdict in verdicts(replace(EVIDENCE, report=report(metrics=bent)), STANDING).values()
    ] == ["refused"]
    poor = verdicts(replace(EVIDENCE, report=report(metrics=bent), metrics=metrics(roc_auc=0.31)), STANDING)
    assert poor["roc_auc (low)"].value == "0.3"


@pytest.mark.parametrize(
    ("change", "rule", "outcome"),
    [
        ({"integrity": "model.onnx changed"}, "digest and signature", "refused"),
        ({"metrics": metrics(roc_auc=0.605)}, "roc_auc (low)", "refused"),
        ({"metrics": metrics(roc_auc=math.nan)}, "roc_auc (low)", "inconclusive"),
        ({"metrics": metrics(log_loss=math.inf)}, "log_loss (value)", "inconclusive"),
        ({"metrics": {"log_loss": at(0.5)}}, "roc_auc (low)", "inconclusive"),
        ({"metrics": metrics(roc_auc=0.65)}, "roc_auc recomputed", "refused"),
        ({"metrics": metrics(roc_auc=math.nan)}, "roc_auc recomputed", "inconclusive"),
        ({"metrics": {"other": at(1.0)}}, "recomputed", "inconclusive"),
        ({"report": report(test=REPORT.train)}, "tested after training", "refused"),
        (
            {"slices": (part("UA", 0.5),)},
            "roc_auc of every carrier (value)",
            "refused",
        ),
        (
            {"slices": (part("UA", math.nan),)},
            "roc_auc of every carrier (value)",
            "inconclusive",
        ),
        ({"slices": ()}, SLICES, "inconclusive"),
        ({"p95_ms": 5.1}, "one row, p95 (ms)", "refused"),
        ({"peak_mb": 301}, "memory to load it (MB)", "refused"),
        ({"bytes": 5_000_001}, "size (MB)", "refused"),
        ({"parity": Parity(2e-5, 10_000)}, "ONNX parity on 10,000 rows", "refused"),
        ({"parity": Parity(math.nan, 10_000)}, "ONNX parity on 10,000 rows", "inconclusive"),
        ({"card": {"owner": "  "}}, "model card", "refused"),
        ({"card_rendered": False}, "model card", "refused"),
        ({"code_dirty": True}, "code committed", "refused"),
    ],
)
def test_evidence(change: dict[str, Any], rule: str, outcome: str) -> None:
    found = verdicts(replace(EVIDENCE, **change), STANDING)
    assert found[rule].outcome == outcome
    assert found[rule].fix, "says what to do"


@pytest.mark.parametrize(
    ("change", "rule", "outcome"),
    [
        ({"barred": BARRED}, "not barred", "refused"),
        ({"rejected": "error-rate"}, "not barred", "refused"),
        ({"lifecycle": Lifecycle.ARCHIVED, "rejected": "x"}, "life cycle", "refused"),
        ({"served_before": "b" * 40}, "moves forward", "refused"),
        ({"served": SemVer(1, 2, 0)}, "moves forward", "refused"),
        ({"image": "docker.io/evil/model-server@" + DIGEST}, "image", "refused"),
        ({"image": "ghcr.io/plumbline/model-server-evil@" + DIGEST}, "image", "refused"),
    ],
)
def test_standing(change: dict[str, Any], rule: str, outcome: str) -> None:
    found = verdicts(EVIDENCE, replace(STANDING, **change))
    assert found[rule].outcome == outcome
    assert found[rule].fix


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({}, {"life cycle", "approval"}),
        ({"lifecycle": Lifecycle.STAGING}, {"approval"}),
        ({"lifecycle": Lifecycle.ARCHIVED, "approved": APPROVED}, set()),
        ({"lifecycle": Lifecycle.STAGING, "approved": APPROVED, "after_done": False}, {"served in staging first"}),
        ({"lifecycle": Lifecycle.STAGING, "unapproved": "is of something else"}, {"approval"}),
    ],
)
def test_production(change: dict[str, Any], rules: set[str]) -> None:
    assert set(verdicts(EVIDENCE, replace(STANDING, **change), PRODUCTION)) == rules


def test_a_written_reason_opens_what_was_closed() -> None:
    override = Override(by="Ada", reason="the metric was wrong", at=NOW)
    opened = replace(STANDING, barred=BARRED.model_copy(update={"override": override}), rejected="error-rate")
    assert verdicts(EVIDENCE, opened) == {}
    assert verdicts(EVIDENCE, replace(STANDING, served_before="b" * 40, again="fixed downstream")) == {}


def test_the_worst_verdict_counts() -> None:
    one, two, three = (Verdict("r", "v", "l", outcome) for outcome in ("pass", "inconclusive", "refused"))
    assert (worst((one,)), worst((one, two)), worst((one, two, three))) == ("pass", "inconclusive", "refused")


def test_a_report_says_no_in_the_right_way() -> None:
    def judgement(*found: Verdict) -> Judgement:
        return Judgement("toy", "v1.1.0", DIGEST, "staging", "", "", DIGEST, found)

    passed, missing, refused = (
        Verdict("rule | one", "v\n", "l", outcome, "do this") for outcome in ("pass", "inconclusive", "refused")
    )
    judgement(passed).require()
    with pytest.raises(Inconclusive):
        judgement(passed, missing).require()
    with pytest.raises(Refused, match="rule"):
        judgement(passed, missing, refused).require()
    assert judgement(passed).sha256() != judgement(missing).sha256()
    cells = [cell.strip() for cell in judgement(passed).table().splitlines()[2].split("|")]
    assert cells == ["", "rule / one", "v", "l", "pass", ""]


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("a.io/x/y@sha256:1", "a.io/x/y"),
        ("a.io:5000/x/y:1.0@sha256:1", "a.io:5000/x/y"),
        ("a.io:5000/x@sha256:1", "a.io:5000/x"),
    ],
)
def test_repositories(image: str, repository: str) -> None:
    assert repository_of(image) == repository
