"""Poolings over windows and over the whole map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from itertools import product
from math import prod

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import cut
from convkit.dialects.tflite.lowering.indexing import window as cells
from convkit.dialects.tflite.lowering.movement import border, repeat
from convkit.dialects.tflite.lowering.window import (
    Window,
    channels_first,
    channels_last,
    need_float32,
    pad_for,
    pad_spatial,
    window_of,
)
from convkit.ir.facts import attr, input_at, is_op, scalar, shape_of

_MOST_TAPS = 64
"""Taps of a window whose maxima are found one by one."""
_LOWEST = float(np.finfo(np.float32).min)

# Pools x (N, H, W, C) by a window over H and W.
_Pool = Callable[[Builder, Tensor, Window], Tensor]


def _non_negative(value: ir.Value | None) -> bool:
    """Whether the producer shows that no element is below zero."""
    node = None if value is None else value.producer()
    if node is not None and is_op(node, "Clip"):
        low = scalar(input_at(node, 1))
        return low is not None and low >= 0
    return is_op(node, "Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs")


def _along(window: Window, axes: slice) -> Window:
    """The window over some of the spatial dimensions; a single one gets a trivial second one."""
    kept = {f.name: getattr(window, f.name)[axes] for f in fields(window)}
    if len(kept["kernel"]) == 1:
        kept = {name: (*v, 0 if name in ("begin", "end") else 1) for name, v in kept.items()}
    return Window(**kept)


def _pooled(b: Builder, node: ir.Node, x: Tensor, pool: _Pool) -> Tensor:
    """Pool x; over three dimensions it is a pooling over H and W, then one over D."""
    window = window_of(node, attr(node, "kernel_shape"))
    y = channels_last(b, x)
    if len(window.kernel) == 2:
        y = pool(b, y, window)
    else:
        n, d, h, w, c = y.shape
        y = pool(b, b.reshape(y, (n * d, h, w, c)), _along(window, slice(1, 3)))
        area = y.shape[1] * y.shape[2]
        deep = _along(window, slice(0, 1))
        deep = replace(deep, size=(d, area), out=(deep.out[0], area))
        y = pool(b, b.reshape(y, (n, d, area, c)), deep)
        y = b.reshape(y, (n, *window.out, c))
    return channels_first(b, y, shape_of(node.outputs[0]))


def _pool_2d(b: Builder, code: str, x: Tensor, window: Window, padding: str) -> Tensor:
    options = window.options(dilated=False) | {"padding": padding}
    height, width = window.kernel
    shape = (x.shape[0], *window.out, x.shape[3])
    return b.emit(code, [x], shape, filter_height=height, filter_width=width, **options)


def _max(b: Builder, x: Tensor, window: Window, fill: float | None) -> Tensor:
    """MAX_POOL_2D, or for dilated windows the maximum of their taps, along one axis after the other."""
    if window.dilations == (1, 1):
        x, padding = pad_for(b, x, window, fill)
        return _pool_2d(b, "MAX_POOL_2D", x, window, padding)
    x = pad_spatial(b, x, window.begin, [max(e, 0) for e in window.read_end], fill)
    for axis in (1, 2):
        step, dilation, out = (v[axis - 1] for v in (window.strides, window.dilations, window.out))
        taps = [cells(b, x, axis, t * dilation, step, out) for t in range(window.kernel[axis - 1])]
        x = taps[0]
        for tap in taps[1:]:
            x = b.binary("MAXIMUM", x, tap)
    return x


@lowers("MaxPool")
def max_pool(b: Builder, node: ir.Node) -> Tensor | list[Tensor]:
    """MAX_POOL_2D; padding that TFLite has no name for is written out with the lowest number."""
    x = b.input(node)
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        return _max_and_places(b, node, x)
    if x.dtype.kind in "iu" and x.dtype.itemsize < 4:  # float32 holds these
        y = _pooled(b, node, b.cast(x, np.float32), partial(_max, fill=_LOWEST))
        return b.cast(y, x.dtype)
    need_float32(x)
    # PAD, which more delegates take than PADV2, writes zeros: as good where no element is below.
    fill = None if _non_negative(node.inputs[0]) else _LOWEST
    return _pooled(b, node, x, partial(_max, fill=fill))


def _max_and_places(b: Builder, node: ir.Node, x: Tensor) -> list[Tensor]:
    """The maximum of a window's taps, and where it first stands in the input laid flat."""
    n, c, *size = x.shape
    kernel, out = attr(node, "kernel_shape"), shape_of(node.outputs[0])
    strides, dilations, pads = (attr(node, name) for name in ("strides", "dilations", "pads"))
    by_column = attr(node, "storage_order", 0)
    if prod(kernel) > _MOST_TAPS or prod(x.shape) >= 2**31 or (by_column and x.rank != 4):
        raise UnsupportedError("TFLite has no pooling that gives the indices of the maxima of such windows")
    steps = np.cumprod([1, *(size[:-1] if by_column else size[:0:-1])])
    steps = steps if by_column else steps[::-1]
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(out[2:], strides, kernel, dilations)]
    ends = [max(r - m - p, 0) for r, m, p in zip(reach, size, pads)]
    widths = [(0, 0), (0, 0), *zip(pads, ends)]
    lowest = _LOWEST if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    padded = border(b, x, widths, b.scalar_like(x, lowest))
    best: Tensor | None = None
    place: Tensor | None = None
    for tap in product(*map(range, kernel)):
        first = [t * d for t, d in zip(tap, dilations)]
        value = cut(b, padded, [0, 0, *first], [1, 1, *strides], out)
        offset = b.const(int(np.dot(first, steps)), np.int32, "offset")
        if best is None or place is None:
            best, place = value, repeat(b, b.reshape(offset, (1,) * x.rank), out)
            continue
        larger = b.binary("GREATER", value, best, np.bool_)
        place = b.emit("SELECT_V2", [larger, offset, place], out, np.int32)
        best = b.binary("MAXIMUM", best, value)
    assert best is not None
    assert place is not None
    home = np.arange(n * c).reshape(n, c, *(1,) * len(size)) * prod(size)
    for axis, (o, s, p) in enumerate(zip(out[2:], strides, pads)):
        along = (np.arange(o) * s - p) * steps[axis]
        home = home + along.reshape(o, *(1,) * (len(size) - 1 - axis))
    return [best, b.cast(b.binary("ADD", place, b.const(home, np.int32, "home")), np.int64)]


def _counts(window: Window, axis: int, padded: bool) -> np.ndarray:
    """How many elements each window averages along `axis`, with those of the stated padding or without."""
    first = np.arange(window.out[axis])[:, None] * window.strides[axis] - window.begin[axis]
    taps = first + np.arange(window.kernel[axis]) * window.dilations[axis]
    low = -window.begin[axis] if padded else 0
    high = window.size[axis] + (window.end[axis] if padded else 0)
    return np.asarray(np.sum((taps >= low) & (taps < high), axis=1))


def _sum(b: Builder, x: Tensor, window: Window, weight: float = 1) -> Tensor:
    """Weighted sums of windows, by a depthwise convolution."""
    x, padding = pad_for(b, x, window)
    c = x.shape[3]
    w = b.const(np.full((1, *window.kernel, c), weight, np.float32), hint="weights")
    zero = b.const(np.zeros(c, np.float32), hint="bias")
    options = window.options() | {"padding": padding, "depth_multiplier": 1}
    return b.emit("DEPTHWISE_CONV_2D", [x, w, zero], (x.shape[0], *window.out, c), **options)


def _average(b: Builder, x: Tensor, window: Window, padded: bool, bare: bool) -> Tensor:
    """AVERAGE_POOL_2D where its divisors are the wanted ones, else a depthwise convolution, scaled.

    A PAD in front of AVERAGE_POOL_2D would be right here, but the GPU delegate merges the two and then
    leaves the padding out of the divisors. `bare` says that no PAD stands there already.
    """
    area = window.kernel[0] * window.kernel[1]
    rows, columns = (_counts(window, axis, padded) for axis in (0, 1))
    counts = rows[:, None] * columns
    # With VALID no window is cut; with SAME, TFLite divides by the elements inside the input.
    inside = _counts(window, 0, False)[:, None] * _counts(window, 1, False)
    if bare and window.dilations == (1, 1) and window.padding and np.array_equal(counts, inside):
        return _pool_2d(b, "AVERAGE_POOL_2D", x, window, window.padding)
    y = _sum(b, x, window, 1 / area)
    if np.all(counts == area):
        return y
    return b.binary("MUL", y, b.const((area / counts)[None, :, :, None].astype(np.float32), hint="divisors"))


@lowers("AveragePool")
def average_pool(b: Builder, node: ir.Node) -> Tensor:
    """AVERAGE_POOL_2D with exactly ONNX's divisors."""
    x = b.input(node)
    need_float32(x)
    source = node.inputs[0]
    bare = source is None or not is_op(source.producer(), "Pad")
    padded = bool(attr(node, "count_include_pad", 0))
    return _pooled(b, node, x, partial(_average, padded=padded, bare=bare))


def _power(b: Builder, x: Tensor, p: float) -> Tensor:
    """|x| to the power p > 0."""
    if p == 1:
        return b.unary("ABS", x)
    if p == 2:
        return b.square(x)
    return b.binary("POW", b.unary("ABS", x), b.scalar_like(x, p))


def _root(b: Builder, x: Tensor, p: float) -> Tensor:
    """The p-th root of x >= 0."""
    if p == 1:
        return x
    return b.unary("SQRT", x) if p == 2 else b.binary("POW", x, b.scalar_like(x, 1 / p))


@lowers("LpPool")
def lp_pool(b: Builder, node: ir.Node) -> Tensor:
    """The p-th root of window sums of |x|^p."""
    x, p = b.input(node), attr(node, "p", 2)
    need_float32(x)
    return _root(b, _pooled(b, node, _power(b, x, p), _sum), p)


def _global(b: Builder, code: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Reduce all spatial dimensions; more than two are first flattened into two."""
    if x.rank > 4:
        x = b.reshape(x, (*x.shape[:3], int(np.prod(x.shape[3:]))))
    axes = b.const(list(range(2, x.rank)), np.int32, "axes")
    y = b.emit(code, [x, axes], (*x.shape[:2], *(1,) * (x.rank - 2)), keep_dims=True)
    return b.reshape(y, shape)


@lowers("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(b: Builder, node: ir.Node) -> Tensor:
    """MEAN, REDUCE_MAX or a root of SUM over all spatial dimensions."""
    x, shape = b.input(node), shape_of(node.outputs[0])
    need_float32(x)
    if node.op_type == "GlobalLpPool":
        p = attr(node, "p", 2)
        return _root(b, _global(b, "SUM", _power(b, x, p), shape), p)
    return _global(b, "MEAN" if node.op_type == "GlobalAveragePool" else "REDUCE_MAX", x, shape)
