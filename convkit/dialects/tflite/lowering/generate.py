"""Operators that make patterns: one-hot rows, triangles, sequences read backwards."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, constant_ints, lowers
from convkit.dialects.tflite.lowering.indexing import window
from convkit.ir.facts import attr, input_at, shape_of


@lowers("OneHot")
def one_hot(b: Builder, node: ir.Node) -> Tensor:
    """`on` at the index along the new axis, `off` elsewhere; an index below zero counts from the end."""
    indices, (depth,), values = b.cast(b.input(node), np.int32), constant_ints(node, 1), b.input(node, 2)
    if b.input(node).dtype.kind != "u":
        wrapped = b.binary("ADD", indices, b.scalar_like(indices, depth))
        negative = b.binary("LESS", indices, b.scalar_like(indices, 0), np.bool_)
        indices = b.emit("SELECT_V2", [negative, wrapped, indices], indices.shape, np.int32)
    off, on = (b.reshape(window(b, values, 0, i, 1, 1), ()) for i in range(2))
    rows = (*indices.shape, depth)
    hot = b.emit("ONE_HOT", [indices, b.const(depth), on, off], rows, values.dtype, axis=-1)
    axis, last = attr(node, "axis", -1) % len(rows), len(rows) - 1
    return b.transpose(hot, [*range(axis), last, *range(axis, last)])


@lowers("Trilu")
def trilu(b: Builder, node: ir.Node) -> Tensor:
    """The upper or lower triangle of each matrix from diagonal k on, zero elsewhere."""
    x = b.input(node)
    (k,) = (0,) if input_at(node, 1) is None else constant_ints(node, 1)
    ones = np.ones(x.shape, np.bool_)
    kept = np.triu(ones, k) if attr(node, "upper", 1) else np.tril(ones, k)
    return b.emit("SELECT_V2", [b.const(kept, hint="triangle"), x, b.scalar_like(x, 0)], x.shape, x.dtype)


@lowers("EyeLike")
def eye_like(b: Builder, node: ir.Node) -> Tensor:
    """Ones on diagonal k, known whatever the input."""
    value = node.outputs[0]
    assert value.dtype is not None
    rows, columns = shape_of(value)
    return b.const(np.eye(rows, columns, attr(node, "k", 0), value.dtype.numpy()), hint="eye")


@lowers("ReverseSequence")
def reverse_sequence(b: Builder, node: ir.Node) -> Tensor:
    """The first `sequence_lens` steps of each row read backwards, the rest as they are."""
    x, lengths = b.input(node, 0), b.cast(b.input(node, 1), np.int32)
    time, batch = attr(node, "time_axis", 0), attr(node, "batch_axis", 1)
    return b.emit("REVERSE_SEQUENCE", [x, lengths], x.shape, seq_dim=time, batch_dim=batch)
