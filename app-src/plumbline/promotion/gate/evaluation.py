"""What a run says about its model, read from its artifacts and checked: bundle, report, holdout rows, card."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from pydantic import ValidationError

from plumbline.core.artifact import ArtifactError, digest_of
from plumbline.core.errors import Refused
from plumbline.core.metrics.figures import Metric, build
from plumbline.core.subject import Subject, fields_of
from plumbline.promotion.gate.bundle import MODEL, SCHEMA, Bundle, check_names, one_row_p95_ms, open_bundle
from plumbline.promotion.gate.holdout import Holdout, Parity, parity, read_holdout
from plumbline.promotion.gate.memory import peak_mb
from plumbline.promotion.registry.client import Registry
from plumbline.training.report import Report

REPORT, HOLDOUT, CARD = "report.json", "holdout.parquet", "card.yaml"


@dataclass(frozen=True)
class Evaluation:
    """A run's artifacts, copied and parsed."""

    bundle: Bundle
    digest: str
    """Of the bundle."""
    report: Report
    holdout: Holdout
    card: dict[str, str]
    evidence: str
    """Digest of the evaluation folder: what was judged at registration is what is judged later."""

    def recomputed(self) -> dict[str, float]:
        """Every metric of the task, of the ONNX file on the holdout rows."""
        even = np.ones(self.holdout.rows)
        return {name: metric(even) for name, metric in self.metrics(self.bundle, self.report.threshold).items()}

    def metrics(self, bundle: Bundle, threshold: float | None) -> dict[str, Metric]:
        """The metrics of any bundle on this holdout's rows: those of the task, and those that the report has."""
        output, report = self.bundle.schema.output, self.report
        truth, outputs = self.holdout.truth(self.bundle.schema), bundle.predict(self.holdout.encode(bundle.schema))
        return build(output, truth, outputs, threshold, costs=report.costs, declared=report.declared(output))

    @property
    def subject(self) -> Subject:
        """What a gate may name of the model. Its card is judged by a rule of its own."""
        schema, report = self.bundle.schema, self.report
        return Subject(
            output=schema.output,
            fields=fields_of(schema),
            costs=report.costs,
            declared=tuple(report.declared(schema.output)),
            slices=self.holdout.slices,
        )

    def parity(self, rows: int) -> Parity:
        """ONNX against the native model."""
        return parity(self.bundle, self.holdout, rows)

    def p95_ms(self) -> float:
        """One row's latency on one thread of this machine."""
        return one_row_p95_ms(self.bundle)

    def peak_mb(self) -> float:
        """The memory that the model adds to a server while it is loaded."""
        return peak_mb(self.bundle.folder / MODEL, self.bundle.folder / SCHEMA)


def read_evaluation(registry: Registry, run_id: str, model: str, into: Path) -> Evaluation:
    """Copy bundle/ and evaluation/ of a run and parse them; raises Refused that names the file and what is wrong."""
    check_names(registry.names(run_id, "bundle"), signed=None)
    present = set(registry.names(run_id, "evaluation"))
    if not {REPORT, HOLDOUT, CARD} <= present:
        missing = sorted({REPORT, HOLDOUT, CARD} - present)
        raise Refused(f"evaluation/: {missing} missing in run {run_id}; training's evaluate step writes them")
    bundle = open_bundle(registry.download(run_id, "bundle", into), model)
    folder = registry.download(run_id, "evaluation", into)
    report = _read_report(folder / REPORT)
    if report.model != model:
        raise Refused(f"{REPORT}: model is {report.model!r}, expected {model!r}")
    if (report.threshold is None) == (bundle.schema.output.task == "binary"):
        raise Refused(f"{REPORT}: threshold is {report.threshold}; a binary classifier has one, nothing else does")
    try:
        digests = digest_of(bundle.folder), digest_of(folder)
    except ArtifactError as error:
        raise Refused(str(error)) from error
    return Evaluation(bundle, digests[0], report, read_holdout(folder / HOLDOUT), _read_card(folder / CARD), digests[1])


def _read_report(path: Path) -> Report:
    try:
        return Report.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Refused(f"{REPORT}: {error}") from error


def _read_card(path: Path) -> dict[str, str]:
    """Sections of text; a list becomes Markdown bullets."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise Refused(f"{CARD}: not readable as YAML: {error}") from error
    if not isinstance(document, dict):
        raise Refused(f"{CARD}: expected sections with their text, got {type(document).__name__}")
    return {str(section): _prose(str(section), value) for section, value in document.items()}


def _prose(section: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(f"- {_prose(section, item)}" for item in value)
    if isinstance(value, dict):
        return "\n".join(f"- {name}: {_prose(section, item)}" for name, item in value.items())
    return str(value).strip()
