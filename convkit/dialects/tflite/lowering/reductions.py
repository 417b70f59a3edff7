"""Reductions over axes, the largest elements, running sums."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import window
from convkit.ir.facts import attr, input_at, ints, shape_of

_REDUCTIONS = {
    "ReduceMax": "REDUCE_MAX",
    "ReduceMean": "MEAN",
    "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
    "ReduceSum": "SUM",
}
_COMPOSED = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")


def _axes(node: ir.Node, rank: int) -> list[int]:
    """The reduced axes, sorted; all by default, none where the node says that none means none."""
    given = attr(node, "axes")
    if given is None and input_at(node, 1) is not None:
        given = ints(input_at(node, 1))
        if given is None:
            raise UnsupportedError("the axes are not constant")
    if not given:
        return [] if attr(node, "noop_with_empty_axes", 0) else list(range(rank))
    return sorted({a % rank for a in given})


def reduce(b: Builder, code: str, x: Tensor, axes: list[int], keep: bool = True) -> Tensor:
    """One reducing operator over non-negative axes; nothing where there is none to reduce."""
    if not axes:
        return x
    shape = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
    return b.emit(code, [x, b.const(axes, np.int32, "axes")], shape, keep_dims=keep)


@lowers(*_REDUCTIONS, *_COMPOSED)
def reduction(b: Builder, node: ir.Node) -> Tensor:
    """A reduction, with the elementwise functions around it that its name says."""
    x, keep = b.input(node), bool(attr(node, "keepdims", 1))
    axes, kind = _axes(node, x.rank), node.op_type
    if kind in _REDUCTIONS:
        return reduce(b, _REDUCTIONS[kind], x, axes, keep)
    if kind == "ReduceLogSumExp":
        peak = reduce(b, "REDUCE_MAX", x, axes)  # subtracted, so that no exponential overflows
        total = reduce(b, "SUM", b.unary("EXP", b.binary("SUB", x, peak)), axes)
        return b.reshape(b.binary("ADD", peak, b.unary("LOG", total)), shape_of(node.outputs[0]))
    if kind == "ReduceL1":
        x = b.unary("ABS", x)
    elif kind in ("ReduceL2", "ReduceSumSquare"):
        x = b.binary("MUL", x, x) if x.dtype.kind in "iu" else b.unary("SQUARE", x)
    total = reduce(b, "SUM", x, axes, keep)
    finish = {"ReduceL2": "SQRT", "ReduceLogSum": "LOG"}.get(kind)
    return total if finish is None else b.unary(finish, total)


@lowers("ArgMax", "ArgMin")
def arg_extreme(b: Builder, node: ir.Node) -> Tensor:
    """The index of the first (or last) extreme element along the axis."""
    x = b.input(node)
    axis, last = attr(node, "axis", 0) % x.rank, attr(node, "select_last_index", 0)
    if last:
        x = window(b, x, axis, x.shape[axis] - 1, -1, x.shape[axis])
    code = "ARG_MAX" if node.op_type == "ArgMax" else "ARG_MIN"
    shape = [d for i, d in enumerate(x.shape) if i != axis]
    index = b.emit(code, [x, b.const(axis)], shape, np.int32, output_type="INT32")
    if last:
        index = b.binary("SUB", b.scalar_like(index, x.shape[axis] - 1), index)
    return b.cast(b.reshape(index, shape_of(node.outputs[0])), np.int64)


@lowers("TopK")
def top_k(b: Builder, node: ir.Node) -> list[Tensor]:
    """The k largest (or smallest) elements along the axis, in order, and their indices."""
    x, k = b.input(node), attr(node, "k")
    if k is None:
        sizes = ints(input_at(node, 1))
        if sizes is None:
            raise UnsupportedError("k is not constant")
        (k,) = sizes
    axis, largest = attr(node, "axis", -1) % x.rank, attr(node, "largest", 1)
    perm = [i for i in range(x.rank) if i != axis] + [axis]
    back = [perm.index(i) for i in range(x.rank)]
    rows = b.transpose(x if largest else b.unary("NEG", x), perm)
    shape = [*rows.shape[:-1], k]
    best, index = b.emit_many("TOPK_V2", [rows, b.const(k)], [(shape, x.dtype), (shape, np.int32)])
    values = b.transpose(best, back)
    return [values if largest else b.unary("NEG", values), b.cast(b.transpose(index, back), np.int64)]


@lowers("CumSum")
def cum_sum(b: Builder, node: ir.Node) -> Tensor:
    """Running sums along the axis, from either end, with or without the element itself."""
    x, axis = b.input(node), ints(input_at(node, 1))
    if axis is None:
        raise UnsupportedError("the axis is not constant")
    flags = {name: bool(attr(node, name, 0)) for name in ("exclusive", "reverse")}
    return b.emit("CUMSUM", [x, b.const(axis[0] % x.rank)], x.shape, **flags)
