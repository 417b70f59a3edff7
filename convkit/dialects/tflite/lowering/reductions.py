"""Reductions over axes, the largest elements, running sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.bits import complement
from convkit.dialects.tflite.lowering.builder import Builder, constant_ints, lowers
from convkit.dialects.tflite.lowering.elementwise import absolute
from convkit.dialects.tflite.lowering.indexing import window
from convkit.dialects.tflite.lowering.movement import border
from convkit.ir.facts import attr, input_at, shape_of

_REDUCTIONS = {
    "ReduceMax": "REDUCE_MAX",
    "ReduceMean": "MEAN",
    "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
    "ReduceSum": "SUM",
}
_COMPOSED = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")


def reduce(b: Builder, code: str, x: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
    """One reducing operator over non-negative axes; nothing where there is none to reduce."""
    if not axes:
        return x
    shape = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
    return b.emit(code, [x, b.const(axes, np.int32, "axes")], shape, keep_dims=keep)


@lowers(*_REDUCTIONS, *_COMPOSED)
def reduction(b: Builder, node: ir.Node) -> Tensor:
    """A reduction, with the elementwise functions around it that its name says."""
    x, keep = b.input(node), bool(attr(node, "keepdims"))
    kind = node.op_type
    axes = constant_ints(node, 1) if input_at(node, 1) is not None else ()
    if kind in _REDUCTIONS:
        return reduce(b, _REDUCTIONS[kind], x, axes, keep)
    if kind == "ReduceLogSumExp":
        peak = reduce(b, "REDUCE_MAX", x, axes)  # subtracted, so that no exponential overflows
        total = reduce(b, "SUM", b.unary("EXP", b.binary("SUB", x, peak)), axes)
        return b.reshape(b.binary("ADD", peak, b.unary("LOG", total)), shape_of(node.outputs[0]))
    if kind == "ReduceL1":
        x = absolute(b, x)
    elif kind in ("ReduceL2", "ReduceSumSquare"):
        x = b.square(x)
    total = reduce(b, "SUM", x, axes, keep)
    finish = {"ReduceL2": "SQRT", "ReduceLogSum": "LOG"}.get(kind)
    return total if finish is None else b.unary(finish, total)


@lowers("ArgMax", "ArgMin")
def arg_extreme(b: Builder, node: ir.Node) -> Tensor:
    """The index of the first (or last) extreme element along the axis."""
    x = b.input(node)
    axis, last = attr(node, "axis"), attr(node, "select_last_index", 0)
    if last:
        x = window(b, x, axis, x.shape[axis] - 1, -1, x.shape[axis])
    code = node.op_type.upper().replace("ARG", "ARG_")
    if code == "ARG_MIN" and x.dtype.kind == "f":  # the GPU delegate has no ARG_MIN
        code, x = "ARG_MAX", b.unary("NEG", x)
    shape = [d for i, d in enumerate(x.shape) if i != axis]
    index = b.emit(code, [x, b.const(axis)], shape, np.int32, output_type="INT32")
    if last:
        index = b.binary("SUB", b.scalar_like(index, x.shape[axis] - 1), index)
    return b.cast(b.reshape(index, shape_of(node.outputs[0])), np.int64)


def _filled_up(b: Builder, rows: Tensor) -> Tensor:
    """Rows with -inf at their end up to a multiple of 4: the GPU delegate is wrong for other lengths."""
    missing = -rows.shape[-1] % 4
    if not missing:
        return rows
    least = b.const(np.full((*rows.shape[:-1], missing), -np.inf, rows.dtype), hint="least")
    shape = (*rows.shape[:-1], rows.shape[-1] + missing)
    return b.emit("CONCATENATION", [rows, least], shape, axis=rows.rank - 1)


@lowers("TopK")
def top_k(b: Builder, node: ir.Node) -> list[Tensor]:
    """The k largest (or smallest) elements along the axis, in order, and their indices."""
    x, axis, largest = b.input(node), attr(node, "axis"), attr(node, "largest", 1)
    (k,) = constant_ints(node, 1)
    unsigned = x.dtype == np.uint64
    x = b.as_signed(x, ordered=True) if unsigned else x

    def turned(t: Tensor) -> Tensor:
        return t if largest else b.unary("NEG", t) if t.dtype.kind == "f" else complement(b, t)

    perm = [i for i in range(x.rank) if i != axis] + [axis]
    back = [perm.index(i) for i in range(x.rank)]
    rows = b.transpose(turned(x), perm)
    shape = [*rows.shape[:-1], k]
    rows = _filled_up(b, rows) if x.dtype.kind == "f" else rows
    best, index = b.emit_many("TOPK_V2", [rows, b.const(k)], [(shape, x.dtype), (shape, np.int32)])
    values = turned(b.transpose(best, back))
    return [
        b.as_unsigned(values, ordered=True) if unsigned else values,
        b.cast(b.transpose(index, back), np.int64),
    ]


@lowers("CumSum")
def cum_sum(b: Builder, node: ir.Node) -> Tensor:
    """Running sums along the axis, from either end, with or without the element itself.

    The GPU delegate ignores CUMSUM's flags: a reversed sum runs on the reversed value, an exclusive one on
    the value moved on by one element.
    """
    x, (axis,) = b.input(node), constant_ints(node, 1)
    axis, outer = axis % x.rank, x.shape
    if axis == 0 and x.rank < 4:  # the delegate does not sum over a batch
        x, axis = b.reshape(x, (1, *outer)), 1
    size = x.shape[axis]
    reverse = attr(node, "reverse", 0)
    if reverse:
        x = window(b, x, axis, size - 1, -1, size)
    if attr(node, "exclusive", 0):
        if size == 1:
            return b.const(np.zeros(outer, x.dtype), hint="zeros")
        moved = [(int(i == axis), 0) for i in range(x.rank)]
        x = border(b, window(b, x, axis, 0, 1, size - 1), moved)
    total = b.emit("CUMSUM", [x, b.const(axis)], x.shape)
    return b.reshape(window(b, total, axis, size - 1, -1, size) if reverse else total, outer)


@lowers("CumProd")
def cum_prod(b: Builder, node: ir.Node) -> Tensor:
    """Running products along the axis, by doubling: after k rounds each element holds 2^k factors."""
    x, (axis,) = b.input(node), constant_ints(node, 1)
    axis %= x.rank
    size, reverse = x.shape[axis], attr(node, "reverse", 0)
    if reverse:
        x = window(b, x, axis, size - 1, -1, size)
    if attr(node, "exclusive", 0):
        x = _delayed(b, x, axis, 1)
    reach = 1
    while reach < size:
        x = b.binary("MUL", x, _delayed(b, x, axis, reach))
        reach *= 2
    return window(b, x, axis, size - 1, -1, size) if reverse else x


def _delayed(b: Builder, x: Tensor, axis: int, by: int) -> Tensor:
    """x moved on by some elements along an axis, ones in front."""
    ones = np.ones([by if i == axis else d for i, d in enumerate(x.shape)], x.dtype)
    if by >= x.shape[axis]:
        return b.const(ones, hint="ones")
    rest = window(b, x, axis, 0, 1, x.shape[axis] - by)
    return b.emit("CONCATENATION", [b.const(ones, hint="ones"), rest], x.shape, axis=axis)
