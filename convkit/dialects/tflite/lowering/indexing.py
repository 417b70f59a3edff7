"""Operators that pick parts of a value: slices, gathers, scatters."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, constant_ints, lowers
from convkit.ir.facts import attr, indices_not_negative, is_op, shape_of


def cut(b: Builder, x: Tensor, starts: Sequence[int], steps: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Per dimension, `sizes` elements from `starts` on, each `steps` (also negative) after the last.

    A negative step reads forward and is turned round by REVERSE_V2. A constant is folded. Steps along one
    axis alone are a GATHER: TFLite's kernel copies whole rows, that of STRIDED_SLICE number by number.
    """
    rounds = range(x.rank)
    if x.data is not None:
        index = np.ix_(*(starts[i] + steps[i] * np.arange(sizes[i]) for i in rounds))
        return b.const(x.data[index], hint="cut")
    lowest = [starts[i] if steps[i] > 0 else starts[i] + (sizes[i] - 1) * steps[i] for i in rounds]
    strides = [abs(steps[i]) if sizes[i] > 1 else 1 for i in rounds]
    if all(s == 1 for s in strides):
        if tuple(sizes) != x.shape:
            operands = [x, b.const(lowest, np.int32, "begin"), b.const(sizes, np.int32, "size")]
            x = b.emit("SLICE", operands, sizes)
    elif (stepped := _only_stepped(x, strides, sizes)) is not None:
        indices = lowest[stepped] + strides[stepped] * np.arange(sizes[stepped])
        x = b.emit("GATHER", [x, b.const(indices, np.int32, "indices")], sizes, axis=stepped)
    else:
        ends = [lowest[i] + (sizes[i] - 1) * strides[i] + 1 for i in rounds]
        parts = [b.const(v, np.int32, n) for v, n in ((lowest, "begin"), (ends, "end"), (strides, "strides"))]
        x = b.emit("STRIDED_SLICE", [x, *parts], sizes)
    for axis in rounds:
        if steps[axis] < 0 and sizes[axis] > 1:
            x = b.emit("REVERSE_V2", [x, b.const([axis], np.int32, "axis")], x.shape)
    return x


def _only_stepped(x: Tensor, strides: Sequence[int], sizes: Sequence[int]) -> int | None:
    """The one axis that is not taken whole, if it is stepped along."""
    cut_axes = [i for i in range(x.rank) if strides[i] != 1 or sizes[i] != x.shape[i]]
    return cut_axes[0] if len(cut_axes) == 1 else None


def window(b: Builder, x: Tensor, axis: int, start: int, step: int, size: int) -> Tensor:
    """`size` elements along one axis."""
    starts, steps, sizes = [0] * x.rank, [1] * x.rank, list(x.shape)
    starts[axis], steps[axis], sizes[axis] = start, step, size
    return cut(b, x, starts, steps, sizes)


def take(b: Builder, x: Tensor, axis: int, indices: np.ndarray) -> Tensor:
    """Constant indices (1-D, not negative) along an axis: a slice where they are evenly spaced."""
    steps = np.unique(np.diff(indices))
    if len(indices) == 1:
        return window(b, x, axis, int(indices[0]), 1, 1)
    if len(steps) == 1 and steps[0] != 0:
        return window(b, x, axis, int(indices[0]), int(steps[0]), len(indices))
    shape = [*x.shape[:axis], len(indices), *x.shape[axis + 1 :]]
    return b.emit("GATHER", [x, b.const(indices, np.int32, "indices")], shape, axis=axis)


@lowers("Slice")
def slice_(b: Builder, node: ir.Node) -> Tensor:
    """Per axis start, end and step as Python has them."""
    x = b.input(node)
    first, stride, sizes = [0] * x.rank, [1] * x.rank, list(shape_of(node.outputs[0]))
    starts, _, axes, steps = (constant_ints(node, i) for i in range(1, 5))
    for start, axis, step in zip(starts, axes, steps, strict=True):
        first[axis], stride[axis] = start, step
    return cut(b, x, first, stride, sizes)


def _indices(b: Builder, node: ir.Node, size: int) -> Tensor:
    """Indices along a dimension, in [0, size) and int32: ONNX allows negative ones, TFLite does not."""
    value = node.inputs[1]
    assert value is not None
    known = b.tensor(value)
    if known.data is not None:
        return b.const(known.data.astype(np.int64) % size, np.int32, "indices")
    indices = b.cast(known, np.int32)
    if (
        known.dtype.kind == "u"
        or indices_not_negative(node)
        or is_op(value.producer(), "ArgMax", "ArgMin", "TopK")
    ):
        return indices
    return b.binary("FLOOR_MOD", indices, b.scalar_like(indices, size))


def pick(b: Builder, x: Tensor, axis: int, indices: Tensor) -> Tensor:
    """Slices of x at indices of any rank, which are flattened: the GPU delegate takes one dimension only."""
    shape = [*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]
    if indices.data is not None:
        return b.reshape(take(b, x, axis, indices.data.reshape(-1)), shape)
    flat = b.reshape(indices, (prod(indices.shape),))
    picked = b.emit("GATHER", [x, flat], [*x.shape[:axis], *flat.shape, *x.shape[axis + 1 :]], axis=axis)
    return b.reshape(picked, shape)


def _combine(b: Builder, code: str, x: Tensor, y: Tensor) -> Tensor:
    """An ADD or MUL of indices, folded where both are known."""
    if x.data is None or y.data is None:
        return b.binary(code, x, y)
    return b.const({"ADD": np.add, "MUL": np.multiply}[code](x.data, y.data), hint="indices")


@lowers("Gather")
def gather(b: Builder, node: ir.Node) -> Tensor:
    """Slices of x along the axis, in the order and shape of the indices."""
    x, axis = b.input(node), attr(node, "axis")
    return pick(b, x, axis, _indices(b, node, x.shape[axis]))


@lowers("GatherND")
def gather_nd(b: Builder, node: ir.Node) -> Tensor:
    """Elements or slices of x at index tuples: a gather along the indexed dimensions made one."""
    x, indices, batch = b.input(node, 0), b.input(node, 1), attr(node, "batch_dims", 0)
    depth = batch + indices.shape[-1]
    sizes, strides = x.shape[batch:depth], _strides(x.shape[:depth])
    where = indices.shape[:-1]
    positions = np.indices(where, np.int32)[:batch]
    home = b.const(np.tensordot(strides[:batch], positions, 1), np.int32, "home")
    if indices.data is not None:
        inner = b.const((indices.data % np.asarray(sizes)) @ strides[batch:], np.int32, "indices")
    else:
        wrapped = b.cast(indices, np.int32)
        if not indices_not_negative(node):
            wrapped = b.binary("FLOOR_MOD", wrapped, b.const(sizes, np.int32, "sizes"))
        steps = b.binary("MUL", wrapped, b.const(strides[batch:], np.int32, "strides"))
        axes = b.const([len(where)], np.int32, "axes")
        inner = b.emit("SUM", [steps, axes], where, keep_dims=False)
    if batch:
        inner = _combine(b, "ADD", inner, home)
    return pick(b, b.reshape(x, (prod(x.shape[:depth]), *x.shape[depth:])), 0, inner)


def _strides(shape: Sequence[int]) -> np.ndarray:
    """How far apart neighbours along each dimension lie in a value laid out flat."""
    return np.cumprod([1, *reversed(shape[1:])], dtype=np.int64)[::-1] if shape else np.zeros(0, np.int64)


@lowers("GatherElements")
def gather_elements(b: Builder, node: ir.Node) -> Tensor:
    """x at the index along the axis and at the element's own position elsewhere: a gather of x laid flat."""
    x, value, axis = b.input(node, 0), node.inputs[1], attr(node, "axis")
    assert value is not None
    indices, strides = _indices(b, node, x.shape[axis]), _strides(x.shape)
    others = np.where(np.arange(x.rank) == axis, 0, strides)
    home = np.tensordot(others, np.indices(indices.shape), 1)
    steps = _combine(b, "MUL", indices, b.scalar_like(indices, int(strides[axis])))
    return pick(
        b, b.reshape(x, (prod(x.shape),)), 0, _combine(b, "ADD", steps, b.const(home, np.int32, "home"))
    )
