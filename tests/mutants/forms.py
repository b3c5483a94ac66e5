"""What a bad model looks like: changes of a sound run's files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from plumbline.core.columns import BASELINE, NATIVE, native
from plumbline.core.schema import ModelSchema
from plumbline.features.offline import encode_frame
from plumbline.training import convert, learn
from plumbline.training.evaluate import Judge
from plumbline.training.model import load
from plumbline.training.prepare import clusters_of, examples, target_of
from plumbline.training.report import Report
from plumbline.training.search import Trial
from plumbline.training.work import Work

Change = Callable[[Path], None]
MODEL, SCHEMA, REPORT, HOLDOUT = (
    "bundle/model.onnx",
    "bundle/schema.json",
    "evaluation/report.json",
    "evaluation/holdout.parquet",
)


def graph(change: Callable[[ModelProto], ModelProto | None]) -> Change:
    """A change of the graph, in place or to another one."""

    def apply(folder: Path) -> None:
        model = onnx.load(folder / MODEL)
        made = change(model) or model
        (folder / MODEL).write_bytes(made.SerializeToString())

    return apply


def rows(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Change:
    """A change of the rows that it is judged on."""

    def apply(folder: Path) -> None:
        change(pd.read_parquet(folder / HOLDOUT)).to_parquet(folder / HOLDOUT, index=False)

    return apply


def document(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of a JSON document; the schema stays in its canonical form."""

    def apply(folder: Path) -> None:
        value = json.loads((folder / name).read_bytes())
        change(value)
        text = ModelSchema.model_validate(value).to_json() if name == SCHEMA else json.dumps(value)
        (folder / name).write_text(text)

    return apply


def placed(name: str, content: bytes) -> Change:
    """A file more, or in place of another."""

    def apply(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return apply


def after(*nodes: NodeProto, weights: tuple[TensorProto, ...] = ()) -> Change:
    """Nodes that make the answer out of `sound`, which the sound model answers."""

    def apply(model: ModelProto) -> None:
        model.graph.initializer.extend(weights)
        _added(model, *nodes)

    return graph(apply)


def constant(name: str, value: Any, kind: Any) -> TensorProto:
    return numpy_helper.from_array(np.array(value, kind), name)


def nothing_of(source: str) -> tuple[NodeProto, ...]:
    """The sound answer, plus nought times whatever a tensor comes to."""
    return (
        helper.make_node("Cast", [source], ["as float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["as float"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nought"], ["nothing"]),
        helper.make_node("Add", ["sound", "nothing"], ["answer"]),
    )


NOUGHT = constant("nought", 0, np.float32)
FIRST = (
    helper.make_node("Slice", ["features", "from", "to"], ["cell"]),
    helper.make_node("Abs", ["cell"], ["size"]),
    helper.make_node("Cast", ["size"], ["whole"], to=TensorProto.INT64),
    helper.make_node("Reshape", ["whole", "flat"], ["number"]),
)
"""The first field of the first row, as a whole number."""
PLACES = (constant("from", [0, 0], np.int64), constant("to", [1, 1], np.int64), constant("flat", [1], np.int64))


def calibrated_twice() -> tuple[NodeProto, ...]:
    """Odds squared: as if every weight were twice as large."""
    return (
        helper.make_node("Mul", ["sound", "sound"], ["squared"]),
        helper.make_node("ReduceSum", ["squared", "classes"], ["both"], keepdims=1),
        helper.make_node("Div", ["squared", "both"], ["answer"]),
    )


def swapped_where(folder: Path, field: str, value: str) -> None:
    """Yes and no change places where a category has one value."""
    schema = ModelSchema.model_validate_json((folder / SCHEMA).read_bytes())
    names = [column.name for column in schema.columns]
    code = next(item for item in schema.fields if item.name == field).vocabulary.index(value)
    after(
        helper.make_node("Gather", ["features", "place"], ["column"], axis=1),
        helper.make_node("Equal", ["column", "code"], ["is it"]),
        helper.make_node("Gather", ["sound", "other way"], ["other"], axis=1),
        helper.make_node("Where", ["is it", "other", "sound"], ["answer"]),
        weights=(
            constant("place", [names.index(field)], np.int64),
            constant("code", [[code]], np.float32),
            constant("other way", [1, 0], np.int64),
        ),
    )(folder)


def believed(folder: Path) -> None:
    """The run says of itself what the changed model really answers, and how good that is: nobody is lied to."""
    schema = ModelSchema.model_validate_json((folder / SCHEMA).read_bytes())
    report = Report.model_validate_json((folder / REPORT).read_bytes())
    held = pd.read_parquet(folder / HOLDOUT)
    session = ort.InferenceSession((folder / MODEL).read_bytes(), providers=["CPUExecutionProvider"])
    answers = session.run([schema.output.tensor], {"features": encode_frame(schema, held)})[0].astype(np.float64)
    held[native(schema.output)] = answers
    held.to_parquet(folder / HOLDOUT, index=False)
    model = load(schema.model)
    judge = Judge(model, schema.output, report.threshold, model.split.seed)
    figures = judge.of(target_of(schema, held), answers, clusters_of(model, held))
    (folder / REPORT).write_text(report.model_copy(update={"metrics": figures}).model_dump_json())


def trained_on(work: Path, target: Callable[[np.ndarray], np.ndarray]) -> Change:
    """The shipped estimator fitted to another truth, and honest about how it does."""

    def apply(folder: Path) -> None:
        here = Work(work)
        first, later = examples(here, "train"), examples(here, "validation")
        schema = here.read(here.schema, ModelSchema)
        estimator = here.model.candidate(schema, here.read(here.best, Trial).params)
        wrong = type(first)(first.inputs, target(first.target))
        learn.fit(estimator, wrong, later, schema.output)
        (folder / MODEL).write_bytes(convert.to_onnx(here.model, estimator, schema).SerializeToString())
        believed(folder)

    return apply


def leaking(work: Path, name: str) -> Change:
    """A field that holds the truth: in the schema, in the rows and in the model."""

    def apply(folder: Path) -> None:
        here = Work(work)
        train = examples(here, "train")
        leaked = {"name": name, "type": "number", "description": "Known only later.", "example": 1.0}
        document(SCHEMA, lambda schema: schema["fields"].append(leaked))(folder)
        schema = ModelSchema.model_validate_json((folder / SCHEMA).read_bytes())
        estimator = here.model.candidate(schema, here.read(here.best, Trial).params)
        estimator.fit(np.column_stack([train.inputs, train.target.astype(np.float32)]), train.target)
        (folder / MODEL).write_bytes(convert.to_onnx(here.model, estimator, schema).SerializeToString())
        rows(lambda held: held.assign(**{name: held["truth"]}))(folder)
        believed(folder)

    return apply


def easy(held: pd.DataFrame) -> pd.DataFrame:
    """The rows on which the model was nearly right."""
    error = (held["truth"] - held[f"{NATIVE}value"]).abs()
    return held[error <= error.median()]


def right(held: pd.DataFrame) -> pd.DataFrame:
    """A truth that is what the model answered."""
    return held.assign(truth=held[f"{NATIVE}value"])


def weak_baseline(held: pd.DataFrame) -> pd.DataFrame:
    """Of a baseline that knows nothing."""
    return held.assign(**{f"{BASELINE}value": 0.0})


def looping(model: ModelProto) -> None:
    """As many turns as the first field of the first row says."""
    numbers = {"turn": TensorProto.INT64, "go": TensorProto.BOOL, "kept": TensorProto.FLOAT}
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            helper.make_node("Add", ["kept", "kept"], ["next"]),
        ],
        "body",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in numbers.items()],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, None),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["turns", "", "nought"], ["looped"], name="turns", body=body)
    _added(model, *FIRST, helper.make_node("Squeeze", ["number"], ["turns"]), loop, *nothing_of("looped"))


def outside(model: ModelProto) -> None:
    """Weights within a branch that stand in a file which the release has: the signature."""
    weights = constant("weights", [0.0], np.float32)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="model.sig")
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["weights"], ["given"])], "branch", [], [given], [weights])
    choice = helper.make_node("If", ["yes"], ["chosen"], then_branch=branch, else_branch=branch)
    model.graph.initializer.append(constant("yes", True, bool))
    _added(model, choice, *nothing_of("chosen"))


def branching(model: ModelProto) -> None:
    """Another way through the graph where one field of one row is large."""
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, None)
    slow = [
        helper.make_node("ConstantOfShape", ["square"], ["ones"]),
        helper.make_node("MatMul", ["ones", "ones"], ["given"]),
    ]
    then = helper.make_graph(slow, "slow", [], [given], [constant("square", [8000, 8000], np.int64)])
    quick = helper.make_graph([helper.make_node("Identity", ["nought"], ["given"])], "quick", [], [given])
    model.graph.initializer.append(constant("much", [10**6], np.int64))
    _added(
        model,
        *FIRST,
        helper.make_node("Greater", ["number", "much"], ["asked"]),
        helper.make_node("If", ["asked"], ["chosen"], then_branch=then, else_branch=quick),
        *nothing_of("chosen"),
    )


def growing(model: ModelProto) -> None:
    """A tensor as large as the first field of the first row says."""
    _added(model, *FIRST, helper.make_node("ConstantOfShape", ["number"], ["large"]), *nothing_of("large"))


def choosing(model: ModelProto) -> None:
    """Of a large product those rows for which the input says so."""
    model.graph.initializer.extend([constant("square", [9000, 9000], np.int64), constant("much", [10**6], np.int64)])
    _added(
        model,
        *FIRST,
        helper.make_node("Greater", ["number", "much"], ["asked"]),
        helper.make_node("ConstantOfShape", ["square"], ["ones"]),
        helper.make_node("Compress", ["ones", "asked"], ["some"], axis=0),
        helper.make_node("MatMul", ["some", "ones"], ["product"]),
        *nothing_of("product"),
    )


def swallowing(model: ModelProto) -> None:
    """Sixteen gigabytes for whatever row."""
    model.graph.initializer.append(constant("huge", [1 << 32], np.int64))
    _added(model, helper.make_node("ConstantOfShape", ["huge"], ["large"]), *nothing_of("large"))


def doubling(model: ModelProto) -> None:
    """Thirty functions, each of which calls the one before it twice."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    last = helper.make_node("Neg", ["x"], ["y"])
    for number in range(30):
        inner = [last] if number == 0 else [_called(number - 1, "x", "middle"), _called(number - 1, "middle", "y")]
        model.functions.append(helper.make_function("own", f"F{number}", ["x"], ["y"], inner, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    _added(model, _called(29, "features", "called"), *nothing_of("called"))


def _called(number: int, given: str, made: str) -> NodeProto:
    return helper.make_node(f"F{number}", [given], [made], domain="own")


def foreign(model: ModelProto) -> None:
    """An operator that some runtimes have and the standard has not."""
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    _added(model, helper.make_node("Gelu", ["features"], ["other"], domain="com.microsoft"), *nothing_of("other"))


def by_chance(model: ModelProto) -> None:
    """An answer that is never the same."""
    _added(model, helper.make_node("RandomNormalLike", ["sound"], ["lot"]), *nothing_of("lot"))


def not_a_number(model: ModelProto) -> None:
    """Every weight of a linear model."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "coefficients":
                attribute.floats[:] = [float("nan")] * len(attribute.floats)


def scaled(model: ModelProto) -> None:
    """Every weight of a linear model, half as large again."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "coefficients":
                attribute.floats[:] = [1.5 * value for value in attribute.floats]


def nudged(model: ModelProto) -> None:
    """One weight, by its last bit."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "coefficients":
                attribute.floats[0] = float(np.nextafter(np.float32(attribute.floats[0]), np.float32(9)))


def renamed_output(model: ModelProto) -> None:
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["label" if name == output.name else name for name in node.output]
    output.name = "label"


def one_row(model: ModelProto) -> None:
    """A batch of one, for ever."""
    for item in (*model.graph.input, *model.graph.output):
        item.type.tensor_type.shape.dim[0].dim_value = 1


def centred(model: ModelProto) -> None:
    """Answers that are judged by the rows beside."""
    _added(
        model,
        helper.make_node("ReduceSum", ["sound", "rows"], ["total"], keepdims=1),
        helper.make_node("Size", ["sound"], ["count"]),
        helper.make_node("Cast", ["count"], ["as many"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["total", "as many"], ["mean"]),
        helper.make_node("Sub", ["sound", "mean"], ["apart"]),
        helper.make_node("Add", ["apart", "middle"], ["answer"]),
    )
    model.graph.initializer.extend([constant("middle", 150.0, np.float32), constant("rows", [0], np.int64)])


def _added(model: ModelProto, *nodes: NodeProto) -> None:
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["sound" if name == output.name else name for name in node.output]
    for node in nodes:
        made = model.graph.node.add()
        made.CopyFrom(node)
        made.output[:] = [output.name if name == "answer" else name for name in made.output]
    known = {item.name for item in model.graph.initializer}
    model.graph.initializer.extend(item for item in (NOUGHT, *PLACES) if item.name not in known)
