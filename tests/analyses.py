"""AnalysisTemplates as rendered, measured as Argo Rollouts measures them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prometheus import Prometheus
from trees import with_model

from plumbline.tree.render.build import build, complete
from plumbline.tree.render.example import example_release

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Verdict:
    """How an AnalysisRun ended: Successful, Failed (by which metric), Error or Inconclusive, after how many seconds."""

    phase: str
    metric: str = ""
    seconds: float = float("nan")


@dataclass(frozen=True)
class Analysis:
    """The analysis `flights-verdict` of an environment."""

    metrics: tuple[Mapping[str, Any], ...]
    values: Mapping[str, str]

    @classmethod
    def of(cls, environment: str) -> "Analysis":
        """What its tree renders to."""
        with complete(ROOT, environment) as tree:
            with_model(tree, "flights")
            folder = f"clusters/{environment}/models/flights"
            (tree / folder / "release.yaml").write_text(example_release("flights"))
            objects = build(tree, folder)
        specs = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "AnalysisTemplate"}
        verdict = specs["flights-verdict"]
        metrics = [metric for each in verdict["templates"] for metric in specs[each["templateName"]]["metrics"]]
        return cls(tuple(metrics), {arg["name"]: arg["value"] for arg in verdict["args"] if "value" in arg})

    def measured(self, server: Prometheus, metric: Mapping[str, Any], canary: str, stable: str, at: float) -> str:
        """The phase of one measurement."""
        values = {**self.values, "canary": canary, "stable": stable}
        result = server.query(filled(metric["provider"]["prometheus"]["query"], values), at)
        return judged(metric, values, result)

    def run(
        self, server: Prometheus, canary: str, stable: str, begin: float, end: float, leave: frozenset[str]
    ) -> Verdict:
        """One AnalysisRun from `begin` on, without some metrics; Inconclusive where it is not decided by `end`."""
        going = {metric["name"]: 0 for metric in self.metrics if metric["name"] not in leave}
        delay, interval = (seconds(self.values[name]) for name in ("delay", "interval"))
        looks = min(int(self.values["looks"]), int((end - begin - delay) // interval) + 1)
        for look in range(looks):
            at = begin + delay + look * interval
            for metric in self.metrics:
                name = metric["name"]
                if name not in going:
                    continue
                phase = self.measured(server, metric, canary, stable, at)
                if phase in ("Failed", "Error"):
                    return Verdict(phase, name, at - begin)
                going[name] = going[name] + 1 if phase == "Successful" else 0
                if going[name] == metric["consecutiveSuccessLimit"]:
                    del going[name]
            if not going:
                return Verdict("Successful", "", at - begin)
        return Verdict("Inconclusive", ", ".join(going))


def judged(metric: Mapping[str, Any], values: Mapping[str, str], result: list[float]) -> str:
    """What Argo Rollouts makes of a result (utils/evaluate): an accident in a condition is an Error."""
    try:
        passed, failed = (
            _met(filled(metric[name], values), result) for name in ("successCondition", "failureCondition")
        )
    except (IndexError, ValueError):
        return "Error"
    return "Failed" if failed else "Successful" if passed else "Inconclusive"


def _met(condition: str, result: list[float]) -> bool:
    """A condition of the expr language by Python's own evaluation, with floats that divide by zero as Go's do."""
    python = condition.replace("&&", "and").replace("||", "or")
    python = re.sub(r"let (\w+) = ([^;]+);", r"((\1 := \2), True)[1] and", python)
    names = {"result": [np.float64(value) for value in result], "asInt": int}
    with np.errstate(all="ignore"):
        return bool(eval(" ".join(python.split()), names))  # noqa: S307 - ours


def filled(text: str, values: Mapping[str, str]) -> str:
    """A template's text with its arguments."""
    for name, value in values.items():
        text = text.replace(f"{{{{args.{name}}}}}", value)
    assert "{{" not in text
    return text


def seconds(text: str) -> float:
    """30s, 15m or 2h."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


Judge = Callable[..., dict[str, str]]
