"""Rewriter: the one object that adds nodes to a graph; it types, folds, names and traces them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.canonical import CANONICAL
from convkit.ir.emit import Results
from convkit.ir.facts import make_attr
from convkit.ir.fold import fold_node
from convkit.ir.grid import note_grid
from convkit.ir.infer import infer_node
from convkit.ir.origin import Origin, merge_origins, set_origin


class Rewriter:
    """Builds nodes before `anchor`: `rw.Conv(x, w, b, pads=[1, 1, 1, 1])` gives the output value.

    Every node comes in normal form: with types and shapes, explicit attributes, a unique name and `origin`;
    what is constant is evaluated on the spot and what does nothing is its input. Several outputs:
    `rw.Split(x, sizes, outputs=2, axis=1)` gives a list. None stands for an absent input or attribute.
    """

    def __init__(self, graph: ir.Graph, anchor: ir.Node, origin: Origin, names: Names) -> None:
        self._graph = graph
        self._anchor = anchor
        self._origin = origin
        self._names = names
        self._base = origin.nodes[0] if origin.nodes else anchor.name or anchor.op_type
        self.added: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)

        def make(*inputs: ir.Value | None, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
            values = self.ops(op_type, *inputs, outputs=outputs, domain=domain, **attributes)
            return values[0] if outputs == 1 else values

        return make

    def op(self, op_type: str, *inputs: ir.Value | None, outputs: int = 1, **attributes: Any) -> ir.Value:
        """Add one node; its first output."""
        return self.ops(op_type, *inputs, outputs=outputs, **attributes)[0]

    def ops(
        self, op_type: str, *inputs: ir.Value | None, outputs: int, domain: Any = "", **attributes: Any
    ) -> Results:
        """Add one node; all its outputs. Attributes are Python values."""
        kept = {k: v for k, v in attributes.items() if v is not None}
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        attrs = [make_attr(name, value) for name, value in kept.items()]
        node = ir.Node(domain, op_type, given, attrs, num_outputs=outputs)
        found: Results | None = None
        try:
            infer_node(node)
            folded = fold_node(node)
            if folded is not None:
                found = [self.const(array, op_type.lower()) for array in folded]
                note_grid(node, found[0])
            elif domain == "" and op_type in CANONICAL:
                found = CANONICAL[op_type](node, self)
        except BaseException:
            _detach(node)
            raise
        if found is not None:
            _detach(node)
            return found
        self._insert(node)
        return list(node.outputs)

    def replaces(self, *nodes: ir.Node) -> None:
        """Nodes outside the match that what is built from now on stands for: their origins join."""
        self._origin = self._origin.union(merge_origins(nodes))

    def interface(self, value: ir.Value) -> ir.Value:
        """A copy of `value` that may be a graph output although `value` is an input or constant."""
        node = ir.node("Identity", [value])
        infer_node(node)
        self._insert(node)
        return node.outputs[0]

    def _insert(self, node: ir.Node) -> None:
        node.name = self._names.fresh(f"{self._base}/{node.op_type}")
        for index, value in enumerate(node.outputs):
            value.name = self._names.fresh(f"{node.name}:{index}")
        set_origin(node, self._origin)
        self._graph.insert_before(self._anchor, node)
        self.added.append(node)

    def const(self, array: np.ndarray | Sequence[Any] | float, hint: str = "const") -> ir.Value:
        """A new constant; a sequence of ints becomes int64, of floats float32."""
        if not isinstance(array, (np.ndarray, np.generic)):
            array = np.asarray(array)
            if array.size == 0:
                array = array.astype(np.int64)
            elif array.dtype == np.float64:
                array = array.astype(np.float32)
        name = self._names.fresh(f"{self._base}/{hint}")
        value = ir.val(name, const_value=ir.Tensor(np.asarray(array), name=name))
        self._graph.register_initializer(value)
        self.constants.append(value)
        return value

    def ints(self, values: Sequence[int]) -> ir.Value:
        """A constant int64 vector."""
        return self.const(np.array([*values], np.int64))


def _detach(node: ir.Node) -> None:
    """Let `node`, which never enters the graph, no longer count as a reader of its inputs."""
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)


class Names:
    """Unique names in one graph, stable from run to run."""

    def __init__(self, graph: ir.Graph) -> None:
        taken: set[str] = set(graph.initializers)
        taken.update(value.name or "" for value in graph.inputs)
        for node in graph:
            taken.add(node.name or "")
            taken.update(value.name or "" for value in node.outputs)
        self._taken = taken
        self._next: dict[str, int] = {}

    def fresh(self, base: str) -> str:
        """`base` itself if it is free, else `base_1`, `base_2`, ..."""
        name = base
        while name in self._taken:
            self._next[base] = self._next.get(base, 0) + 1
            name = f"{base}_{self._next[base]}"
        self._taken.add(name)
        return name
