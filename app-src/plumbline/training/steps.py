"""The steps of a training run. Each works on the work directory, may be run again and in its own pod."""

import logging
import time
from collections.abc import Callable

import pyarrow.parquet as pq

from plumbline.core.holdout import identity
from plumbline.core.schema import ModelSchema
from plumbline.training import convert, converters, data, evaluate, learn, prepare, provenance, search, tracking
from plumbline.training.prepare import PARTS, examples, load_part
from plumbline.training.report import OBJECTIVE
from plumbline.training.search import Trial
from plumbline.training.subject import card_of
from plumbline.training.work import Settings, Work, written

log = logging.getLogger(__name__)


def fetch(work: Work, settings: Settings) -> str:
    """`data`: begin the run here and get the data that git pins."""
    work.begin(settings)
    card_of(settings.model)  # promotion wants it, and hours of training are too late to say so
    version = data.obtain(settings.model, work.model, work.data)
    work.write(work.data_version, version)
    run = tracking.open_run(work)
    work.hand_on("run", run.id)
    work.hand_on("prepared", provenance.prepared_key(settings, version, run.id))
    return f"{version.version}, {version.digest[:19]}…, run {run.id}"


def validate(work: Work) -> str:
    """`validate`: check the raw tables against their schemas."""
    return ", ".join(f"{name} {rows:,} rows" for name, rows in data.validate(work).items())


def features(work: Work) -> str:
    """`features`: join views, split, fill vocabularies. Writes nothing into the run: a Workflow may reuse its files."""
    counts = prepare.prepare(work)
    return ", ".join(f"{part} {rows:,} rows" for part, rows in counts.items())


def search_all(work: Work) -> str:
    """`search`: all trials that are not there yet."""
    return f"{search.search(work)} trials run, {work.settings.trials} in all"


def train(work: Work) -> str:
    """`train`: fit the baseline, and the candidate with the best trial's parameters; log data and native model."""
    best = search.choose(work)
    schema = work.read(work.schema, ModelSchema)
    first, second = examples(work, "train"), examples(work, "validation")
    baseline = work.model.baseline(schema)
    with tracking.autologging(), tracking.child(work, "baseline", {"baseline": "true"}):
        learn.fit(baseline, first, second, schema.output)
    learn.save(baseline, work.native / "baseline")
    candidate = work.model.candidate(schema, best.params)
    with tracking.parent(work):
        for part in PARTS:
            tracking.log_data(work, len(load_part(work, part)[1]), part)
        tracking.log_params(best.params)
        with tracking.autologging():
            learn.fit(candidate, first, second, schema.output)
        learn.save(candidate, work.native / "candidate")
        if (library := converters.library_of(candidate)) is not None:
            tracking.log_model(library, candidate)
        else:
            log.info("%s is of a library that MLflow has no flavour for here: only its ONNX is logged", type(candidate))
    return f"trial {best.number} of {work.settings.trials} ({OBJECTIVE[schema.output.task]} {best.value:.5f})"


def judge(work: Work) -> str:
    """`evaluate`: metrics, slices, plots and the held-out rows."""
    report = evaluate.evaluate(work)
    with tracking.parent(work) as run:
        tracking.log_report(report.metrics, report.baseline, report.threshold)
        tracking.log_folder(work.evaluation, "evaluation")
        tracking.tag(run, "holdout.digest", identity(pq.read_table(work.evaluation / "holdout.parquet")))
        tracking.log_folder(work.plots, "plots")
    shown = list(report.metrics.items())[:3]
    return ", ".join(
        f"{name} {metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}] (baseline {report.baseline[name].value:.4f})"
        for name, metric in shown
    )


def to_onnx(work: Work) -> str:
    """`convert`: bundle/model.onnx and bundle/schema.json, checked against the native outputs."""
    schema, _ = load_part(work, "test")
    fresh = work.model.candidate(schema, work.read(work.best, Trial).params)
    candidate = learn.restore(work.native / "candidate", fresh)
    converted = convert.to_onnx(work.model, candidate, schema)
    with written(work.bundle / "model.onnx") as temporary:
        temporary.write_bytes(converted.SerializeToString(deterministic=True))
    with written(work.bundle / "schema.json") as temporary:
        temporary.write_text(schema.to_json(), encoding="utf-8")
    inputs, native = evaluate.native_outputs(work)
    difference = convert.check(convert.kind(candidate), work.bundle / "model.onnx", schema, inputs, native)
    with tracking.parent(work):
        tracking.log_metrics({"onnx_max_abs_difference": difference})
        tracking.log_folder(work.bundle, "bundle")
    size = (work.bundle / "model.onnx").stat().st_size
    return f"{size / 1e6:.2f} MB, largest difference to the native model {difference:.1e} on {len(inputs):,} rows"


Step = Callable[[Work], str]
STEPS: dict[str, Step] = {
    "validate": validate,
    "features": features,
    "search": search_all,
    "train": train,
    "evaluate": judge,
    "convert": to_onnx,
}
"""After `data`, in this order."""


def run(name: str, step: Callable[[], str], work: Work) -> None:
    """Run one step, say what it did and how long it took, and mark it as done."""
    began = time.monotonic()
    summary = step()
    work.mark(name)
    log.info("%-9s %6.1f s  %s", name, time.monotonic() - began, summary)


def run_all(work: Work, settings: Settings) -> str:
    """All steps, without those that ended well here before; returns the run's id.

    Whatever ends it before that ends its MLflow run too: KILLED where a person or a signal stopped it, else FAILED.
    """
    try:
        run("data", lambda: fetch(work, settings), work)
        for name, step in STEPS.items():
            if work.done(name):
                log.info("%-9s done before", name)
            else:
                run(name, lambda step=step: step(work), work)  # type: ignore[misc]
        return tracking.finish(work)
    except BaseException as error:
        tracking.abandon(work, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
