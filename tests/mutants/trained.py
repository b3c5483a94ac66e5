"""What a training, or somebody who writes as one, may leave in MLflow."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mutants import forms, graphs
from mutants.catalogue import GATE, REGISTRATION, Mutant
from mutants.forms import HOLDOUT, REPORT, SCHEMA, document, placed, rows
from mutants.graphs import MODEL, Change, graph
from mutants.world import World
from onnx import ModelProto, helper

from plumbline.promotion.registry.signing import generate_keys, sign

Bring = Callable[[World], object]


def registered(*changes: Change, model: str = "diabetes", **more: Any) -> Bring:
    return lambda world: world.planted(model, *changes, **more)


def brought(*changes: Change, model: str = "diabetes", **more: Any) -> Bring:
    return lambda world: world.bring(model, *changes, **more)


def shuffled(truth: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).permutation(truth)


def foreign_signature(world: World) -> None:
    private, _ = generate_keys(world.new("foreign"))

    def signed(folder: Path) -> None:
        sign(folder / "bundle", private)

    world.planted("diabetes", signed)


def exploding(marker: Path) -> bytes:
    class Explode:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    return pickle.dumps(Explode())


def pickled(world: World) -> None:
    marker = world.new("executed")
    try:
        world.planted("diabetes", placed("bundle/model.pkl", exploding(marker)))
    finally:
        assert not marker.exists()


def another_runs_evaluation(world: World) -> None:
    """A weak model with the evaluation of the sound one."""
    kept = {name: (world.runs["diabetes"] / name).read_bytes() for name in (REPORT, HOLDOUT)}
    world.planted(
        "diabetes",
        forms.trained_on(world.runs["diabetes"], shuffled),
        *(placed(name, content) for name, content in kept.items()),
    )


def another_models_report(world: World) -> None:
    world.planted("diabetes", placed(REPORT, (world.runs["flights"] / REPORT).read_bytes()))


def changed_after_it_was_judged(world: World) -> None:
    run = world.plant("diabetes")
    found = world.judge(run)
    (folder := world.new("later")).mkdir()
    (folder / "card.yaml").write_text("title: another\n")
    world.client.log_artifact(run, str(folder / "card.yaml"), "evaluation")
    world.register(run, found)


def lineage_after_it_was_judged(world: World) -> None:
    run = world.plant("diabetes")
    found = world.judge(run)
    world.client.set_tag(run, "code.commit", "1" * 40)
    world.register(run, found)


def judged_as_another(world: World) -> None:
    """What the judge found of the sound run, brought for a mutant."""
    run = world.plant("diabetes")
    world.register(world.plant("diabetes", graph(graphs.scaled)), world.judge(run))


def of_other_data(world: World) -> None:
    world.planted("diabetes", tags={"data.digest": "sha256:" + "1" * 64})


def denied(report: dict[str, Any]) -> None:
    report["clusters"] = {"by": "", "count": report["test"]["rows"]}


def glorified(report: dict[str, Any]) -> None:
    for figures in report["metrics"].values():
        figures |= {"value": 0.99, "low": 0.98, "high": 1.0}


def stale(schema: dict[str, Any]) -> None:
    """The airlines in the order of another training."""
    field = next(item for item in schema["fields"] if item["name"] == "carrier")
    field["vocabulary"] = sorted(field["vocabulary"])[::-1]


def unclustered(held: pd.DataFrame) -> pd.DataFrame:
    """Each row its own day."""
    return held.assign(_cluster=[str(place) for place in range(len(held))])


def missing(held: pd.DataFrame) -> pd.DataFrame:
    """Without the slices that it is judged by."""
    return held.drop(columns=[name for name in held.columns if name.startswith("slice_origin")])


def to_come(model: ModelProto) -> None:
    for item in model.opset_import:
        item.version = 99


def said_twice(folder: Path) -> None:
    text = (folder / SCHEMA).read_text()
    (folder / SCHEMA).write_text(text.replace("{", '{"model": "flights", ', 1))


def another_models_bundle(world: World) -> None:
    files = [placed(name, (world.runs["flights"] / name).read_bytes()) for name in (MODEL, SCHEMA)]
    world.planted("diabetes", *files)


def equal_rows(folder: Path) -> None:
    pq.write_table(pa.table({"truth": np.zeros(6_000_000, np.int8)}), folder / HOLDOUT)


def unfinished(world: World) -> None:
    run = world.plant("diabetes")
    world.client.update_run(run, status="RUNNING")
    world.register(run)


BOMB = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}' if n else 'x'] * 10)}]\n" for n in range(10)).encode()
CARD = b"title: A model\n"
TWICE = (
    graphs.after(*graphs.calibrated_twice(), weights=(graphs.constant("classes", [1], np.int64),)),
    forms.chosen_again,
    forms.believed,
)
PERMUTED = graphs.after(
    helper.make_node("Gather", ["sound", "other way"], ["answer"], axis=1),
    weights=(graphs.constant("other way", [1, 0], np.int64),),
)
NO_SHARES = graphs.after(helper.make_node("Add", ["sound", "sound"], ["answer"]))
BESIDE = "parity: ONNX differs from the native model"
UNEVEN = "a row's values decide"

MUTANTS = [
    Mutant("labels shuffled, and honest about it", GATE, "a metric's limit", r"r2 \(value\)",
           lambda world: world.bring("diabetes", forms.trained_on(world.runs["diabetes"], shuffled))),
    Mutant("a leaked field: the truth in schema, rows and model", REGISTRATION, "the schema is not git's",
           r"schema\.json: not what the model's folder declares, which differs in \['later'\]",
           lambda world: world.planted("diabetes", forms.leaking(world.runs["diabetes"], "later"))),
    Mutant("weights scaled", REGISTRATION, "parity with the native model", BESIDE, registered(graph(graphs.scaled))),
    Mutant("weights scaled, the native answers and the report with them", GATE, "a metric's limit", r"rmse \(value\)",
           brought(graph(graphs.scaled), forms.believed)),
    Mutant("odds squared, the native answers and the report with them", GATE, "calibration", r"ece \(value\)",
           brought(*TWICE, model="flights")),
    Mutant("the answers for one airport inverted, and believed", GATE, "a limit of every slice",
           "roc_auc of every origin",
           brought(lambda folder: forms.swapped_where(folder, "origin", "LGA"), forms.chosen_again, forms.believed,
                   model="flights")),
    Mutant("classes permuted", REGISTRATION, "parity with the native model", BESIDE,
           registered(PERMUTED, forms.chosen_again, model="flights")),
    Mutant("classes permuted, and believed", GATE, "a metric's limit", r"roc_auc \(low\)",
           brought(PERMUTED, forms.chosen_again, forms.believed, model="flights")),
    Mutant("answers that are no probabilities", REGISTRATION, "answers add up to 1",
           "expected probabilities that add up to 1", registered(NO_SHARES, model="flights")),
    Mutant("threshold 0.0 in the report", REGISTRATION, "the threshold is chosen again", "the threshold 0 is not what",
           registered(document(REPORT, lambda report: report.update(threshold=0.0)), model="flights")),
    Mutant("threshold 0.999 in the report", REGISTRATION, "the threshold is chosen again",
           r"the threshold 0\.999 is not what",
           registered(document(REPORT, lambda report: report.update(threshold=0.999)), model="flights")),
    Mutant("stale vocabulary", REGISTRATION, "parity with the native model", BESIDE,
           registered(document(SCHEMA, stale), forms.chosen_again, model="flights")),
    Mutant("report says 0.99 of everything", GATE, "metrics are recomputed", "rmse recomputed",
           brought(document(REPORT, glorified))),
    Mutant("report says that rows are independent of each other", REGISTRATION, "the cluster is the folder's",
           r"rows depend on each other by '', the model's folder says 'day of at",
           registered(document(REPORT, denied), model="flights")),
    Mutant("report says what mistakes cost", REGISTRATION, "costs are the folder's", "costs are {",
           registered(document(REPORT, lambda report: report.update(costs={"late": {"on_time": 0.0}})),
                      model="flights")),
    Mutant("a later test window in the report", REGISTRATION, "the window is the rows'", "its test window is",
           registered(document(REPORT, lambda report: report["test"].update(first="2013-12-01")), model="flights")),
    Mutant("holdout swapped: only the rows that it gets right", REGISTRATION, "rows are made anew from git's data",
           r"holdout\.parquet: \d+ rows; git's data give", registered(rows(forms.easy), forms.believed)),
    Mutant("holdout swapped: the truth is what the model answers", REGISTRATION, "rows are made anew from git's data",
           "column 'truth', row", registered(rows(forms.right), forms.believed)),
    Mutant("holdout swapped: each row a day of its own", REGISTRATION, "rows are made anew from git's data",
           "column '_cluster', row", registered(rows(unclustered), model="flights")),
    Mutant("holdout without a slice", REGISTRATION, "rows are made anew from git's data",
           r"the columns \['slice_origin'\]", registered(rows(missing), model="flights")),
    Mutant("a run of other data than git pins", REGISTRATION, "data's digest is git's", "git pins sha256:",
           of_other_data),
    Mutant("evidence of another run", REGISTRATION, "parity with the native model", BESIDE, another_runs_evaluation),
    Mutant("evidence of another model", REGISTRATION, "the report's model", "report.json: model is 'flights'",
           another_models_report),
    Mutant("evaluation changed between judge and registration", REGISTRATION, "digests of what was judged",
           "not those that were judged", changed_after_it_was_judged),
    Mutant("lineage changed between judge and registration", REGISTRATION, "lineage as it was judged",
           "not those that were judged", lineage_after_it_was_judged),
    Mutant("what was judged of another run", REGISTRATION, "the run that was judged", "what was judged is run",
           judged_as_another),
    Mutant("a card without its sections", GATE, "model card", "model card: without owner",
           brought(placed("evaluation/card.yaml", CARD))),
    Mutant("code that was not committed", GATE, "code committed", "code committed: no",
           brought(tags={"code.dirty": "true"})),
    Mutant("weights that are not numbers", REGISTRATION, "answers are numbers", "expected a number",
           registered(graph(graphs.not_a_number))),
    Mutant("output renamed", REGISTRATION, "the contract of the graph", "its outputs are",
           registered(graph(graphs.renamed_output))),
    Mutant("a batch of one row for ever", REGISTRATION, "the contract of the graph", "float32 of shape",
           registered(graph(graphs.one_row))),
    Mutant("answers that look at the rows beside", REGISTRATION, "parity of rows asked alone", BESIDE,
           registered(graph(graphs.centred), forms.believed)),
    Mutant("6 MB of a note", GATE, "size", r"size \(MB\)",
           brought(graph(lambda model: setattr(model, "doc_string", "x" * 6_000_000)))),
    Mutant("a graph that takes 16 GB", REGISTRATION, "loaded first in a process with limits",
           "model.onnx: ", registered(graph(graphs.swallowing))),
    Mutant("thirty functions that call each other twice", REGISTRATION, "functions within functions",
           "functions within functions", registered(graph(graphs.doubling))),
    Mutant("external data within a branch, in the signature's file", REGISTRATION, "weights stand in the file",
           "stand outside the file", registered(graph(graphs.outside))),
    Mutant("a `Loop` driven by one field", REGISTRATION, "loops have constant turns", "may run for ever",
           registered(graph(graphs.looping))),
    Mutant("a tensor as large as a field says", REGISTRATION, "sizes follow from no value", UNEVEN,
           registered(graph(graphs.growing))),
    Mutant("a slow branch for one value of a field", REGISTRATION, "branches follow from no value", UNEVEN,
           registered(graph(graphs.branching))),
    Mutant("rows of a large product that a field chooses", REGISTRATION, "sizes follow from no value", UNEVEN,
           registered(graph(graphs.choosing))),
    Mutant("an operator outside the standard", REGISTRATION, "operators are the standard's",
           "not of the ONNX standard", registered(graph(graphs.foreign))),
    Mutant("an answer by chance", REGISTRATION, "operators that draw lots", "draw lots",
           registered(graph(graphs.by_chance))),
    Mutant("a function by the name of an operator", REGISTRATION, "functions have names of their own",
           r"\['Compress'\] have names of the standard's", registered(graph(graphs.shadowing))),
    Mutant("a `Loop` in a branch of a function", REGISTRATION, "functions hold no loops", "of the graph holds a Loop",
           registered(graph(graphs.hiding))),
    Mutant("two functions of one name", REGISTRATION, "functions have names of their own",
           r"several functions \['F0'\]", registered(graph(graphs.ambiguous))),
    Mutant("external data in an attribute that a function brings", REGISTRATION, "functions bring no attributes",
           r"\['F0'\] bring attributes", registered(graph(graphs.lent))),
    Mutant("a branch handed to a function", REGISTRATION, "functions are given no graphs",
           r"\['F0'\] are given graphs", registered(graph(graphs.handed))),
    Mutant("sparse weights in the signature's file", REGISTRATION, "weights stand in the file",
           r"\['weights'\] stand outside the file", registered(graph(graphs.sparse))),
    Mutant("a product that stands where a field puts it", REGISTRATION, "sizes follow from no value", UNEVEN,
           registered(graph(graphs.inserting))),
    Mutant("a product as large as words of a field are rare", REGISTRATION, "sizes follow from no value", UNEVEN,
           registered(graph(graphs.spelling))),
    Mutant("a recurrent layer of as many steps as a field says", REGISTRATION, "sizes follow from no value", UNEVEN,
           registered(graph(graphs.remembering))),
    Mutant("operators of a standard to come", REGISTRATION, "the graph is loaded", "ONNX Runtime cannot load it",
           registered(graph(to_come))),
    Mutant("a file in capital letters beside the model", REGISTRATION, "the bundle's names, before a download",
           r"unexpected \['MODEL\.ONNX'\]", registered(placed("bundle/MODEL.ONNX", b"x"))),
    Mutant("a schema's name that only looks like it", REGISTRATION, "the bundle's names, before a download",
           "unexpected", registered(placed("bundle/\N{CYRILLIC SMALL LETTER DZE}chema.json", b"{}"))),
    Mutant("a schema that says one thing twice", REGISTRATION, "the schema is in its one form", "canonical form",
           registered(said_twice)),
    Mutant("the bundle of another model", REGISTRATION, "the schema's model", "schema.json: model is 'flights'",
           another_models_bundle),
    Mutant("a card of ten lines that unfolds to gigabytes", REGISTRATION, "the card is plain",
           "refers to parts of itself", registered(placed("evaluation/card.yaml", BOMB))),
    Mutant("a holdout of six million equal rows", REGISTRATION, "the holdout's rows, before they are read",
           "6,000,000 rows; nobody is judged", registered(equal_rows)),
    Mutant("a run that has not finished", REGISTRATION, "runs have finished", "is RUNNING, expected FINISHED",
           unfinished),
    Mutant("no ONNX at all", REGISTRATION, "the graph is read", "not an ONNX file",
           registered(placed(MODEL, b"PK\x03\x04 a zip"))),
    Mutant("a pickle beside the model", REGISTRATION, "the bundle's names, before a download", "unexpected",
           pickled),
    Mutant("a signature of somebody else's key", REGISTRATION, "the signature is ours", "a signature that is not ours",
           foreign_signature),
]  # fmt: skip
