"""Peephole simplification of a TFLite graph; the function stays the same real function.

`simplify` sweeps over the operators in execution order until nothing changes: each rule looks at
one operator and what makes its inputs, and answers with a better operator, with a tensor that
already holds the result, or with nothing. The rules that merge arithmetic are in `fusions`.
"""

from __future__ import annotations

from convkit.dialects.tflite.apart import keep_apart
from convkit.dialects.tflite.fusions import FUSIONS
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.movement import is_runtime_transpose, reshape_op, transpose_op, transposition
from convkit.dialects.tflite.restructure import (
    reshape_before_dense,
    reshape_before_split,
    reshape_before_transpose,
    settle_transpose,
    split_slices,
)
from convkit.dialects.tflite.shortcuts import SHORTCUTS
from convkit.dialects.tflite.storage import compose, identity, wide_axes
from convkit.dialects.tflite.sweep import Rule, Sweep

_MAX_SWEEPS = 16


def merge_transposes(op: Op, sweep: Sweep) -> Op | Tensor | None:
    """One TRANSPOSE for two; a RESHAPE or nothing for one that leaves the bytes where they are."""
    if not is_runtime_transpose(op):
        return None
    source, perm = transposition(op)
    if perm == identity(source.rank):
        return source
    before = sweep.maker(source)
    if before is not None and is_runtime_transpose(before):
        first, inner = transposition(before)
        return transpose_op(first, compose(inner, perm), op.output, before.origin.union(op.origin))
    if wide_axes(perm, source.shape) == wide_axes(identity(source.rank), source.shape):
        return reshape_op(source, op.output, op.origin)
    return None


def merge_reshapes(op: Op, sweep: Sweep) -> Op | Tensor | None:
    """One RESHAPE for two in a row; nothing for one to the same shape."""
    source = op.inputs[0] if op.code == "RESHAPE" else None
    if source is None or source.is_constant or source.quantization is not None:
        return None
    if source.shape == op.output.shape:
        return source
    before = sweep.maker(source)
    if before is not None and before.code == "RESHAPE" and (first := before.inputs[0]) is not None:
        return reshape_op(first, op.output, before.origin.union(op.origin))
    return None


def share(op: Op, sweep: Sweep) -> Tensor | None:
    """The result of an equal operator that was there before."""
    twin = sweep.twin(op)
    return twin.output if twin is not None and len(op.outputs) == 1 else None


def simplify(graph: Graph) -> Graph:
    """The same function in fewer operators; names of graph inputs and outputs are kept."""
    rules: tuple[Rule, ...] = (
        merge_transposes,
        merge_reshapes,
        reshape_before_transpose,
        settle_transpose,
        reshape_before_dense,
        *FUSIONS,
        *SHORTCUTS,
        share,
    )
    for _ in range(_MAX_SWEEPS):
        before = graph
        sweep = Sweep(reshape_before_split(split_slices(graph)))
        graph = sweep.run(rules)
        if not sweep.changed and len(graph.ops) == len(before.ops):
            break
    return keep_apart(graph)
