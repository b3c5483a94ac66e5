"""What a run says about its model, read from its artifacts and checked: bundle, report, holdout rows, card."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from pydantic import ValidationError

from plumbline.core.artifact import MODEL, SCHEMA, ArtifactError, digest_of
from plumbline.core.errors import Inconclusive, Refused
from plumbline.core.schema import ModelSchema
from plumbline.core.subject import Subject, fields_of
from plumbline.promotion.gate.answers import Answers, Rows
from plumbline.promotion.gate.bundle import (
    Bundle,
    check_names,
    one_row_p95_ms,
    open_bundle,
    plain_bundle,
)
from plumbline.promotion.gate.holdout import Holdout, Parity, parity, read_holdout
from plumbline.promotion.gate.memory import peak_mb
from plumbline.promotion.policy import SliceLimit, ViewLimit
from plumbline.promotion.registry.client import Registry
from plumbline.training import metrics
from plumbline.training.report import Interval, Report, Slice

REPORT, HOLDOUT, CARD = "report.json", "holdout.parquet", "card.yaml"


@dataclass(frozen=True)
class Papers:
    """What a run's artifacts say in words, and their digests: neither graph nor rows were opened."""

    folder: Path
    """Of the bundle."""
    digest: str
    """Of the bundle."""
    schema: ModelSchema
    report: Report
    card: dict[str, str]
    evidence: str
    """Digest of the evaluation folder."""

    @property
    def bytes(self) -> int:
        """The size of what is fetched and loaded."""
        return sum((self.folder / name).stat().st_size for name in (MODEL, SCHEMA))


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

    def metrics(self, seed: int) -> dict[str, Interval]:
        """Every metric of the task with its interval, of the ONNX file on the holdout rows; none without clusters."""
        try:
            rows = self.rows
        except Inconclusive:
            return {}
        return self._intervals(rows, self.answers, seed)

    def slices(self, limits: Collection[SliceLimit], seed: int) -> tuple[Slice, ...]:
        """The same of the slices that limits name, and of the metrics that they name; none without clusters."""
        try:
            rows = self.rows
        except Inconclusive:
            return ()
        named: dict[str, set[str]] = {}
        for limit in limits:
            named.setdefault(limit.column, set()).add(limit.metric)
        columns = {name: rows.slices[name] for name in named if name in rows.slices}
        return tuple(
            Slice(
                column=column,
                value=value,
                rows=int(chosen.sum()),
                metrics=self._intervals(rows.only(chosen), self.answers.of(chosen), seed, named[column]),
            )
            for column, value, chosen in metrics.slices(columns, rows.output, rows.truth, rows.clusters)
        )

    def without_views(self, limits: Collection[ViewLimit], seed: int) -> dict[str, dict[str, Interval]]:
        """{view: the metrics that limits name, of answers given without it}; none without clusters.

        Asked of the ONNX file anew, for the same rows: nothing of it stands in the run's report.
        """
        try:
            rows = self.rows
        except Inconclusive:
            return {}
        named: dict[str, set[str]] = {}
        for limit in limits:
            named.setdefault(limit.view, set()).add(limit.metric)
        views = [view for view in self.bundle.schema.views if view.name in named]
        answers = {view.name: self.answers_of(self.bundle, self.report.threshold, view.fields) for view in views}
        return {name: self._intervals(rows, answer, seed, named[name]) for name, answer in answers.items()}

    @staticmethod
    def _intervals(
        rows: Rows, answers: Answers, seed: int, names: Collection[str] | None = None
    ) -> dict[str, Interval]:
        built = rows.metrics(answers)
        chosen = {name: metric for name, metric in built.items() if names is None or name in names}
        return metrics.intervals(chosen, rows.clusters, seed=seed)

    @cached_property
    def answers(self) -> Answers:
        """What the ONNX file gives for the holdout's rows."""
        return self.answers_of(self.bundle, self.report.threshold)

    def answers_of(self, bundle: Bundle, threshold: float | None, without: Collection[str] = ()) -> Answers:
        """What any bundle gives for them, if need be without some fields.

        Raises Inconclusive where they are not its requests.
        """
        return Answers(bundle.predict(self.holdout.encode(bundle.schema, without)), threshold)

    @property
    def baseline(self) -> Answers:
        """What the run's baseline gave for them; raises Inconclusive for a run of before that was kept."""
        try:
            return Answers(self.holdout.baseline(self.bundle.schema), self.report.baseline_threshold)
        except Refused as error:
            raise Inconclusive(f"the run did not keep its baseline's answers; train again ({error})") from error

    @cached_property
    def rows(self) -> Rows:
        """The rows as models are judged on them; raises Inconclusive or Refused where their clusters are not known."""
        output, report = self.bundle.schema.output, self.report
        clusters = self.holdout.clusters(report)
        truth, slices = self.holdout.truth(self.bundle.schema), self.holdout.slice_values()
        return Rows(output, truth, clusters, report.costs, report.declared(output), slices)

    @property
    def subject(self) -> Subject:
        """What a gate may name of the model. Its card is judged by a rule of its own."""
        schema, report = self.bundle.schema, self.report
        return Subject(
            output=schema.output,
            fields=fields_of(schema),
            views=tuple(view.name for view in schema.views),
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
    papers = read_papers(registry, run_id, model, into)
    bundle, holdout = open_bundle(papers.folder, model), read_holdout(into / "evaluation" / HOLDOUT)
    return Evaluation(bundle, papers.digest, papers.report, holdout, papers.card, papers.evidence)


def read_papers(registry: Registry, run_id: str, model: str, into: Path) -> Papers:
    """Copy bundle/ and evaluation/ of a run, and parse what is text; raises Refused that names the file."""
    check_names(registry.names(run_id, "bundle"), signed=None)
    bundle = registry.download(run_id, "bundle", into)
    schema = plain_bundle(bundle, model)
    folder = _judged_files(registry, run_id, into)
    report = _report_of(folder, model)
    if (report.threshold is None) == (schema.output.task == "binary"):
        raise Refused(f"{REPORT}: threshold is {report.threshold}; a binary classifier has one, nothing else does")
    try:
        digests = digest_of(bundle), digest_of(folder)
    except ArtifactError as error:
        raise Refused(str(error)) from error
    return Papers(bundle, digests[0], schema, report, _read_card(folder / CARD), digests[1])


def read_judged(registry: Registry, run_id: str, model: str, into: Path) -> tuple[Report, Holdout]:
    """Copy evaluation/ of a run, and read what it was judged on and how; raises Refused that names the file."""
    folder = _judged_files(registry, run_id, into)
    return _report_of(folder, model), read_holdout(folder / HOLDOUT)


def _judged_files(registry: Registry, run_id: str, into: Path) -> Path:
    if missing := sorted({REPORT, HOLDOUT, CARD} - registry.names(run_id, "evaluation").keys()):
        raise Refused(f"evaluation/: {missing} missing in run {run_id}; training's evaluate step writes them")
    return registry.download(run_id, "evaluation", into)


def _report_of(folder: Path, model: str) -> Report:
    try:
        report = Report.model_validate_json((folder / REPORT).read_bytes())
    except ValidationError as error:
        raise Refused(f"{REPORT}: {error}") from error
    if report.model != model:
        raise Refused(f"{REPORT}: model is {report.model!r}, expected {model!r}")
    return report


def _read_card(path: Path) -> dict[str, str]:
    """Sections of text; a list becomes Markdown bullets."""
    try:
        text = path.read_text(encoding="utf-8")
        # Ten lines that refer to each other can be a text of gigabytes.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise Refused(f"{CARD}: it refers to parts of itself (`*name`); write them out")
        document = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
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
