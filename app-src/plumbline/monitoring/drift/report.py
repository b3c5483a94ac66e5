"""What a drift check leaves behind: a page, and a verdict that a workflow branches on."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from plumbline.core.templates import templates
from plumbline.monitoring.drift.compare import Comparison, Concept, Verdict
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
    concept: Concept
    quality: Quality | None = None
    """What the policy judges live answers by: the consumers learn it from the newest check."""

    @property
    def kinds(self) -> dict[str, Verdict]:
        """The verdict of each kind of drift."""
        return {
            "covariate": self.comparison.verdict(prediction=False),
            "prediction": self.comparison.verdict(prediction=True),
            "concept": self.concept.verdict,
        }

    @property
    def verdict(self) -> Verdict:
        """Drift of any kind is drift. Labels come late, so concept drift may be unknown and the rest still told."""
        kinds = self.kinds
        if "drift" in kinds.values():
            return "drift"
        return "inconclusive" if "inconclusive" in (kinds["covariate"], kinds["prediction"]) else "none"


def write(check: Check, folder: Path) -> None:
    """Write index.html, evidently.html, drift.json and, last, the one word of `verdict`."""
    folder.mkdir(parents=True, exist_ok=True)
    if check.comparison.page is not None:
        partial = folder / "evidently.html.part"
        check.comparison.page.save_html(str(partial))
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
    loss = check.concept
    concept = {
        "verdict": loss.verdict, "labelled": loss.current.rows, "limit": finite(loss.limit),
        "reference_loss": finite(loss.reference.value), "current_loss": finite(loss.current.value),
        "rise_low": finite(loss.low), "rise_high": finite(loss.high),
    }  # fmt: skip
    return {
        "model": check.model, "version": check.version, "verdict": check.verdict, "kinds": check.kinds,
        "reason": check.comparison.reason, "since": check.since.isoformat(), "until": check.until.isoformat(),
        "rows": check.rows, "labelled": check.labelled, "concept": concept,
        "quality": check.quality and check.quality.model_dump(exclude_none=True),
        "columns": [{**asdict(item), "drifted": item.drifted} for item in check.comparison.columns],
    }  # fmt: skip


def _page(check: Check) -> str:
    """The front page: verdicts first, then every column with the largest effect (over its limit) at the top."""
    columns = sorted(check.comparison.columns, key=lambda item: -(item.value or 0) / item.threshold)
    page = templates("plumbline.monitoring.drift").get_template("drift.html.j2")
    return page.render(check=check, columns=columns, answers=(SCORE, LABEL))
