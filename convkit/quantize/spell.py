"""Operators without an integer kernel, spelled by ones that have it; the function stays the same."""

from __future__ import annotations

from dataclasses import replace

from convkit.dialects.tflite.graph import Graph, Op
from convkit.quantize.grid import FLOAT32


def spell(graph: Graph) -> Graph:
    """The graph with SQUARE(x) as MUL(x, x)."""
    return replace(graph, ops=[_spelled(op) for op in graph.ops])


def _spelled(op: Op) -> Op:
    if op.code == "SQUARE" and op.output.dtype == FLOAT32:
        return replace(op, code="MUL", inputs=[op.inputs[0], op.inputs[0]], options={})
    return op
