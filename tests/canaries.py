"""Canaries and their callers, as the counters that Prometheus scrapes of their servers every five seconds."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from plumbline.serving.metrics import CALLERS, LATENCY, OUTCOMES

Floats = npt.NDArray[np.float64]
Generator = np.random.Generator
SCRAPE = 5
BEFORE = 60
"""Seconds of stable's traffic before the canary comes."""
ROUTES = ("/v1/predict", "/v1/predict/batch")
_EDGES = np.arange(1, 20) / 20


@dataclass(frozen=True)
class Callers:
    """What is asked in a canary's time, whichever version answers."""

    per_second: float = 17.0
    seconds: int = 300
    weights: tuple[tuple[int, float], ...] = ((0, 0.1),)
    """From which second on which share of the requests goes to the canary."""
    batches: float = 0.0
    """Share of requests that are batches of like rows."""
    batch_seconds: float = 0.02
    callers: int = 0
    """Uneven ones (Zipf), each with scores, errors, refusals and bursts of its own; 0 for requests that are alike."""
    sole: bool = False
    """Whether all requests come with one key."""
    errors: Callable[[Floats], Floats] = field(default=lambda at: np.zeros_like(at))
    """The share that fails of what is asked at a time, whoever answers."""


@dataclass(frozen=True)
class Pods:
    """What one version does by itself."""

    count: int = 1
    errors: float = 0.0
    refused: float = 0.0
    failing_one: float = 0.0
    """The share that fails of the requests of one group of callers."""
    refusing_one: float = 0.0
    excused: float = 0.0
    lost: float = 0.0
    """The share that the gateway answers with 503, since no pod is there."""
    slower: float = 0.0
    """Seconds."""
    throttled: float = 0.0
    """The share of the answers that take 150 ms more."""
    moved: float = 0.0
    """Of every score."""
    restarts: tuple[float, ...] = ()
    """When the server of each pod began again."""


STABLE = Pods(count=2)


@dataclass(frozen=True)
class Trial:
    """One canary beside stable."""

    callers: Callers = Callers()
    canary: Pods = Pods()
    stable: Pods = STABLE


@dataclass(frozen=True)
class _Requests:
    at: Floats
    batch: npt.NDArray[np.bool_]
    seconds: Floats
    failed: npt.NDArray[np.bool_]
    refused: npt.NDArray[np.bool_]
    score: Floats
    group: npt.NDArray[np.intp]
    canary: npt.NDArray[np.bool_]


def history(trials: Sequence[tuple[str, Trial, int]], now: float) -> str:
    """The OpenMetrics text of (name, trial, seed); a trial's hashes are `name` and `name-stable`, its end is `now`."""
    families: dict[str, list[str]] = defaultdict(list)
    for name, trial, seed in trials:
        generator = np.random.default_rng(seed)
        requests = _asked(trial.callers, generator)
        begin = now - trial.callers.seconds
        for side, pods, chosen in ((name, trial.canary, True), (f"{name}-stable", trial.stable, False)):
            _write(side, pods, requests, requests.canary == chosen, begin, generator, families)
    return "\n".join(line for lines in families.values() for line in lines) + "\n# EOF\n"


def _asked(callers: Callers, generator: Generator) -> _Requests:
    count = generator.poisson(callers.per_second * (callers.seconds + BEFORE))
    at = generator.uniform(-BEFORE, callers.seconds, count)
    batch = generator.random(count) < callers.batches
    score, fails, refusals = generator.beta(2, 5, count), np.zeros(count), np.zeros(count)
    factor = np.ones(count)
    group = np.zeros(count, dtype=np.intp) if callers.sole else generator.integers(0, CALLERS, count)
    if callers.callers:
        share = 1 / np.arange(1, callers.callers + 1)
        who = generator.choice(callers.callers, count, p=share / share.sum())
        # Each comes in bursts of half a minute.
        phase = generator.uniform(0, callers.seconds, (callers.callers, 1 + callers.seconds // 60))
        at = phase[who, generator.integers(0, phase.shape[1], count)] + generator.uniform(-15, 15, count)
        group = who % CALLERS
        score = np.clip(generator.beta(2, 5, callers.callers)[who] + generator.normal(0, 0.03, count), 0, 1)
        fails, refusals = (generator.beta(0.1, 4, callers.callers)[who] for _ in range(2))
        factor = generator.lognormal(0, 0.3, callers.callers)[who]
    took = generator.lognormal(np.log(0.004), 0.25, count) * factor
    took = np.where(batch, callers.batch_seconds * generator.lognormal(0, 1, count), took)
    weight = np.select([at >= since for since, _ in reversed(callers.weights)],
                       [share for _, share in reversed(callers.weights)], 0.0)  # fmt: skip
    return _Requests(
        at=at, batch=batch, seconds=took, score=score, group=group,
        failed=generator.random(count) < np.maximum(fails, callers.errors(at)),
        refused=generator.random(count) < refusals, canary=generator.random(count) < weight,
    )  # fmt: skip


def _write(
    side: str, pods: Pods, asked: _Requests, ours: npt.NDArray[np.bool_], begin: float, generator: Generator,
    families: dict[str, list[str]],
) -> None:  # fmt: skip
    count = len(asked.at)
    one = asked.group == 0
    outcome = np.select(
        [generator.random(count) < pods.excused,
         asked.refused | (generator.random(count) < np.where(one, pods.refusing_one, 0) + pods.refused),
         asked.failed | (generator.random(count) < np.where(one, pods.failing_one, 0) + pods.errors)],
        [OUTCOMES.index(name) for name in ("excused", "refused", "failed")], OUTCOMES.index("answered"),
    )  # fmt: skip
    took = asked.seconds + pods.slower + np.where(generator.random(count) < pods.throttled, 0.15, 0)
    took = np.where(outcome == OUTCOMES.index("answered"), took, 0.0008)
    score = np.clip(asked.score + pods.moved, 0, 1)
    pod = generator.integers(0, pods.count, count)
    lost = generator.random(count) < pods.lost
    _seen_by_the_gateway(side, asked, ours, np.where(lost, OUTCOMES.index("failed"), outcome), begin, families)
    ours = ours & ~lost
    first = 0.0 if side.removesuffix("-stable") == side else -float(BEFORE)
    for number in range(pods.count):
        mine = np.flatnonzero(ours & (pod == number))
        mine = mine[np.argsort(asked.at[mine])]
        scrapes = np.arange(first + generator.uniform(0, SCRAPE), float(asked.at.max(initial=0)) + SCRAPE, SCRAPE)
        labels = f'template_hash="{side}",pod="{side}-{number}"'
        counted = _Counted(asked.at[mine], scrapes, pods.restarts)
        for place, route in enumerate(ROUTES):
            here = asked.batch[mine] == bool(place)
            for kind, name in enumerate(OUTCOMES):
                values = counted.of(here & (outcome[mine] == kind))
                _add(families, "serving_predictions_total", f'{labels},route="{route}",outcome="{name}"',
                     begin + scrapes, values)  # fmt: skip
            for status, kinds in (("200", ("answered", "refused")), ("500", ("failed",)), ("503", ("excused",))):
                values = counted.of(here & np.isin(outcome[mine], [OUTCOMES.index(kind) for kind in kinds]))
                _add(families, "serving_requests_total", f'{labels},route="{route}",status="{status}"',
                     begin + scrapes, values)  # fmt: skip
            for le in (*LATENCY, np.inf):
                values = counted.of(here & (took[mine] <= le))
                text = "+Inf" if le == np.inf else str(float(le))
                _add(families, "serving_request_seconds_bucket", f'{labels},route="{route}",le="{text}"',
                     begin + scrapes, values)  # fmt: skip
            _add(families, "serving_request_seconds_count", f'{labels},route="{route}"', begin + scrapes, values)
        for kind, name in enumerate(OUTCOMES):
            for group in np.unique(asked.group[mine][outcome[mine] == kind]):
                values = counted.of((outcome[mine] == kind) & (asked.group[mine] == group))
                _add(families, "serving_predictions_by_caller_total",
                     f'{labels},outcome="{name}",caller="{group}"', begin + scrapes, values)  # fmt: skip
        answered = outcome[mine] == OUTCOMES.index("answered")
        for le in (*_EDGES, np.inf):
            text = "+Inf" if le == np.inf else f"{le:g}"
            _add(families, "serving_prediction_score_bucket", f'{labels},le="{text}"', begin + scrapes,
                 counted.of(answered & (score[mine] <= le)))  # fmt: skip
        lives = np.searchsorted(np.array(pods.restarts), scrapes)
        _add(families, "process_start_time_seconds", labels, begin + scrapes, (1000.0 + lives).astype(np.float64))
        _add(families, "up", f'{labels},job="{side}"', begin + scrapes, np.ones_like(scrapes))


def _seen_by_the_gateway(
    side: str, asked: _Requests, ours: npt.NDArray[np.bool_], outcome: npt.NDArray[np.intp], begin: float,
    families: dict[str, list[str]],
) -> None:  # fmt: skip
    """Its counters begin with the first answer of a class, long before the canary or as late as its first 5xx."""
    scrapes = np.arange(1.0 - BEFORE, float(asked.at.max(initial=0)) + SCRAPE, SCRAPE)
    where = f'job="{side.removesuffix("-stable")}",side="{"stable" if side.endswith("-stable") else "canary"}"'
    classes = {"2": ("answered",), "4": ("refused",), "5": ("failed", "excused")}
    for name, kinds in classes.items():
        at = np.sort(asked.at[ours & np.isin(outcome, [OUTCOMES.index(kind) for kind in kinds])])
        values = np.searchsorted(at, scrapes).astype(np.float64)
        there = values > 0
        _add(families, "gateway_answers_total", f'{where},class="{name}"', begin + scrapes[there], values[there])


@dataclass(frozen=True)
class _Counted:
    """A pod's counters at its scrapes; they begin again with its server."""

    at: Floats
    scrapes: Floats
    restarts: tuple[float, ...]

    def of(self, which: npt.NDArray[np.bool_]) -> Floats:
        """How many of these requests since the server began."""
        times = self.at[which]
        values = np.searchsorted(times, self.scrapes).astype(np.float64)
        for restart in self.restarts:
            after = self.scrapes >= restart
            values[after] = np.searchsorted(times, self.scrapes[after]) - np.searchsorted(times, restart)
        return values


def _add(families: dict[str, list[str]], name: str, labels: str, times: Floats, values: Floats) -> None:
    prefix = f"{name}{{{labels}}}"
    families[name] += [
        f"{prefix} {value:g} {at:.3f}" for at, value in zip(times.tolist(), values.tolist(), strict=True)
    ]


def repeated(name: str, trial: Trial, count: int) -> Iterator[tuple[str, Trial, int]]:
    """The same trial with other chance."""
    return ((f"{name}-{number}", replace(trial), number) for number in range(count))
