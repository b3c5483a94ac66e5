"""What a drift check leaves behind: a page, and a verdict that a workflow branches on."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from plumbline.core.templates import templates
from plumbline.monitoring.drift.compare import Comparison, Verdict
from plumbline.monitoring.drift.outcome import Concept, Figure, Performance
from plumbline.monitoring.experiment.readout import finite
from plumbline.monitoring.policy import LABEL, SCORE, Quality


@dataclass(frozen=True, slots=True)
class Check:
    """One drift check of one model."""

    model: str
    version: str
    """Whose answers they are; empty where there are none."""
    since: datetime
    until: datetime
    rows: int
    labelled: int
    comparison: Comparison
    performance: Performance
    concept: Concept
    quality: Quality | None = None
    """What the policy judges live answers by: the consumers learn it from the newest check."""

    @property
    def kinds(self) -> dict[str, Verdict]:
        """The verdict of each kind of drift."""
        return {
            "covariate": self.comparison.verdict(prediction=False),
            "prediction": self.comparison.verdict(prediction=True),
            "joint": self.comparison.joint.verdict,
            "performance": self.performance.verdict,
            "concept": self.concept.verdict,
        }

    @property
    def verdict(self) -> Verdict:
        """Drift of any kind is drift. Labels come late, so concept drift may be unknown and the rest still told."""
        kinds = self.kinds
        if "drift" in kinds.values():
            return "drift"
        needed = {kinds["covariate"], kinds["prediction"], kinds["performance"]}
        # A label that is older than its answer is none of it: nothing passes by such labels.
        return "inconclusive" if "inconclusive" in needed or self.concept.early else "none"

    @property
    def reason(self) -> str:
        """Why something is inconclusive."""
        return self.comparison.reason or self.concept.reason


def telling(checks: Sequence[Check]) -> Check:
    """The check that tells most: the longest window with drift, else the longest that could be judged, else the first.

    A week says more than a day of what is small, but needs as long a reference.
    """
    ranks = {"drift": 2, "none": 1, "inconclusive": 0}
    return max(enumerate(checks), key=lambda item: (ranks[item[1].verdict], item[0] if item[1].rows else -item[0]))[1]


def write(check: Check, folder: Path) -> None:
    """Write index.html, evidently.html, drift.json and, last, the one word of `verdict`."""
    folder.mkdir(parents=True, exist_ok=True)
    if check.comparison.page is not None:
        partial = folder / "evidently.html.part"
        check.comparison.page().save_html(str(partial))
        partial.replace(folder / "evidently.html")
    _put(folder / "index.html", _page(check))
    _put(folder / "drift.json", json.dumps(as_json(check), indent=2) + "\n")
    _put(folder / "verdict", check.verdict + "\n")


def _put(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def as_json(check: Check) -> dict[str, Any]:
    """The verdict and its numbers as plain values; what is not known is null, never NaN."""
    concept, estimated, apart = check.concept, check.performance, check.comparison.joint
    figures = {
        "verdict": concept.verdict, "labelled": concept.labelled, "reason": concept.reason,
        "reference_loss": finite(concept.reference_loss), "current_loss": finite(concept.current_loss),
        "excess": _figure(concept.excess), "shortfall": _figure(concept.shortfall),
    }  # fmt: skip
    performance = {
        "verdict": estimated.verdict, "loss": _figure(estimated.loss), "roc_auc": finite(estimated.roc_auc)
    }  # fmt: skip
    return {
        "model": check.model, "version": check.version, "verdict": check.verdict, "kinds": check.kinds,
        "reason": check.reason, "since": check.since.isoformat(), "until": check.until.isoformat(),
        "rows": check.rows, "labelled": check.labelled, "concept": figures,
        "performance": performance, "joint": {"auc": finite(apart.value), "limit": finite(apart.limit)},
        "quality": check.quality and check.quality.model_dump(exclude_none=True),
        "columns": [{**asdict(item), "drifted": item.drifted} for item in check.comparison.columns],
    }  # fmt: skip


def _figure(figure: Figure) -> dict[str, float | None]:
    return {name: finite(value) for name, value in asdict(figure).items()}


def _page(check: Check) -> str:
    """The front page: verdicts first, then every column, what has drifted and moves the mean score most at the top."""
    columns = sorted(check.comparison.columns, key=lambda item: (not item.drifted, -abs(item.influence or 0)))
    page = templates("plumbline.monitoring.drift").get_template("drift.html.j2")
    return page.render(check=check, columns=columns, answers=(SCORE, LABEL))
