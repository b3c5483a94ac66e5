"""What a bad graph looks like: changes of a sound model's file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

MODEL = "bundle/model.onnx"
Change = Callable[[Path], None]


def graph(change: Callable[[ModelProto], ModelProto | None]) -> Change:
    """A change of the graph, in place or to another one."""

    def apply(folder: Path) -> None:
        model = onnx.load(folder / MODEL)
        made = change(model) or model
        (folder / MODEL).write_bytes(made.SerializeToString())

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


def _loop(start: str) -> NodeProto:
    """As many turns as `turns` says."""
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
    return helper.make_node("Loop", ["turns", "", start], ["looped"], name="turns", body=body)


def looping(model: ModelProto) -> None:
    """As many turns as the first field of the first row says."""
    _added(model, *FIRST, helper.make_node("Squeeze", ["number"], ["turns"]), _loop("nought"), *nothing_of("looped"))


def hiding(model: ModelProto) -> None:
    """The same in a branch that a function always takes."""
    given = helper.make_tensor_value_info("looped", TensorProto.FLOAT, None)
    branch = helper.make_graph([_loop("start")], "branch", [], [given])
    inner = [
        helper.make_node("Constant", [], ["yes"], value=constant("yes", True, bool)),
        helper.make_node("If", ["yes"], ["made"], then_branch=branch, else_branch=branch),
    ]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "F0", ["turns", "start"], ["made"], inner, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    call = helper.make_node("F0", ["turns", "nought"], ["called"], domain="own")
    _added(model, *FIRST, helper.make_node("Squeeze", ["number"], ["turns"]), call, *nothing_of("called"))


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
    """Every weight of a linear model, three times as large."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "coefficients":
                attribute.floats[:] = [3 * value for value in attribute.floats]


def nudged(model: ModelProto) -> None:
    """One weight, by its last bit."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "coefficients":
                attribute.floats[0] = float(np.nextafter(np.float32(attribute.floats[0]), np.float32(9)))


def idle(model: ModelProto) -> None:
    """A node more, which does nothing."""
    _added(model, helper.make_node("Identity", ["sound"], ["answer"]))


def shadowing(model: ModelProto) -> None:
    """A function by the name of an operator: what is read as the one may run as the other."""
    opsets = [helper.make_opsetid("", 17)]
    inner = [helper.make_node("Identity", ["x"], ["z"])]
    model.functions.append(helper.make_function("", "Compress", ["x", "y"], ["z"], inner, opsets))
    _added(model, helper.make_node("Compress", ["features", "features"], ["called"]), *nothing_of("called"))


def ambiguous(model: ModelProto) -> None:
    """Two functions of one name: one to be read, one to be run."""
    opsets = [helper.make_opsetid("", 17)]
    for number, operator in enumerate(("Abs", "Neg")):
        made = helper.make_function("own", "F0", ["x"], ["y"], [helper.make_node(operator, ["x"], ["y"])], opsets)
        made.overload = str(number)
        model.functions.append(made)
    model.opset_import.append(helper.make_opsetid("own", 1))
    _added(model, _called(0, "features", "called"), *nothing_of("called"))


def lent(model: ModelProto) -> None:
    """Weights that a function has where its call names none, in a file which the release has."""
    given = helper.make_attribute("weights", _elsewhere())
    inner = helper.make_node("Constant", [], ["y"])
    inner.attribute.add(name="value", type=AttributeProto.TENSOR, ref_attr_name="weights")
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "F0", ["x"], ["y"], [inner], opsets, attribute_protos=[given]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    _added(model, _called(0, "features", "called"), *nothing_of("called"))


def handed(model: ModelProto) -> None:
    """A branch that a function is given, and takes or not."""
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["nought"], ["given"])], "branch", [], [given])
    inner = helper.make_node("If", ["x"], ["y"])
    for name in ("then_branch", "else_branch"):
        inner.attribute.add(name=name, type=AttributeProto.GRAPH, ref_attr_name="way")
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "F0", ["x"], ["y"], [inner], opsets, attributes=["way"]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.initializer.append(constant("yes", True, bool))
    call = _called(0, "yes", "called")
    call.attribute.append(helper.make_attribute("way", branch))
    _added(model, call, *nothing_of("called"))


def sparse(model: ModelProto) -> None:
    """Sparse weights that stand in a file which the release has."""
    values, places = _elsewhere(), constant("places", [0], np.int64)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [1]))
    _added(model, *nothing_of("weights"))


def _elsewhere() -> TensorProto:
    weights = constant("weights", [0.0], np.float32)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="model.sig")
    return weights


def inserting(model: ModelProto) -> None:
    """Of two products the one that stands where a field puts it."""
    model.graph.initializer.extend(
        [constant("square", [8000, 8000], np.int64), constant("small", [[1]], np.float32), constant("one", 1, np.int64)]
    )
    _added(
        model,
        *FIRST,
        helper.make_node("ConstantOfShape", ["square"], ["large"]),
        helper.make_node("Squeeze", ["number"], ["whole number"]),
        helper.make_node("Min", ["whole number", "one"], ["where"]),
        helper.make_node("SequenceConstruct", ["small", "small"], ["two"]),
        helper.make_node("SequenceInsert", ["two", "large", "where"], ["three"]),
        helper.make_node("SequenceAt", ["three", "one"], ["chosen"]),
        helper.make_node("MatMul", ["chosen", "chosen"], ["product"]),
        *nothing_of("product"),
    )


def spelling(model: ModelProto) -> None:
    """As many words as are left of a field when the usual ones are taken out, and a tensor of that size."""
    model.graph.initializer.extend([constant("many", [9000], np.int64), constant("axis", [0], np.int64)])
    words = helper.make_node("StringNormalizer", ["words"], ["rare"], stopwords=["0"])
    _added(
        model,
        *FIRST,
        helper.make_node("Expand", ["number", "many"], ["numbers"]),
        helper.make_node("Cast", ["numbers"], ["words"], to=TensorProto.STRING),
        words,
        helper.make_node("Shape", ["rare"], ["count"]),
        helper.make_node("Concat", ["count", "count"], ["square"], axis=0),
        helper.make_node("ConstantOfShape", ["square"], ["ones"]),
        helper.make_node("MatMul", ["ones", "ones"], ["product"]),
        *nothing_of("product"),
    )


def remembering(model: ModelProto) -> None:
    """A recurrent layer of as many steps as a field says."""
    shapes = {"steps": (20_000, 1, 64), "ways": (1, 2048, 64), "back": (1, 2048, 512)}
    model.graph.initializer.extend(
        [constant(name, np.zeros(1), np.float32) for name in shapes]
        + [constant(f"size of {name}", shape, np.int64) for name, shape in shapes.items()]
    )
    _added(
        model,
        *FIRST,
        helper.make_node("Cast", ["number"], ["how long"], to=TensorProto.INT32),
        *(helper.make_node("Expand", [name, f"size of {name}"], [f"all {name}"]) for name in shapes),
        helper.make_node("LSTM", ["all steps", "all ways", "all back", "", "how long"], ["", "last"], hidden_size=512),
        *nothing_of("last"),
    )


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
