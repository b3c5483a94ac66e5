"""Judge the candidate and its baseline on the test window, and keep the rows for those who judge again."""

import shutil
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from plumbline.core.columns import BASELINE, SLICE, TIME, native
from plumbline.core.metrics.clusters import Clusters
from plumbline.core.metrics.figures import build
from plumbline.core.schema import ModelSchema, Output
from plumbline.training import learn, metrics, plots, threshold
from plumbline.training.model import ByTime, Estimator, Floats, Inputs, Model, ModelError, folder_of
from plumbline.training.prepare import clusters_of, examples, load_part
from plumbline.training.report import OBJECTIVE, Clustered, Interval, Period, Report, Slice
from plumbline.training.search import Trial
from plumbline.training.work import Work, written


def evaluate(work: Work) -> Report:
    """Write evaluation/ (report.json, holdout.parquet, card.yaml) and plots/."""
    schema, rows = load_part(work, "test")
    output, seed = schema.output, work.model.split.seed
    test = examples(work, "test")
    inputs, truth = test.inputs, test.target
    candidate = learn.restore(
        work.native / "candidate", work.model.candidate(schema, work.read(work.best, Trial).params)
    )
    baseline = learn.restore(work.native / "baseline", work.model.baseline(schema))
    outputs = learn.outputs_of(candidate, inputs, output)
    clusters = clusters_of(work.model, rows)
    judge = Judge(work.model, output, _threshold(work, candidate, output), seed)
    weak = learn.outputs_of(baseline, inputs, output)
    beside = replace(judge, threshold=_threshold(work, baseline, output, strict=False))
    report = Report(
        model=schema.model,
        metrics=judge.of(truth, outputs, clusters),
        baseline=beside.of(truth, weak, clusters),
        slices=_slices(rows, judge, truth, outputs, clusters),
        threshold=judge.threshold,
        threshold_rule="" if judge.threshold is None else work.model.threshold,
        costs=None if work.model.costs is None else {one: dict(costs) for one, costs in work.model.costs.items()},
        train=period(work.model, load_part(work, "train")[1]),
        test=period(work.model, rows),
        clusters=Clustered(by=clusters.by, count=clusters.count),
        baseline_threshold=beside.threshold,
    )
    with written(work.evaluation / "report.json") as temporary:
        temporary.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    with written(work.evaluation / "holdout.parquet") as temporary:
        _holdout(rows, output, outputs, weak).to_parquet(temporary, index=False)
    shutil.copyfile(folder_of(schema.model) / "card.yaml", work.evaluation / "card.yaml")
    names = [column.name for column in schema.columns]
    plots.draw(work.plots, candidate, plots.Judged(output, names, inputs, truth, outputs, judge.threshold), seed)
    objective = OBJECTIVE[output.task]
    plots.draw_slices(work.plots, report.slices, report.metrics[objective], objective)
    return report


@dataclass(frozen=True)
class Judge:
    """How a model's answers are judged, on whatever rows."""

    model: Model
    output: Output
    threshold: float | None
    seed: int

    def of(self, truth: Floats, outputs: Floats, clusters: Clusters) -> dict[str, Interval]:
        """Every metric of the model with its interval, on rows of the truth (rows,) and the outputs (rows, k)."""
        model = self.model
        built = build(self.output, truth, outputs, self.threshold, costs=model.costs, declared=model.metrics)
        return metrics.intervals(built, clusters, seed=self.seed)


def _threshold(work: Work, estimator: Estimator, output: Output, *, strict: bool = True) -> float | None:
    """Of two labels: what the model's rule chooses on validation; None for any other output.

    Raises ModelError where no threshold keeps the rule's limit: such a model would not do what its folder asks for.
    """
    if output.task != "binary":
        return None
    later, rule = examples(work, "validation"), work.model.threshold
    score = learn.outputs_of(estimator, later.inputs, output)[:, 1]
    chosen = threshold.choose(rule, output, work.model.costs, later.target, score)
    if chosen.short and strict:
        raise ModelError(
            f"threshold={rule!r}: no threshold has on validation {chosen.short}; "
            f"lower the limit, or train a better model"
        )
    return chosen.value


def _slices(rows: pd.DataFrame, judge: Judge, truth: Floats, outputs: Floats, clusters: Clusters) -> tuple[Slice, ...]:
    names = [name for name in rows.columns if name.startswith(SLICE)]
    columns = {name.removeprefix(SLICE): rows[name].astype(str).to_numpy().astype(np.str_) for name in names}
    return tuple(
        Slice(
            column=column,
            value=value,
            rows=int(chosen.sum()),
            metrics=judge.of(truth[chosen], outputs[chosen], clusters[chosen]),
        )
        for column, value, chosen in metrics.slices(columns, judge.output, truth, clusters)
    )


def period(model: Model, rows: pd.DataFrame) -> Period:
    """From when to when rows are, in the days of the split's own zone."""
    if not isinstance(model.split, ByTime):
        return Period(first=None, last=None, rows=len(rows))
    moments = rows[TIME].dt.tz_convert(model.split.test.tz)
    return Period(first=moments.min().date(), last=moments.max().date(), rows=len(rows))


def _holdout(rows: pd.DataFrame, output: Output, outputs: Floats, weak: Floats) -> pd.DataFrame:
    """The raw request rows with moment, truth, slices, cluster and answers: no one unpickles a model to judge it."""
    names = [*native(output), *native(output, BASELINE)]
    return rows.assign(**dict(zip(names, np.column_stack([outputs, weak]).T, strict=True)))


def native_outputs(work: Work) -> tuple[Inputs, Floats]:
    """The inputs of the held-out rows, shape (rows, width), and what the native model answered, (rows, k)."""
    schema = work.read(work.schema, ModelSchema)
    held = pd.read_parquet(work.evaluation / "holdout.parquet")
    return examples(work, "test").inputs, held[native(schema.output)].to_numpy(dtype=np.float64)
