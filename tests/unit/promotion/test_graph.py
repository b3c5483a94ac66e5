"""What a graph may hold wherever it stands in it, and which graphs are one model."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from plumbline.core.errors import Refused
from plumbline.promotion.gate.graph import MOST_TURNS, operators, read_graph, weights_digest

OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
FLOAT = TensorProto.FLOAT


def model(nodes: list[NodeProto], weights: list[TensorProto], **more: object) -> ModelProto:
    taken = helper.make_tensor_value_info("features", FLOAT, [None, 2])
    given = helper.make_tensor_value_info("value", FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "g", [taken], [given], weights)
    return helper.make_model(graph, opset_imports=OPSETS, **more)


def linear(name: str = "w", values: tuple[float, float] = (0.5, -1.0), **more: object) -> ModelProto:
    weights = numpy_helper.from_array(np.array(values, np.float32).reshape(2, 1), name)
    return model([helper.make_node("MatMul", ["features", name], ["value"])], [weights], **more)


def looping(count: list[TensorProto], counted_by: str = "count", inner: list[NodeProto] | None = None) -> ModelProto:
    """Adds the row to itself, `count` times."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            *(inner or [helper.make_node("Add", ["sum", "sum"], ["next"])]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", FLOAT, [None, 2]),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, [None, 2]),
        ],
    )
    loop = helper.make_node("Loop", [counted_by, "", "features"], ["summed"], name="turns", body=body)
    return model([loop, helper.make_node("ReduceSum", ["summed"], ["value"])], count)


def turns(number: int) -> list[TensorProto]:
    return [numpy_helper.from_array(np.array(number, np.int64), "count")]


def outside(tensor: TensorProto) -> TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="model.sig")
    return tensor


def in_a_branch(node: NodeProto, weights: list[TensorProto]) -> ModelProto:
    """The node in an If within an If."""
    given = helper.make_tensor_value_info("out", FLOAT, None)
    inner = helper.make_graph([node], "inner", [], [given], weights)
    nested = helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)
    outer = helper.make_graph([nested], "outer", [], [given])
    yes = numpy_helper.from_array(np.array(True), "yes")
    return model([helper.make_node("If", ["yes"], ["value"], then_branch=outer, else_branch=outer)], [yes])


def a_function(node: NodeProto) -> ModelProto:
    made = helper.make_function("own", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 18)])
    found = model([helper.make_node("F", ["features"], ["value"], domain="own")], [])
    found.functions.append(made)
    found.opset_import.append(helper.make_opsetid("own", 1))
    return found


def weights() -> TensorProto:
    return numpy_helper.from_array(np.ones((2, 1), np.float32), "w")


def named(domain: str, name: str) -> ModelProto:
    """A function of this name beside another that does the work."""
    made = a_function(helper.make_node("Neg", ["x"], ["y"]))
    inner = [helper.make_node("Abs", ["x"], ["y"])]
    made.functions.append(helper.make_function(domain, name, ["x"], ["y"], inner, OPSETS))
    return made


def with_attribute(*, at_the_call: bool) -> ModelProto:
    """A function that takes what is in its attribute: a tensor of its own, or a graph that its call gives."""
    tensor = helper.make_attribute("what", outside(weights()))
    inner = helper.make_node("Constant", [], ["y"])
    inner.attribute.add(name="value", type=AttributeProto.TENSOR, ref_attr_name="what")
    made = a_function(inner)
    if at_the_call:
        made.functions[0].attribute.append("what")
        given = helper.make_tensor_value_info("out", FLOAT, None)
        graph = helper.make_graph([helper.make_node("NonZero", ["features"], ["out"])], "g", [], [given])
        made.graph.node[0].attribute.append(helper.make_attribute("what", graph))
    else:
        made.functions[0].attribute_proto.append(tensor)
    return made


def looping_in_a_branch_of_a_function() -> ModelProto:
    """As many turns as a field says, where a function takes a branch that it always takes."""
    loop = looping([]).graph.node[0]
    loop.input[0], loop.input[2] = "x", "x"
    given = helper.make_tensor_value_info("summed", FLOAT, None)
    branch = helper.make_graph([loop], "branch", [], [given])
    made = a_function(helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch))
    made.functions[0].node.insert(0, helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(
        np.array(True))))  # fmt: skip
    return made


def called_constant() -> ModelProto:
    """A function of ours called Constant gives another number than stands beside its name."""
    given = looping([])
    inner = helper.make_node("Constant", [], ["y"], value=turns(10**9)[0])
    given.functions.append(helper.make_function("own", "Constant", [], ["y"], [inner], OPSETS, attributes=["value"]))
    given.opset_import.append(helper.make_opsetid("own", 1))
    given.graph.node.insert(0, helper.make_node("Constant", [], ["count"], domain="own", value=turns(3)[0]))
    return given


MULTIPLIED = helper.make_node("MatMul", ["features", "w"], ["out"])
HELD = "stand outside the file"
REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "weights outside": (lambda: model([MULTIPLIED], [outside(weights())]), HELD),
    "weights outside in a subgraph": (lambda: in_a_branch(MULTIPLIED, [outside(weights())]), HELD),
    "a constant outside in a subgraph": (
        lambda: in_a_branch(helper.make_node("Constant", [], ["out"], value=outside(weights())), []),
        HELD,
    ),
    "a constant outside in a function": (
        lambda: a_function(helper.make_node("Constant", [], ["y"], value=outside(weights()))),
        HELD,
    ),
    "an operator of another domain": (
        lambda: model([helper.make_node("Gelu", ["features"], ["value"], domain="com.microsoft")], []),
        r"\['com.microsoft.Gelu'\] are not of the ONNX standard",
    ),
    "one in a subgraph": (
        lambda: in_a_branch(helper.make_node("Any", ["features"], ["out"], domain="x"), []),
        r"\['x.Any'\] are not of the ONNX standard",
    ),
    "chance": (lambda: model([helper.make_node("RandomNormalLike", ["features"], ["value"])], []), "draw lots"),
    "a loop that a field drives": (lambda: looping([], counted_by="features"), "'turns' may run for ever"),
    "a loop without a number": (lambda: looping([], counted_by=""), "'turns' may run for ever"),
    "a long loop": (lambda: looping(turns(MOST_TURNS + 1)), "takes 1,001 turns"),
    "a function by an operator's name": (lambda: named("", "Compress"), r"\['Compress'\] have names of the standard's"),
    "one of the other standard": (lambda: named("ai.onnx.ml", "Scaler"), r"\['Scaler'\] have names of the standard's"),
    "two functions of one name": (lambda: named("own", "F"), r"several functions \['F'\]"),
    "weights that a function brings": (lambda: with_attribute(at_the_call=False), r"\['F'\] bring attributes"),
    "a graph that a function is given": (lambda: with_attribute(at_the_call=True), r"\['F'\] are given graphs"),
    "a loop in a branch of a function": (looping_in_a_branch_of_a_function, "a function of the graph holds a Loop"),
    "a number that a function gives": (called_constant, "'turns' may run for ever"),
    "a loop in a function": (lambda: a_function(looping(turns(2)).graph.node[0]), "a function of the graph holds a"),
}


FIRST = [
    helper.make_node("ReduceMax", ["features"], ["most"], keepdims=0),
    helper.make_node("Cast", ["most"], ["number"], to=TensorProto.INT64),
    helper.make_node("Reshape", ["number", "flat"], ["shape"]),
]
FLAT = numpy_helper.from_array(np.array([1], np.int64), "flat")
ROWS = helper.make_node("Shape", ["features"], ["shape"])
SIZED = [
    helper.make_node("ConstantOfShape", ["shape"], ["made"]),
    helper.make_node("Expand", ["features", "shape"], ["made"]),
    helper.make_node("Tile", ["features", "shape"], ["made"]),
    helper.make_node("Reshape", ["w", "shape"], ["made"]),
    helper.make_node("Slice", ["w", "shape", "flat"], ["made"]),
    helper.make_node("TopK", ["w", "shape"], ["made", "where"]),
    helper.make_node("ReduceSum", ["w", "shape"], ["made"]),
    helper.make_node("SequenceInsert", ["w", "w", "shape"], ["made"]),
    helper.make_node("StringNormalizer", ["shape"], ["made"]),
    *(helper.make_node(kind, ["w", "w", "w", "", "shape"], ["made"]) for kind in ("RNN", "GRU", "LSTM")),
    helper.make_node("Attention", ["w", "w", "w", "", "", "", "shape"], ["made"]),
    helper.make_node("Resize", ["w", "shape", "w"], ["made"]),
]


@pytest.mark.parametrize("node", SIZED, ids=lambda node: node.op_type)
def test_sizes_follow_from_how_many_rows_there_are_and_not_from_what_stands_in_them(node: NodeProto) -> None:
    last = helper.make_node("Identity", ["made"], ["value"])
    read_graph(model([ROWS, node, last], [FLAT, weights()]).SerializeToString())
    with pytest.raises(Refused, match=rf"in {node.op_type} a row's values decide how large a tensor becomes"):
        read_graph(model([*FIRST, node, last], [FLAT, weights()]).SerializeToString())


@pytest.mark.parametrize("kind", ["NonZero", "Unique"])
def test_what_is_chosen_by_value_has_a_size_of_its_own(kind: str) -> None:
    chosen = helper.make_node(kind, ["features"], ["value"])
    with pytest.raises(Refused, match=f"in {kind} a row's values decide"):
        read_graph(model([chosen], []).SerializeToString())
    read_graph(model([helper.make_node(kind, ["w"], ["value"])], [weights()]).SerializeToString())


def deciding(body: list[NodeProto]) -> ModelProto:
    """A branch that the nodes choose by `asked`."""
    given = helper.make_tensor_value_info("out", FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["out"])], "branch", [], [given])
    return model([*body, helper.make_node("If", ["asked"], ["value"], then_branch=branch, else_branch=branch)],
                 [weights(), FLAT])  # fmt: skip


def test_no_value_chooses_a_branch_or_ends_a_loop() -> None:
    asked = helper.make_node("Greater", ["shape", "flat"], ["asked"])
    read_graph(deciding([ROWS, asked]).SerializeToString())
    with pytest.raises(Refused, match="in If a row's values decide which way is taken"):
        read_graph(deciding([*FIRST, asked]).SerializeToString())
    early = [helper.make_node("Add", ["sum", "sum"], ["next"])]
    ends = looping(turns(3), inner=early)
    body = ends.graph.node[0].attribute[0].g
    body.node[0].CopyFrom(helper.make_node("IsNaN", ["sum"], ["goes"]))
    with pytest.raises(Refused, match="in Loop 'turns' a row's values decide how many turns it takes"):
        read_graph(ends.SerializeToString())


def test_what_a_loop_carries_decides_nothing_later() -> None:
    """The values come in with the second turn alone."""
    inner = [
        helper.make_node("ConstantOfShape", ["sizes"], ["large"]),
        helper.make_node("ReduceMax", ["features"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["next"], to=TensorProto.INT64),
    ]
    made = looping(turns(3), inner=inner)
    loop = made.graph.node[0]
    loop.input[2] = "first"
    loop.attribute[0].g.input[2].name = "sizes"
    made.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "first"))
    with pytest.raises(Refused, match="in ConstantOfShape a row's values decide how large"):
        read_graph(made.SerializeToString())


def test_functions_and_scans_are_followed() -> None:
    inside = a_function(helper.make_node("NonZero", ["x"], ["y"]))
    with pytest.raises(Refused, match="in NonZero a row's values decide"):
        read_graph(inside.SerializeToString())
    inside.graph.node[0].input[0] = "w"
    inside.graph.initializer.append(weights())
    read_graph(inside.SerializeToString())
    given = helper.make_tensor_value_info("row", FLOAT, None), helper.make_tensor_value_info("out", FLOAT, None)
    body = helper.make_graph([helper.make_node("NonZero", ["row"], ["out"])], "body", [given[0]], [given[1]])
    scan = helper.make_node("Scan", ["features"], ["value"], body=body, num_scan_inputs=1)
    with pytest.raises(Refused, match="in NonZero a row's values decide"):
        read_graph(model([scan], []).SerializeToString())


def test_functions_that_call_each_other_without_end_are_refused() -> None:
    found = a_function(helper.make_node("F", ["x"], ["y"], domain="own"))
    with pytest.raises(Refused, match="functions within functions"):
        read_graph(found.SerializeToString())


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_graph_may_not_hold(what: str) -> None:
    made, said = REFUSED[what]
    with pytest.raises(Refused, match=said):
        read_graph(made().SerializeToString())


def test_loops_within_loops_are_multiplied() -> None:
    inner = looping(turns(40)).graph.node[0]
    inner.input[2], inner.output[0] = "sum", "next"
    count = helper.make_node("Constant", [], ["count"], value=turns(40)[0])
    with pytest.raises(Refused, match="takes 1,600 turns"):
        read_graph(looping(turns(40), inner=[count, inner]).SerializeToString())


def test_what_it_may_hold() -> None:
    assert operators(read_graph(looping(turns(3)).SerializeToString())) == "Loop+ReduceSum"
    assert operators(read_graph(in_a_branch(MULTIPLIED, [weights()]).SerializeToString())) == "If"
    read_graph(a_function(helper.make_node("Neg", ["x"], ["y"])).SerializeToString())


def test_what_is_no_model_is_said() -> None:
    with pytest.raises(Refused, match="not an ONNX file"):
        read_graph(b"PK\x03\x04 a zip")


def test_names_and_notes_make_no_other_model() -> None:
    known = weights_digest(linear())
    noted = linear(name="other", producer_name="somebody else", doc_string="mine", model_version=7)
    noted.graph.node[0].name = "first"
    noted.metadata_props.add(key="by", value="me")
    assert weights_digest(noted) == known
    assert weights_digest(linear(values=(0.5, -1.0001))) != known
    assert weights_digest(model([helper.make_node("Gemm", ["features", "w"], ["value"])], [weights()])) != known


def test_weights_as_numbers_are_those_as_bytes() -> None:
    listed = linear()
    tensor = helper.make_tensor("w", FLOAT, [2, 1], [0.5, -1.0])
    listed.graph.initializer[0].CopyFrom(tensor)
    assert listed.SerializeToString() != linear().SerializeToString()
    assert weights_digest(listed) == weights_digest(linear())
