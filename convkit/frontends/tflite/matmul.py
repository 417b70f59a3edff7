"""Matrix products and the operators that hold one: fully connected, batched, lookup."""

from __future__ import annotations

import onnx_ir as ir

from convkit.dialects.tflite.graph import Op
from convkit.frontends.tflite.builder import Builder, RefusedError, imports


@imports("FULLY_CONNECTED")
def fully_connected(b: Builder, op: Op) -> ir.Value:
    """x W^T + bias; x is a matrix unless the operator keeps its dimensions."""
    x, w = op.inputs[:2]
    assert x is not None
    assert w is not None
    if op.options["weights_format"] != "DEFAULT":
        raise RefusedError(f"its weights are stored as {op.options['weights_format']}")
    if w.rank != 2:
        raise RefusedError(f"its weights have rank {w.rank}")
    value = b.real(x)
    if not (op.options["keep_num_dims"] and x.rank > 1) and (x.rank != 2 or x.shape[-1] != w.shape[1]):
        value = b.reshape(value, (-1, w.shape[1]))
    y = b.op("MatMul", value, b.real(w, (1, 0)))
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    if bias is not None:
        y = b.op("Add", y, b.real(bias))
    return b.activated(y, op.options)


@imports("BATCH_MATMUL")
def batch_matmul(b: Builder, op: Op) -> ir.Value:
    """The product of the last two axes, either operand transposed if asked."""
    sides = []
    for tensor, turned in zip(op.inputs[:2], (op.options["adj_x"], op.options["adj_y"]), strict=True):
        assert tensor is not None
        order = [*range(tensor.rank - 2), tensor.rank - 1, tensor.rank - 2]
        sides.append(b.real(tensor, order) if turned else b.real(tensor))
    return b.op("MatMul", *sides)


@imports("EMBEDDING_LOOKUP")
def embedding_lookup(b: Builder, op: Op) -> ir.Value:
    """Rows of a table."""
    return b.op("Gather", b.real(op.inputs[1]), b.index(op.inputs[0]), axis=0)
