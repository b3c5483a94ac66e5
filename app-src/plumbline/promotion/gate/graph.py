"""What the graph of a model may hold, and what is left of it without its names.

A server runs a graph on its event loop or its one thread: an operator that asks for other code, weights that stand
outside the digest, or a loop that its input decides would be the caller's to use.
"""

import hashlib
from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from plumbline.core.artifact import MODEL
from plumbline.core.errors import Refused
from plumbline.promotion.gate.flow import require_even

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
"""The operators of the ONNX standard; those of others may be any code that a runtime was built with."""
_CHANCE = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
MOST_TURNS = 1_000
"""Of all loops of a graph, one within the other multiplied: what runs longer is no model for one request."""


def read_graph(data: bytes) -> ModelProto:
    """Parse a model and hold all of it, subgraphs and functions too, against what may be served.

    Raises Refused with the name of what may not: weights outside the file, an operator outside the standard, a loop
    without a constant number of turns or with more than 1,000 of them, work that a row's values decide.
    """
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, RecursionError) as error:
        raise Refused(f"{MODEL}: not an ONNX file: {error}") from error
    _require_plain(model.functions)
    parts = [*_graphs(model.graph), *(graph for made in model.functions for graph in _within(made.node))]
    inside = [node for made in model.functions for node in (*made.node, *_nodes(_within(made.node)))]
    nodes = [*_nodes(_graphs(model.graph)), *inside]
    tensors = [tensor for graph in parts for tensor in _initializers(graph)]
    tensors += [tensor for node in nodes for attribute in node.attribute for tensor in _tensors(attribute)]
    if outside := sorted({tensor.name for tensor in tensors if _is_outside(tensor)}):
        raise Refused(f"{MODEL}: the weights {outside} stand outside the file, where no digest covers them")
    if chance := sorted({node.op_type for node in nodes} & _CHANCE):
        raise Refused(f"{MODEL}: the operators {chance} draw lots: no answer of it could be computed again")
    own = {(made.domain, made.name) for made in model.functions}
    if foreign := sorted(
        {f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in _DOMAINS}
        - {f"{domain}.{name}" for domain, name in own}
    ):
        raise Refused(f"{MODEL}: the operators {foreign} are not of the ONNX standard; convert the model without them")
    if any(node.op_type == "Loop" for node in inside):
        raise Refused(f"{MODEL}: a function of the graph holds a Loop; write the loop out, or use Scan")
    if given := sorted({node.op_type for node in nodes if (node.domain, node.op_type) in own and [*_within([node])]}):
        raise Refused(
            f"{MODEL}: the functions {given} are given graphs, which nobody follows into them; write them out"
        )
    _require_bounded(model.graph, 1)
    require_even(model)
    return model


def _require_plain(functions: Iterable[FunctionProto]) -> None:
    """A function is what its name says, once, and holds all that it computes with."""
    names = [(made.domain, made.name) for made in functions]
    if standard := sorted({name for domain, name in names if domain in _DOMAINS}):
        raise Refused(f"{MODEL}: the functions {standard} have names of the standard's operators; name them otherwise")
    if twice := sorted({name for domain, name in names if names.count((domain, name)) > 1}):
        raise Refused(f"{MODEL}: there are several functions {twice}; give each its own name")
    if lent := sorted({made.name for made in functions if made.attribute_proto}):
        raise Refused(f"{MODEL}: the functions {lent} bring attributes of their own; give them where each is called")


def operators(model: ModelProto) -> str:
    """The kinds of nodes of the outer graph, e.g. `TreeEnsembleClassifier`."""
    return "+".join(sorted({node.op_type for node in model.graph.node}))


def weights_digest(model: ModelProto) -> str:
    """`sha256:…` of what a graph computes: operators, attributes and weights, without any name, note or order.

    Two files with equal ones are the same model, whoever says to have made them and whatever its tensors are called.
    Raises Refused where a tensor's bytes are not of its shape.
    """
    try:
        parts = [_of_graph(model.graph), *(_of_nodes(made.node) for made in model.functions)]
    except (TypeError, ValueError) as error:
        raise Refused(f"{MODEL}: its weights are not what they say of themselves: {error}") from error
    return "sha256:" + _joined(parts)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and all graphs within it."""
    yield graph
    yield from _within(graph.node)


def _within(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(inner)


def _nodes(graphs: Iterable[GraphProto]) -> Iterator[NodeProto]:
    for graph in graphs:
        yield from graph.node


def _initializers(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    yield from (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors)
    sparse = (*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else ()), *attribute.sparse_tensors)
    for item in sparse:
        yield from (item.values, item.indices)


def _is_outside(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data) > 0


def _require_bounded(graph: GraphProto, turns: int) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        ours = node.op_type == "Constant" and node.domain in _DOMAINS
        if ours and node.output and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        inside = turns
        if node.op_type == "Loop":
            count = constants.get(node.input[0]) if node.input else None
            if count is None:
                raise Refused(
                    f"{MODEL}: the loop {node.name!r} may run for ever: its number of turns is not a constant of its "
                    "graph; write the loop out, use Scan, or give it a constant one"
                )
            inside *= max(1, int(numpy_helper.to_array(count).ravel()[0]))
            if inside > MOST_TURNS:
                raise Refused(f"{MODEL}: the loop {node.name!r} takes {inside:,} turns; at most {MOST_TURNS:,} may be")
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                _require_bounded(inner, inside)


def _of_graph(graph: GraphProto) -> str:
    return _joined([_of_nodes(graph.node), *(_of_tensor(tensor) for tensor in _initializers(graph))])


def _of_nodes(nodes: Iterable[NodeProto]) -> str:
    return _joined(
        _joined([f"{node.domain}.{node.op_type}", *(_of_attribute(item) for item in node.attribute)]) for node in nodes
    )


def _of_attribute(attribute: AttributeProto) -> str:
    kept = AttributeProto()
    kept.CopyFrom(attribute)
    for name in ("doc_string", "t", "tensors", "g", "graphs", "sparse_tensor", "sparse_tensors"):
        kept.ClearField(name)
    inner = (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs)
    parts = [*map(_of_tensor, _tensors(attribute)), *map(_of_graph, inner)]
    return _joined([kept.SerializeToString(deterministic=True).hex(), *parts])


def _of_tensor(tensor: TensorProto) -> str:
    array = numpy_helper.to_array(tensor)
    return _joined([str(array.dtype), str(array.shape), array.tobytes().hex()])


def _joined(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()
