"""The layout pass on a TFLite graph: where it came in with a TRANSPOSE around every convolution, it
leaves with those that must be there.

`axes` knows how operators run on tensors stored in another order, `assignment` chooses the orders,
`materialize` writes the graph that has them.
"""

from __future__ import annotations

from dataclasses import dataclass

from convkit.dialects.tflite.assignment import (
    CHANNELS_LAST,
    IoLayout,
    LayoutProblem,
    Node,
)
from convkit.dialects.tflite.graph import Graph
from convkit.dialects.tflite.materialize import fold_constant_transposes, materialize
from convkit.dialects.tflite.movement import is_runtime_transpose, transposition
from convkit.dialects.tflite.storage import identity, wide_axes


@dataclass(frozen=True)
class LayoutStats:
    """What the pass achieved; bytes are those of runtime tensors that a TRANSPOSE moves."""

    bytes_before: int
    bytes_after: int
    transposes_before: int
    transposes_after: int
    nhwc_inputs: tuple[str, ...] = ()
    """Signature names of the inputs that became channels-last."""
    nhwc_outputs: tuple[str, ...] = ()
    """Signature names of the outputs that became channels-last."""


def transposed_bytes(graph: Graph) -> tuple[int, int]:
    """How many bytes the TRANSPOSEs of a graph move, and how many TRANSPOSEs there are."""
    total = count = 0
    for op in graph.ops:
        if is_runtime_transpose(op):
            source, perm = transposition(op)
            count += 1
            if wide_axes(perm, source.shape) != wide_axes(identity(source.rank), source.shape):
                total += source.nbytes
    return total, count


def assign_layout(graph: Graph, io_layout: IoLayout = "keep") -> tuple[Graph, LayoutStats]:
    """The same function with the least bytes moved by TRANSPOSE, and what that saved.

    `io_layout="nhwc"` lets graph inputs and outputs of rank 4 be stored channels-last, order
    (0, 2, 3, 1), where that saves bytes. The given graph is left as it is.
    """
    bytes_before, transposes_before = transposed_bytes(graph)
    problem = LayoutProblem(fold_constant_transposes(graph), io_layout)
    problem.solve()
    result = materialize(problem)
    bytes_after, transposes_after = transposed_bytes(result)

    def switched(nodes: list[Node], names: list[str]) -> tuple[str, ...]:
        return tuple(n for node, n in zip(nodes, names, strict=True) if node.mode[0] == CHANNELS_LAST)

    return result, LayoutStats(
        bytes_before,
        bytes_after,
        transposes_before,
        transposes_after,
        switched(problem.inputs, graph.signature_inputs),
        switched(problem.outputs, graph.signature_outputs),
    )
