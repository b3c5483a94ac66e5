"""What the analyses say of good and bad canaries: rendered queries, a real Prometheus, the server's own counters."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from analyses import Analysis
from prometheus import Prometheus, prometheus

from bundles import Kind, model_bytes, schema_of
from plumbline.serving.inference.model import Matrix, Model, load_model
from plumbline.serving.inference.profile import Profile
from plumbline.serving.metrics import OUTCOMES, Metrics, outcome_of

NOW = time.time() - 3600
SCRAPE, SECONDS = 5, 60
ROUTE = "/v1/predict"
Spoil = Callable[[Matrix, Matrix, np.random.Generator], tuple[Matrix, Matrix]]


@dataclass(frozen=True)
class Pods:
    """What one version does with its callers. `spoil` is given rows and answers of a second, and changes either."""

    seed: int = 1
    kind: Kind = "binary"
    per_second: int = 10
    seconds: float = 0.004
    errors: float = 0.0
    excused: float = 0.0
    """The share that is refused because more is asked than the pods carry."""
    refused: float = 0.0
    spoil: Spoil = lambda rows, answers, _: (rows, answers)


def _exchanged(rows: Matrix, answers: Matrix, generator: np.random.Generator) -> tuple[Matrix, Matrix]:
    return rows, generator.permutation(answers)


def _other_columns(rows: Matrix, _: Matrix, __: np.random.Generator) -> tuple[Matrix, Matrix]:
    """The caller's rows, answered as if their columns stood in another order."""
    return rows, MODELS["binary", 1].run(np.ascontiguousarray(rows[:, ::-1]))


def _two_callers(rows: Matrix, _: Matrix, __: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Two rows, again and again: each field says which of them it was, and nothing else."""
    rows = np.where(rows[:, :1] > 3000, _rows(np.random.default_rng(0), 1), _rows(np.random.default_rng(1), 1))
    return rows, MODELS["binary", 0].run(rows)


STABLE = {
    "stable": Pods(seed=0, per_second=90),
    "stable-value": Pods(seed=0, per_second=90, kind="regression"),
    "stable-two": Pods(seed=0, per_second=90, spoil=_two_callers),
}
CANARIES = {
    "good": Pods(),
    "good-value": Pods(kind="regression"),
    "good-at-full-weight": Pods(per_second=100),
    "failing": Pods(errors=0.2),
    "dead": Pods(errors=1.0),
    "refusing": Pods(refused=1.0),
    "slow": Pods(seconds=0.504),
    "permuted": Pods(spoil=_exchanged),
    "permuted-value": Pods(kind="regression", spoil=_exchanged),
    "other-columns": Pods(spoil=_other_columns),
    "constant": Pods(spoil=lambda rows, answers, _: (rows, np.full_like(answers, 0.5))),
    "turned-round": Pods(spoil=lambda rows, answers, _: (rows, np.ascontiguousarray(answers[:, ::-1]))),
    "moved": Pods(spoil=lambda rows, answers, _: (rows, np.float32(0.6) * answers + np.array([[0.4, 0]], np.float32))),
    "two-callers": Pods(spoil=_two_callers),
    "one-row-only": Pods(spoil=lambda rows, answers, _: (np.repeat(rows[:1] * 0, len(rows), 0), answers)),
    "silent": Pods(per_second=0),
    "overloaded": Pods(excused=0.3),
    "overloaded-a-little": Pods(excused=0.03),
    "overloaded-and-failing": Pods(excused=0.9, errors=0.2, per_second=100),
    "stable-overloaded": Pods(seed=0, per_second=90, excused=0.3),
}
NOT_SERVERS = ("replay", "lost-share")
"""Metrics of others than the servers: below, and in tests/verdicts."""
MODELS: dict[tuple[Kind, int], Model] = {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped all these pods every SCRAPE seconds, up to NOW."""
    folder = tmp_path_factory.mktemp("history")
    kinds: tuple[Kind, ...] = ("binary", "regression")
    for kind, seed in product(kinds, (0, 1)):
        path = folder / f"{kind}-{seed}.onnx"
        path.write_bytes(model_bytes(kind, seed))
        MODELS[kind, seed] = load_model(path, schema_of(kind), 1, lambda _: None)
    families: dict[str, list[str]] = defaultdict(list)
    for number, (name, pods) in enumerate((STABLE | CANARIES).items()):
        _serve(name, pods, np.random.default_rng(number), families)
    history = "\n".join(line for lines in families.values() for line in lines) + "\n# EOF\n"
    with prometheus(folder, history) as running:
        yield running


def _serve(name: str, pods: Pods, generator: np.random.Generator, families: dict[str, list[str]]) -> None:
    metrics = Metrics()
    metrics.bind("delays", f"v1.{pods.seed}.0", "stable")
    profile = Profile(schema_of(pods.kind), metrics)
    latency = metrics.of(metrics.latency, route=ROUTE)
    for outcome in OUTCOMES:
        metrics.of(metrics.predictions, route=ROUTE, outcome=outcome)
    for second in range(SECONDS + 1):
        if second % SCRAPE == SCRAPE - 1:  # what is seen first is not nothing
            for sample in (sample for family in metrics.registry.collect() for sample in family.samples):
                labels = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
                series = f'{sample.name}{{template_hash="{name}",{labels}}}'
                families[sample.name].append(f"{series} {sample.value} {NOW - SECONDS + second:.0f}")
            families["up"].append(f'up{{template_hash="{name}"}} 1 {NOW - SECONDS + second:.0f}')
        rows = _rows(generator, pods.per_second)
        rows, answers = pods.spoil(rows, MODELS[pods.kind, pods.seed].run(rows), generator)
        for row, answer in zip(rows, answers.tolist(), strict=True):
            status = "500" if generator.random() < pods.errors else "200"
            if pods.excused and generator.random() < pods.excused:
                status = "503"
            if generator.random() < pods.refused:
                status = "422"
            outcome = "excused" if status == "503" else outcome_of(int(status))
            metrics.of(metrics.predictions, route=ROUTE, outcome=outcome).inc()
            latency.observe(pods.seconds * generator.uniform(0.5, 1.5))
            profile.add(row[np.newaxis], np.array([answer], np.float32))


def _rows(generator: np.random.Generator, count: int) -> Matrix:
    columns = [generator.uniform(0, 6000, count), *(generator.integers(0, most, count) for most in (24, 4, 2))]
    return np.stack([*columns, generator.uniform(0, 40, count)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    """As the local environment has it."""
    return Analysis.of("local")


@pytest.fixture
def judge(server: Prometheus, analysis: Analysis) -> Callable[..., dict[str, str]]:
    """{metric: phase} of one measurement, as Argo Rollouts would make it."""

    def run(canary: str, stable: str = "stable", at: float = NOW) -> dict[str, str]:
        metrics = {metric["name"]: metric for metric in analysis.metrics if metric["name"] not in NOT_SERVERS}
        return {name: analysis.measured(server, metric, canary, stable, at) for name, metric in metrics.items()}

    return run


@pytest.mark.parametrize("canary", ["good", "good-at-full-weight"])
def test_a_good_canary_passes_everything(judge: Callable[..., dict[str, str]], canary: str) -> None:
    assert set(judge(canary).values()) == {"Successful"}


def test_a_good_regression_passes_everything(judge: Callable[..., dict[str, str]]) -> None:
    assert set(judge("good-value", "stable-value").values()) == {"Successful"}


@pytest.mark.parametrize(
    ("canary", "stable", "caught"),
    [
        ("failing", "stable", {"error-share"}),
        ("refusing", "stable", {"refusal-share"}),
        ("slow", "stable", {"p95", "p95-above-stable"}),
        ("permuted", "stable", {"agreement"}),
        ("permuted-value", "stable-value", {"agreement"}),
        ("other-columns", "stable", {"agreement", "score-shift"}),
        ("constant", "stable", {"agreement", "score-shift"}),
        ("turned-round", "stable", {"agreement"}),
        ("moved", "stable", {"score-shift"}),
    ],
)
def test_a_bad_canary_is_caught_by_what_it_does_wrong(
    judge: Callable[..., dict[str, str]], canary: str, stable: str, caught: set[str]
) -> None:
    phases = judge(canary, stable)
    assert {name for name, phase in phases.items() if phase == "Failed"} == caught
    assert set(phases.values()) == {"Failed", "Successful"}


def test_a_young_canary_is_neither_good_nor_bad(judge: Callable[..., dict[str, str]]) -> None:
    """A hundred answers are not enough for any share; a tenth of them was enough to abort."""
    phases = judge("good", at=NOW - SECONDS + 15)
    # Where more is borne, less is enough, and the agreement has a minimum of its own.
    assert {name for name, phase in phases.items() if phase != "Inconclusive"} <= {
        "agreement",
        "p95",
        "excused-above-stable",
    }
    assert judge("dead", at=NOW - SECONDS + 15)["error-share"] == "Failed"


@pytest.mark.parametrize("canary", ["silent", "unknown"])
def test_without_answers_there_is_no_verdict(judge: Callable[..., dict[str, str]], canary: str) -> None:
    assert set(judge(canary).values()) == {"Inconclusive"}


def test_without_stable_nothing_is_compared(judge: Callable[..., dict[str, str]]) -> None:
    phases = judge("good", "unknown")
    assert {name for name, phase in phases.items() if phase != "Inconclusive"} == {"restarts"}
    assert set(judge("dead", "unknown").values()) <= {"Inconclusive", "Successful"}


@pytest.mark.parametrize(
    ("canary", "stable", "answers", "excused"),
    [
        ("overloaded", "stable-overloaded", "Successful", "Successful"),
        ("overloaded", "stable", "Successful", "Failed"),
        ("overloaded-a-little", "stable", "Successful", "Successful"),
        ("overloaded-and-failing", "stable-overloaded", "Failed", "Failed"),
        ("good", "stable-overloaded", "Successful", "Successful"),
    ],
)
def test_more_load_than_pods_carry_is_no_fault_unless_the_canarys_alone(
    judge: Callable[..., dict[str, str]], canary: str, stable: str, answers: str, excused: str
) -> None:
    phases = judge(canary, stable)
    assert (phases["error-share"], phases["excused-above-stable"]) == (answers, excused)


def test_equal_rows_can_not_show_an_agreement(judge: Callable[..., dict[str, str]]) -> None:
    assert judge("one-row-only")["agreement"] == "Inconclusive"


def test_what_five_fields_say_alike_counts_once(judge: Callable[..., dict[str, str]]) -> None:
    """An eighth of standard error takes 64 rows, not a fifth of them: the first scrape has 50, the second 100."""
    agreement = [judge("two-callers", "stable-two", NOW - SECONDS + age)["agreement"] for age in (5, 10)]
    assert agreement == ["Inconclusive", "Successful"]


def test_every_measurement_ends(analysis: Analysis) -> None:
    """Three good looks in a row, one bad one, or the looks end: a `count` alone would promote on empty ones."""
    assert len(analysis.metrics) == 10
    for metric in analysis.metrics:
        limits = [metric[name] for name in ("consecutiveSuccessLimit", "failureLimit", "inconclusiveLimit", "count")]
        assert limits == [3, 0, "{{args.looks}}", 100000], "Argo Rollouts reads no argument as a count"


REPLAYED = {
    "as signed": ({"replayed_rows": 300}, "Successful"),
    "as signed, by few": ({"replayed_rows": 99}, "Inconclusive"),
    "not checked": (None, "Inconclusive"),
    "checked an hour ago": ({"replayed_rows": 300, "checked_timestamp_seconds": NOW - 3600}, "Inconclusive"),
    "two of other rows": ({"replayed_rows": 300, "different_rows": 2}, "Failed"),
    "two of few": ({"replayed_rows": 20, "different_rows": 2}, "Failed"),
    "one": ({"replayed_rows": 300, "different_rows": 1}, "Inconclusive"),
    "a caller's": ({"replayed_rows": 300, "different_rows": 9, "different_of_one_caller": 1}, "Inconclusive"),
    "stable's too": ({"replayed_rows": 300, "different_rows": 9, "stable_different_rows": 7}, "Inconclusive"),
    "not as the gate saw": ({"replayed_rows": 300, "unexpected": 1}, "Inconclusive"),
}


def test_a_replay_decides_by_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    production = Analysis.of("production")
    (metric,) = (metric for metric in production.metrics if metric["name"] == "replay")
    values: dict[str, list[str]] = defaultdict(list)
    for number, (figures, _) in enumerate(REPLAYED.values()):
        of = f'model="delays",version="v{number}"'
        values["up"].append(f'up{{template_hash="{number}"}} 1 {NOW - 20:.0f}')
        values["serving_ready"].append(f'serving_ready{{template_hash="{number}",{of}}} 1 {NOW - 20:.0f}')
        defaults = {"different_rows": 0, "different_of_one_caller": 0, "stable_different_rows": 0, "unexpected": 0}
        shown = {} if figures is None else {**defaults, "checked_timestamp_seconds": NOW - 60, **figures}
        for name, value in shown.items():
            values[f"monitoring_canary_{name}"].append(f"monitoring_canary_{name}{{{of}}} {value} {NOW - 20:.0f}")
    history = "\n".join(line for lines in values.values() for line in lines) + "\n# EOF\n"
    with prometheus(tmp_path_factory.mktemp("replayed"), history) as server:
        phases = [production.measured(server, metric, str(number), "stable", NOW) for number in range(len(REPLAYED))]
        lenient = Analysis(production.metrics, {**production.values, "replayed-rows": "0"})
        local = [lenient.measured(server, metric, str(number), "stable", NOW) for number in range(len(REPLAYED))]
    assert dict(zip(REPLAYED, phases, strict=True)) == {name: phase for name, (_, phase) in REPLAYED.items()}
    assert [name for name, phase in zip(REPLAYED, local, strict=True) if phase == "Failed"] == [
        "two of other rows", "two of few",
    ]  # fmt: skip
    assert local[2] == "Successful", "an environment may leave it to the other metrics"
