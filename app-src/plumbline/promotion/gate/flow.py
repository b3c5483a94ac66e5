"""Whether one row can cost more than another: sizes and ways through a graph that the input's values decide.

What the gate measures on its own rows is what every row costs only where no value of the input says how large a tensor
becomes, which branch is taken or how long a loop runs. How many rows there are may say it: a server bounds them.
"""

from collections.abc import Iterable, Mapping

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from plumbline.core.artifact import MODEL
from plumbline.core.errors import Refused

_SHAPES = {"Shape", "Size"}
"""What they give follows from how many rows there are, not from what stands in them."""
_SIZES: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "Attention": (6,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "Expand": (1,),
    "GRU": (4,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "LSTM": (4,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "NonMaxSuppression": (0, 1, 2, 3, 4),
    "NonZero": (0,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "RNN": (4,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "SequenceAt": (1,),
    "SequenceErase": (1,),
    "SequenceInsert": (2,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Squeeze": (1,),
    "StringNormalizer": (0,),
    "StringSplit": (0,),
    "Tile": (1, 2),
    "TopK": (1,),
    "Unique": (0,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""{operator: the inputs whose values decide the shape of what it gives, or in how many steps}; of `Reduce…` it is
the second."""
_DEEPEST = 8
Scope = dict[str, bool]
"""{tensor: whether values of the input decide what stands in it}."""


def require_even(model: ModelProto) -> None:
    """Raise Refused where a row's values decide how much work the graph is: the operator, and what it decides."""
    scope = {item.name: True for item in model.graph.input}
    _Flow({(item.domain, item.name): item for item in model.functions}).graph(model.graph, scope, 0)


class _Flow:
    def __init__(self, functions: Mapping[tuple[str, str], FunctionProto]) -> None:
        self.functions = functions
        self.known: dict[tuple[str, str, tuple[bool, ...]], list[bool]] = {}

    def graph(self, graph: GraphProto, outer: Scope, depth: int) -> list[bool]:
        """Which of its outputs are decided by values."""
        if depth > _DEEPEST:
            raise Refused(f"{MODEL}: graphs within graphs, more than {_DEEPEST} deep; write them out")
        constants = [item.name for item in graph.initializer]
        constants += [item.values.name for item in graph.sparse_initializer]
        scope = outer | dict.fromkeys(constants, False)
        self.nodes(graph.node, scope, depth)
        return [scope.get(item.name, True) for item in graph.output]

    def nodes(self, nodes: Iterable[NodeProto], scope: Scope, depth: int) -> None:
        """Follow the values through nodes in their order; the scope learns what each gives."""
        for node in nodes:
            given = [bool(name) and scope.get(name, True) for name in node.input]
            made = self._made(node, given, scope, depth)
            scope |= dict(zip(node.output, made, strict=False))

    def _made(self, node: NodeProto, given: list[bool], scope: Scope, depth: int) -> list[bool]:
        key = node.domain, node.op_type
        if key in self.functions:
            return self._function(key, tuple(given), depth)
        deciding = (1,) if node.op_type.startswith("Reduce") else _SIZES.get(node.op_type, ())
        if any(given[place] for place in deciding if place < len(given)):
            raise _uneven(node, "how large a tensor becomes")
        graphs = [
            inner for item in node.attribute for inner in (*([item.g] if item.HasField("g") else ()), *item.graphs)
        ]
        if node.op_type == "If":
            if any(given):
                raise _uneven(node, "which way is taken")
            branches = [self.graph(inner, scope, depth + 1) for inner in graphs]
            return [any(outputs) for outputs in zip(*branches, strict=False)]
        if node.op_type == "Loop" and graphs:
            return self._loop(node, graphs[0], given, scope, depth)
        if graphs:
            return self._each(node, graphs, given, scope, depth)
        return [node.op_type not in _SHAPES and any(given)] * len(node.output)

    def _loop(self, node: NodeProto, body: GraphProto, given: list[bool], scope: Scope, depth: int) -> list[bool]:
        """A turn's results are what the next one begins with, so this is repeated until nothing more is decided."""
        begin = [False, *given[1:2], *([False] if len(given) < 2 else []), *given[2:]]
        while True:
            named = dict(zip([item.name for item in body.input], begin, strict=False))
            ended = self.graph(body, scope | named, depth + 1)
            carried = [one or other for one, other in zip(begin[1:], ended, strict=False)]
            if carried == begin[1:]:
                break
            begin = [False, *carried]
        if begin[1]:
            raise _uneven(node, "how many turns it takes")
        return [*begin[2:], *ended[len(begin) - 1 :]]

    def _each(
        self, node: NodeProto, graphs: list[GraphProto], given: list[bool], scope: Scope, depth: int
    ) -> list[bool]:
        """`Scan`, `SequenceMap`: whatever goes in may be in any of them, and in the next turn."""
        fed = any(given)
        for _ in range(2):
            named = {item.name: fed for inner in graphs for item in inner.input}
            made = any(any(self.graph(inner, scope | named, depth + 1)) for inner in graphs)
            fed = fed or made
        return [fed] * len(node.output)

    def _function(self, key: tuple[str, str], given: tuple[bool, ...], depth: int) -> list[bool]:
        if (*key, given) not in self.known:
            if depth > _DEEPEST:
                raise Refused(f"{MODEL}: functions within functions, more than {_DEEPEST} deep; write them out")
            made = self.functions[key]
            scope: Scope = dict(zip(made.input, given, strict=False))
            self.nodes(made.node, scope, depth + 1)
            self.known[(*key, given)] = [scope.get(name, True) for name in made.output]
        return self.known[(*key, given)]


def _uneven(node: NodeProto, what: str) -> Refused:
    name = f"{node.op_type} {node.name!r}" if node.name else node.op_type
    return Refused(
        f"{MODEL}: in {name} a row's values decide {what}: one row could hold a server that thousands do not; "
        "let sizes and branches follow from constants and from the number of rows"
    )
