"""Along axes: sums and their kin, positions of extremes, running sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Op
from convkit.frontends.tflite.builder import Builder, RefusedError, imports
from convkit.frontends.tflite.movement import numbers

_REDUCTIONS = {
    "MEAN": "ReduceMean",
    "SUM": "ReduceSum",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}


@imports(*_REDUCTIONS)
def reduce(b: Builder, op: Op) -> ir.Value:
    """One ONNX operator of the same meaning."""
    axes = b.ints(numbers(op.inputs[1], "axes"))
    x, keep = b.real(op.inputs[0]), int(bool(op.options["keep_dims"]))
    return b.op(_REDUCTIONS[op.code], x, axes, keepdims=keep, noop_with_empty_axes=1)


@imports("REDUCE_ANY", "REDUCE_ALL")
def reduce_truth(b: Builder, op: Op) -> ir.Value:
    """The greatest or least of zeros and ones."""
    x = b.op("Cast", b.real(op.inputs[0]), to=int(ir.DataType.INT32))
    name = "ReduceMax" if op.code == "REDUCE_ANY" else "ReduceMin"
    axes, keep = b.ints(numbers(op.inputs[1], "axes")), int(bool(op.options["keep_dims"]))
    y = b.op(name, x, axes, keepdims=keep, noop_with_empty_axes=1)
    return b.op("Cast", y, to=int(ir.DataType.BOOL))


@imports("ARG_MAX", "ARG_MIN")
def arg_extreme(b: Builder, op: Op) -> ir.Value:
    """The first place of the extreme."""
    (axis,) = numbers(op.inputs[1], "axis")
    y = b.op("ArgMax" if op.code == "ARG_MAX" else "ArgMin", b.real(op.inputs[0]), axis=axis, keepdims=0)
    return b.op("Cast", y, to=int(ir.DataType.from_numpy(op.outputs[0].dtype)))


@imports("TOPK_V2")
def top_k(b: Builder, op: Op) -> Sequence[ir.Value]:
    """The k greatest of the last axis, sorted, and their places."""
    k = b.ints(numbers(op.inputs[1], "number"))
    values, places = b.ops("TopK", b.real(op.inputs[0]), k, outputs=2, axis=-1)
    return values, b.op("Cast", places, to=int(ir.DataType.from_numpy(op.outputs[1].dtype)))


@imports("CUMSUM")
def cumsum(b: Builder, op: Op) -> ir.Value:
    """Running sums."""
    (axis,) = numbers(op.inputs[1], "axis")
    flags = {name: int(bool(op.options[name])) for name in ("exclusive", "reverse")}
    return b.op("CumSum", b.real(op.inputs[0]), b.const(axis, np.int64), **flags)


@imports("STABLEHLO_COMPOSITE")
def composite(b: Builder, op: Op) -> Sequence[ir.Value]:
    """What the file spells it out as: its decomposition."""
    index = int(op.options["decomposition_subgraph_index"])
    if not 0 < index < len(b.graphs) or op in b.graphs[index].ops:
        raise RefusedError("its decomposition is missing")
    inner = b.graphs[index]
    if len(inner.inputs) != len(op.inputs) or len(inner.outputs) != len(op.outputs):
        raise RefusedError("its decomposition has another interface")
    if any(o.code == op.code for o in inner.ops):
        raise RefusedError("its decomposition holds another composite")
    for tensor, given in zip(inner.inputs, op.inputs, strict=True):
        assert given is not None
        b.define(tensor, b.stored(given))
    refused = b.run(inner)
    if refused:
        raise RefusedError(refused[0].message)
    return [b.real(t) for t in inner.outputs]
