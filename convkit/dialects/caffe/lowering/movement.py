"""What moves elements: reshapes, permutations, slices, concatenation, padding, resizing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir

from convkit.dialects.caffe.lowering.builder import Builder, ints_of, lowers
from convkit.dialects.caffe.lowering.conv import (
    Window,
    convolve,
    deconvolve,
    depthwise,
    inner_product,
    planar,
)
from convkit.dialects.resampling import axes_of, matrix
from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.unsupported import UnsupportedError
from convkit.ir.facts import attr, constant, input_at, scalar, shape_of


@lowers("Reshape")
def reshape(b: Builder, node: ir.Node) -> Tensor:
    """Reshape."""
    return b.reshape(b.input(node), shape_of(node.outputs[0]))


@lowers("Transpose")
def transpose(b: Builder, node: ir.Node) -> Tensor:
    """Permute."""
    x = b.input(node)
    return b.permute(x, attr(node, "perm", tuple(reversed(range(x.rank)))))


@lowers("Concat")
def concat(b: Builder, node: ir.Node) -> Tensor:
    """Concat."""
    values = [b.input(node, i) for i in range(len(node.inputs))]
    return b.emit("Concat", values, shape_of(node.outputs[0]), axis=attr(node, "axis") % values[0].rank)


def sliced(b: Builder, x: Tensor, axis: int, points: tuple[int, ...]) -> list[Tensor]:
    """The parts of x along an axis, cut at `points`."""
    bounds = [0, *points, x.shape[axis]]
    shapes = [(*x.shape[:axis], end - start, *x.shape[axis + 1 :]) for start, end in pairwise(bounds)]
    return b.emit_many("Slice", [x], shapes, axis=axis, slice_point=points) if points else [x]


@lowers("Split")
def split(b: Builder, node: ir.Node) -> list[Tensor]:
    """Slice into parts."""
    x = b.input(node)
    axis = attr(node, "axis", 0) % x.rank
    sizes = [shape_of(v)[axis] for v in node.outputs]
    return sliced(b, x, axis, tuple(int(p) for p in np.cumsum(sizes)[:-1]))


@lowers("Slice")
def slice_(b: Builder, node: ir.Node) -> Tensor:
    """Slice for each axis; steps over channels or the map are convolutions that pick."""
    x = b.input(node)
    starts, ends = ints_of(node, 1), ints_of(node, 2)
    axes = range(len(starts)) if input_at(node, 3) is None else ints_of(node, 3)
    steps = (1,) * len(starts) if input_at(node, 4) is None else ints_of(node, 4)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis %= x.rank
        x = _taken(b, x, axis, range(x.shape[axis])[start:end:step])
    return x


def _taken(b: Builder, x: Tensor, axis: int, index: range) -> Tensor:
    if index == range(x.shape[axis]):
        return x
    if index.step == 1:
        points = tuple(p for p in (index.start, index.stop) if 0 < p < x.shape[axis])
        return sliced(b, x, axis, points)[1 if index.start else 0]
    if x.rank != 4 or axis == 0:
        raise UnsupportedError(f"it steps over dimension {axis} of rank {x.rank}")
    if axis == 1:
        return chosen(b, x, list(index))
    if index.step < 0:
        raise UnsupportedError("it steps backwards")
    x = sliced(b, x, axis, (index.start,))[1] if index.start else x
    steps = (index.step, 1) if axis == 2 else (1, index.step)
    return depthwise(b, x, np.ones((1, 1), np.float32), Window(strides=steps))


def chosen(b: Builder, x: Tensor, index: list[int]) -> Tensor:
    """Channels of x by number: a 1 x 1 convolution of zeros and ones."""
    return convolve(b, x, np.eye(x.shape[1], dtype=np.float32)[index][:, :, None, None])


@lowers("Gather")
def gather(b: Builder, node: ir.Node) -> Tensor:
    """Constant channels, or one part of any axis."""
    x, index = b.input(node), constant(input_at(node, 1))
    if index is None:
        raise UnsupportedError("its indices are not constant")
    axis = attr(node, "axis", 0) % x.rank
    numbers = [int(i) % x.shape[axis] for i in index.reshape(-1)]
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        y = _taken(b, x, axis, range(numbers[0], numbers[0] + len(numbers)))
    elif x.rank == 4 and axis == 1:
        y = chosen(b, x, numbers)
    else:
        raise UnsupportedError("its indices are not in a row")
    return b.reshape(y, shape_of(node.outputs[0]))


@lowers("Expand")
def expand(b: Builder, node: ir.Node) -> Tensor:
    """Only to the shape it has."""
    x, shape = b.input(node), shape_of(node.outputs[0])
    if (1,) * (len(shape) - x.rank) + x.shape != shape:
        raise UnsupportedError("Caffe has no layer that repeats a value over several dimensions")
    return b.reshape(x, shape)


@lowers("Pad")
def pad(b: Builder, node: ir.Node) -> Tensor:
    """Zeros by convolutions with a kernel of 1 (depthwise around the map), edges by Slice and Concat."""
    x, amounts = b.input(node), ints_of(node, 1)
    axes = range(x.rank) if input_at(node, 3) is None else ints_of(node, 3)
    begin, end = [0] * x.rank, [0] * x.rank
    for at, axis in enumerate(axes):
        begin[axis], end[axis] = amounts[at], amounts[len(amounts) // 2 + at]
    mode, value = attr(node, "mode", "constant"), 0.0
    if input_at(node, 2) is not None:
        given = scalar(input_at(node, 2))
        if given is None:
            raise UnsupportedError("its value is not constant")
        value = given
    if min(*begin, *end) < 0 or begin[0] or end[0]:
        raise UnsupportedError("it pads the batch, or takes away")
    if mode == "edge":
        for axis in range(1, x.rank):
            x = _edges(b, x, axis, begin[axis], end[axis])
        return x
    if mode != "constant" or value or x.rank not in (3, 4):
        raise UnsupportedError(f"mode {mode} with value {value:g} at rank {x.rank}")
    y = planar(b, x)
    if begin[1] or end[1]:
        filters = np.pad(np.eye(y.shape[1], dtype=np.float32), ((begin[1], end[1]), (0, 0)))
        y = convolve(b, y, filters[:, :, None, None])
    front, back = ([0, begin[2]], [0, end[2]]) if x.rank == 3 else (begin[2:], end[2:])
    if any((*front, *back)):
        window = Window(begin=(front[0], front[1]), end=(back[0], back[1]))
        y = depthwise(b, y, np.ones((1, 1), np.float32), window)
    return b.reshape(y, shape_of(node.outputs[0]))


def _edges(b: Builder, x: Tensor, axis: int, begin: int, end: int) -> Tensor:
    """x with its first and last element along an axis repeated."""
    if not begin and not end:
        return x
    size = x.shape[axis]
    points = tuple(sorted({1, size - 1} - {0, size}))
    parts = sliced(b, x, axis, points)
    values = [parts[0]] * begin + [x] + [parts[-1]] * end
    shape = (*x.shape[:axis], size + begin + end, *x.shape[axis + 1 :])
    return b.emit("Concat", values, shape, axis=axis)


# -- resizing ------------------------------------------------------------------------------------


@lowers("Resize", "Upsample")
def resize(b: Builder, node: ir.Node) -> Tensor:
    """Deconvolution where each element is spread alike, else a matrix along each axis."""
    x, mode = b.input(node), attr(node, "mode", "nearest")
    coordinates = attr(node, "coordinate_transformation_mode", "half_pixel")
    axes = axes_of(node)
    if coordinates == "tf_crop_and_resize":
        raise UnsupportedError("it crops")
    if coordinates == "align_corners" and any(abs(a.scale * a.size - a.out) > 1e-3 for a in axes):
        raise UnsupportedError("runtimes disagree on align_corners where the scales leave part of an element")
    spread = [matrix(axis, node, mode) for axis in axes]
    still = [len(m) == m.shape[1] and np.array_equal(m, np.eye(len(m))) for m in spread]
    if x.rank == 4 and still[0] and still[1]:
        y = _spread(b, x, spread[2], spread[3])
        if y is not None:
            return y
    for at, weights in enumerate(spread):
        if still[at]:
            continue
        if at == 0:
            raise UnsupportedError("it resizes the batch")
        order = [i for i in range(x.rank) if i != at] + [at]
        y = inner_product(b, b.permute(x, order), weights, None, x.rank - 1)
        x = b.permute(y, np.argsort(order).tolist())
    return x


def _spread(b: Builder, x: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor | None:
    """x resized by a Deconvolution with one kernel; its edges are repeated where that kernel needs it."""
    found = [kernel_of(m) for m in (rows, columns)]
    if found[0] is None or found[1] is None:
        return None
    (down, step_h, crop_h, edge_h), (across, step_w, crop_w, edge_w) = found[0], found[1]
    x = _edges(b, _edges(b, x, 2, edge_h, edge_h), 3, edge_w, edge_w)
    kernel = np.outer(down, across).astype(np.float32)
    filters = np.broadcast_to(kernel, (x.shape[1], 1, *kernel.shape))
    window = Window(strides=(step_h, step_w), begin=(crop_h[0], crop_w[0]), end=(crop_h[1], crop_w[1]))
    return deconvolve(b, x, filters, group=x.shape[1], window=window)


def kernel_of(weights: np.ndarray) -> tuple[np.ndarray, int, tuple[int, int], int] | None:
    """Kernel, stride, cropping and repeated edge elements with which a transposed convolution is `weights`.

    `weights` is (out, size) with out a multiple of size; None where its columns are not one kernel, shifted.
    """
    out, size = weights.shape
    if out % size or out == 0:
        return None
    step, edge = out // size, 0
    if step == 1 and np.array_equal(weights, np.eye(size)):
        return np.ones(1), 1, (0, 0), 0
    for edge in (0, 1):
        # A column in the middle is the kernel; with repeated edges the first and last ones are sums.
        middle = np.flatnonzero(weights[:, size // 2])
        if not len(middle) or size < 3:
            return None
        kernel = weights[middle[0] : middle[-1] + 1, size // 2]
        offset = int(middle[0]) - (size // 2) * step
        whole = np.zeros((out + 4 * len(kernel) + 4 * step, size + 2 * edge))
        base = 2 * len(kernel) + step
        for column in range(size + 2 * edge):
            start = base + offset + (column - edge) * step
            if start < 0 or start + len(kernel) > len(whole):
                return None
            whole[start : start + len(kernel), column] += kernel
        shifted = whole[base : base + out]
        if edge:
            shifted = np.column_stack(
                [shifted[:, 0] + shifted[:, 1], shifted[:, 2:-2], shifted[:, -2] + shifted[:, -1]]
            )
        if np.allclose(shifted, weights, rtol=0, atol=1e-6):
            begin = edge * step - offset
            total = (size + 2 * edge - 1) * step + len(kernel)
            if begin < 0 or total - out - begin < 0:
                return None
            return kernel, step, (begin, total - out - begin), edge
    return None
