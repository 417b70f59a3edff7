"""Operators that the GPU delegate computes right only on values of their own, in a spelling that it does.

Other runtimes take either spelling, at the same speed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convkit.dialects.tflite.axes import BROADCASTING, ELEMENTWISE
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.movement import reshape_op

_TWICE = frozenset({"ADD", "MUL", "ADD_N", "CONCATENATION", "PACK"})
"""What the delegate takes with one value as several operands; it refuses others, or stops on them."""


def keep_apart(graph: Graph) -> Graph:
    """The same function with parts of a SPLIT, and operands of one operator, apart."""
    return _own_operands(_slices_of_splits(graph))


def _own_operands(graph: Graph) -> Graph:
    """A value that an operator reads twice is copied for the second time."""
    ops: list[Op] = []
    for op in graph.ops:
        seen: set[int] = set()
        inputs = list(op.inputs)
        for slot, tensor in enumerate(op.inputs if op.code not in _TWICE else ()):
            if tensor is None or tensor.is_constant:
                continue
            if id(tensor) in seen:
                copy = Tensor(f"{op.outputs[0].name}_again{slot}", tensor.shape, tensor.dtype)
                ops.append(reshape_op(tensor, copy, op.origin))
                inputs[slot] = copy
            seen.add(id(tensor))
        ops.append(replace(op, inputs=inputs) if inputs != op.inputs else op)
    return replace(graph, ops=ops) if len(ops) != len(graph.ops) else graph


def _slices_of_splits(graph: Graph) -> Graph:
    """A SPLIT becomes SLICEs where an operator reads two of its parts, through elementwise operators too.

    The GPU delegate merges elementwise operators into the one that makes their operand; merged into a
    SPLIT they read another part while it is written, and a CONCATENATION of parts stops the delegate.
    """
    readers = graph.consumers()
    ops: list[Op] = []
    for op in graph.ops:
        apart = op.code == "SPLIT" and parts_meet(op.outputs, readers)
        ops += _slices(op) if apart else [op]
    return replace(graph, ops=ops) if len(ops) != len(graph.ops) else graph


def parts_meet(parts: list[Tensor], readers: dict[int, list[Op]]) -> bool:
    """Whether an operator reads two of these values, directly or through elementwise operators."""
    part_of = {id(part): number for number, part in enumerate(parts)}
    waiting = list(parts)
    while waiting:
        tensor = waiting.pop()
        for reader in readers.get(id(tensor), ()):
            pointwise = reader.code in ELEMENTWISE or reader.code in BROADCASTING
            if not pointwise and reader.code != "CONCATENATION":
                continue
            if len({part_of[id(t)] for t in reader.inputs if id(t) in part_of}) > 1:
                return True
            if pointwise and id(reader.output) not in part_of:
                part_of[id(reader.output)] = part_of[id(tensor)]
                waiting.append(reader.output)
    return False


def _slices(op: Op) -> list[Op]:
    """The parts of a SPLIT as SLICEs."""
    axis, source = op.inputs
    assert axis is not None
    assert axis.data is not None
    assert source is not None
    place, slices, at = int(axis.data.reshape(-1)[0]), [], 0
    for part in op.outputs:
        begin = np.zeros(source.rank, np.int32)
        begin[place], at = at, at + part.shape[place]
        bounds = [
            Tensor(f"{part.name}_{word}", (source.rank,), np.dtype(np.int32), data)
            for word, data in (("begin", begin), ("size", np.asarray(part.shape, np.int32)))
        ]
        slices.append(Op("SLICE", [source, *bounds], [part], {}, op.origin))
    return slices
