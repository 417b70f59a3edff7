"""Operators that pick parts of a value: slices, gathers, scatters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.ir.facts import attr, input_at, ints, is_op


def cut(b: Builder, x: Tensor, starts: Sequence[int], steps: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Per dimension, `sizes` elements from `starts` on, each `steps` (also negative) after the last.

    A negative step reads forward and is turned round by REVERSE_V2.
    """
    rounds = range(x.rank)
    lowest = [starts[i] if steps[i] > 0 else starts[i] + (sizes[i] - 1) * steps[i] for i in rounds]
    strides = [abs(steps[i]) if sizes[i] > 1 else 1 for i in rounds]
    if all(s == 1 for s in strides):
        if tuple(sizes) != x.shape:
            operands = [x, b.const(lowest, np.int32, "begin"), b.const(sizes, np.int32, "size")]
            x = b.emit("SLICE", operands, sizes)
    else:
        ends = [lowest[i] + (sizes[i] - 1) * strides[i] + 1 for i in rounds]
        parts = [b.const(v, np.int32, n) for v, n in ((lowest, "begin"), (ends, "end"), (strides, "strides"))]
        x = b.emit("STRIDED_SLICE", [x, *parts], sizes)
    for axis in rounds:
        if steps[axis] < 0 and sizes[axis] > 1:
            x = b.emit("REVERSE_V2", [x, b.const([axis], np.int32, "axis")], x.shape)
    return x


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
    """Per axis start, end and step as Python has them, clamped."""
    x = b.input(node)
    given = [ints(input_at(node, i)) for i in range(1, 5)]
    if node.attributes.get("starts") is not None:  # before opset 10
        given = [attr(node, "starts"), attr(node, "ends"), attr(node, "axes"), None]
    starts, ends, axes, steps = given
    if starts is None or ends is None:
        raise UnsupportedError("starts and ends are not constant")
    axes = axes if axes is not None else tuple(range(len(starts)))
    first, stride, sizes = [0] * x.rank, [1] * x.rank, list(x.shape)
    for i, axis in enumerate(axes):
        taken = range(x.shape[axis])[slice(starts[i], _end(ends[i]), steps[i] if steps else 1)]
        first[axis], stride[axis], sizes[axis] = taken.start, taken.step, len(taken)
    if 0 in sizes:
        raise UnsupportedError("the result is empty")
    return cut(b, x, first, stride, sizes)


def _end(end: int) -> int | None:
    """An end of -inf as ONNX spells it means past the first element."""
    return None if end <= -(2**31) else end


def _indices(b: Builder, value: ir.Value, size: int) -> Tensor:
    """Runtime indices as int32 in [0, size): ONNX allows negative ones, TFLite does not."""
    indices = b.cast(b.tensor(value), np.int32)
    if value.dtype is not None and value.dtype.name.startswith("UINT"):
        return indices
    if is_op(value.producer(), "ArgMax", "ArgMin", "TopK"):
        return indices
    return b.binary("FLOOR_MOD", indices, b.scalar_like(indices, size))


@lowers("Gather")
def gather(b: Builder, node: ir.Node) -> Tensor:
    """Slices of x along the axis, in the order and shape of the indices.

    Indices are flattened, since the GPU delegate takes one dimension only.
    """
    x, value = b.input(node), node.inputs[1]
    assert value is not None
    axis = attr(node, "axis", 0) % x.rank
    known = b.tensor(value)
    if known.data is not None:
        picked = take(b, x, axis, known.data.reshape(-1).astype(np.int64) % x.shape[axis])
    else:
        flat = b.reshape(_indices(b, value, x.shape[axis]), (known_size(known.shape),))
        shape = [*x.shape[:axis], flat.shape[0], *x.shape[axis + 1 :]]
        picked = b.emit("GATHER", [x, flat], shape, axis=axis)
    return b.reshape(picked, [*x.shape[:axis], *known.shape, *x.shape[axis + 1 :]])


def known_size(shape: Sequence[int]) -> int:
    """The number of elements under a shape."""
    return int(np.prod(shape, dtype=np.int64))


def _wrapped(indices: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Constant index tuples (last dimension) made non-negative."""
    return indices % np.asarray(sizes, np.int64)


@lowers("GatherND")
def gather_nd(b: Builder, node: ir.Node) -> Tensor:
    """Elements or slices of x at index tuples."""
    x, indices = b.input(node, 0), b.input(node, 1)
    if attr(node, "batch_dims", 0):
        raise UnsupportedError("batch_dims is not zero")
    depth = indices.shape[-1]
    index = _index_tuples(b, indices, x.shape[:depth])
    return b.emit("GATHER_ND", [x, index], [*indices.shape[:-1], *x.shape[depth:]])


def _index_tuples(b: Builder, indices: Tensor, sizes: Sequence[int]) -> Tensor:
    if indices.data is not None:
        return b.const(_wrapped(indices.data, sizes), np.int32, "indices")
    return b.binary("FLOOR_MOD", b.cast(indices, np.int32), b.const(sizes, np.int32, "sizes"))


def _along_axis(indices: np.ndarray, sizes: Sequence[int], axis: int) -> np.ndarray:
    """The full index tuples of GatherElements and ScatterElements: own position but for the axis."""
    grid = np.stack(np.meshgrid(*[np.arange(d) for d in indices.shape], indexing="ij"), -1)
    grid[..., axis] = indices % sizes[axis]
    return grid


@lowers("GatherElements")
def gather_elements(b: Builder, node: ir.Node) -> Tensor:
    """x at the index along the axis and at the element's own position elsewhere."""
    x, indices = b.input(node, 0), b.input(node, 1)
    axis = attr(node, "axis", 0) % x.rank
    if indices.data is not None:
        tuples = b.const(_along_axis(indices.data, x.shape, axis), np.int32, "indices")
        return b.emit("GATHER_ND", [x, tuples], indices.shape)
    strides = np.cumprod([1, *reversed(x.shape[1:])])[::-1]  # flat position of each dimension's step
    home = _along_axis(np.zeros(indices.shape, np.int64), x.shape, axis) @ strides
    value = node.inputs[1]
    assert value is not None
    index = _indices(b, value, x.shape[axis])
    steps = b.binary("MUL", index, b.scalar_like(index, int(strides[axis])))
    flat = b.binary("ADD", steps, b.const(home, np.int32, "home"))
    source, count = b.reshape(x, (known_size(x.shape),)), known_size(indices.shape)
    return b.reshape(b.emit("GATHER", [source, b.reshape(flat, (count,))], (count,), axis=0), indices.shape)


def _scattered(b: Builder, node: ir.Node, tuples: np.ndarray, updates: Tensor, x: Tensor) -> Tensor:
    """x with updates at constant, distinct places: SCATTER_ND adds into zeros, the rest is x."""
    reduction = attr(node, "reduction", "none")
    flat = tuples.reshape(-1, tuples.shape[-1])
    distinct = len(np.unique(flat, axis=0)) == len(flat)
    shape = b.const(x.shape, np.int32, "shape")
    if reduction not in ("none", "add") or (reduction == "none" and not distinct):
        raise UnsupportedError(f"reduction {reduction!r} at repeated places has no operator")
    laid = b.emit("SCATTER_ND", [b.const(tuples, np.int32, "indices"), updates, shape], x.shape, x.dtype)
    if reduction == "add":
        return b.binary("ADD", x, laid)
    written = np.zeros(x.shape, np.bool_)
    written[tuple(flat.T)] = True
    return b.emit("SELECT_V2", [b.const(written, hint="written"), laid, x], x.shape, x.dtype)


def _constant(t: Tensor, what: str) -> np.ndarray[Any, Any]:
    if t.data is None:
        raise UnsupportedError(f"{what} are not constant")
    return t.data


@lowers("ScatterND")
def scatter_nd(b: Builder, node: ir.Node) -> Tensor:
    """x with slices replaced (or added to) at constant index tuples."""
    x, indices, updates = (b.input(node, i) for i in range(3))
    tuples = _wrapped(_constant(indices, "the indices"), x.shape[: indices.shape[-1]])
    return _scattered(b, node, tuples, updates, x)


@lowers("ScatterElements")
def scatter_elements(b: Builder, node: ir.Node) -> Tensor:
    """x with elements replaced (or added to) at constant indices along the axis."""
    x, indices, updates = (b.input(node, i) for i in range(3))
    axis = attr(node, "axis", 0) % x.rank
    return _scattered(b, node, _along_axis(_constant(indices, "the indices"), x.shape, axis), updates, x)
