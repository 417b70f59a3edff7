"""Poolings and reductions. Caffe 1.0 rounds the size of a pooled map up and pads both sides alike."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from convkit.dialects.caffe.lowering.builder import Builder, ints_of, lowers
from convkit.dialects.caffe.lowering.conv import Window, depthwise, planar, window_of
from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.unsupported import UnsupportedError
from convkit.ir.facts import attr, input_at, shape_of


def _rounded_up(size: int, kernel: int, stride: int, pad: int) -> int:
    """How many windows Caffe takes along an axis (pooling_layer.cpp)."""
    count = math.ceil((size + 2 * pad - kernel) / stride) + 1
    return count - 1 if pad and (count - 1) * stride >= size + pad else count


def cropped(b: Builder, x: Tensor, out: tuple[int, int]) -> Tensor:
    """The first rows and columns of x: a depthwise kernel with a one at its beginning.

    A Slice would leave a part that nobody reads, which some readers take for an output.
    """
    kernel = (x.shape[2] - out[0] + 1, x.shape[3] - out[1] + 1)
    if kernel == (1, 1):
        return x
    one = np.zeros(kernel, np.float32)
    one[0, 0] = 1
    return depthwise(b, x, one)


def _pool(b: Builder, x: Tensor, kind: str, kernel: tuple[int, int], window: Window) -> Tensor:
    """Pooling with equal padding; more windows than wanted may come out."""
    sizes = list(zip(x.shape[2:], kernel, window.strides, window.begin, strict=True))
    if any(pad >= k for _, k, _, pad in sizes):
        raise UnsupportedError("its padding is as large as the window")
    options: dict[str, object] = {"pool": kind}
    for side, at in (("h", 0), ("w", 1)):
        options |= {
            f"kernel_{side}": kernel[at],
            f"stride_{side}": window.strides[at],
            f"pad_{side}": window.begin[at],
        }
    return b.emit("Pooling", [x], (*x.shape[:2], *(_rounded_up(*size) for size in sizes)), **options)


def _kernel(node: ir.Node) -> tuple[int, int]:
    kernel = attr(node, "kernel_shape")
    return (1, kernel[0]) if len(kernel) == 1 else (kernel[0], kernel[1])


@lowers("MaxPool")
def max_pool(b: Builder, node: ir.Node) -> Tensor:
    """Pooling MAX; what rounding up or more padding in front adds is cropped."""
    if len(node.outputs) > 1 and node.outputs[1].uses():
        raise UnsupportedError("it gives indices")
    window, kernel, x = window_of(node), _kernel(node), planar(b, b.input(node))
    if window.dilations != (1, 1):
        raise UnsupportedError("its window is dilated")
    if any(begin < 0 for begin in window.begin):
        raise UnsupportedError("its padding is negative")
    wanted = shape_of(node.outputs[0])
    out = (1, wanted[2]) if len(wanted) == 3 else (wanted[2], wanted[3])
    # Windows start where the padding in front says; those that Caffe has too few of get more behind.
    front = [
        _front(n, k, s, p, o)
        for n, k, s, p, o in zip(x.shape[2:], kernel, window.strides, window.begin, out, strict=True)
    ]
    pads, skips = ((front[0][0], front[1][0]), (front[0][1], front[1][1]))
    y = _pool(b, x, "MAX", kernel, Window(window.strides, begin=pads, end=pads))
    if any(skips):
        y = _skipped(b, y, skips)
    return b.reshape(cropped(b, y, out), wanted)


def _front(size: int, kernel: int, stride: int, begin: int, out: int) -> tuple[int, int]:
    """Padding on both sides with which `out` windows start where they should, and how many come before."""
    for skip in range(kernel):
        pad = begin + skip * stride
        if pad >= kernel:
            break
        if _rounded_up(size, kernel, stride, pad) >= out + skip:
            return pad, skip
    raise UnsupportedError("Caffe has no padding that gives these windows")


def _skipped(b: Builder, x: Tensor, skips: tuple[int, int]) -> Tensor:
    """x without its first rows and columns."""
    one = np.zeros((skips[0] + 1, skips[1] + 1), np.float32)
    one[-1, -1] = 1
    return depthwise(b, x, one)


@lowers("AveragePool")
def average_pool(b: Builder, node: ir.Node) -> Tensor:
    """Pooling AVE where Caffe counts as the node does, else a depthwise convolution and a map of factors."""
    window, kernel, x = window_of(node), _kernel(node), planar(b, b.input(node))
    wanted = shape_of(node.outputs[0])
    out = (1, wanted[2]) if len(wanted) == 3 else (wanted[2], wanted[3])
    area = kernel[0] * kernel[1]
    exact = all(
        (n + 2 * p - k) % s == 0
        for n, p, k, s in zip(x.shape[2:], window.begin, kernel, window.strides, strict=True)
    )
    plain = window.dilations == (1, 1) and window.begin == window.end and exact
    counted = bool(attr(node, "count_include_pad", 0))
    if plain and (counted or not any(window.begin)):
        return b.reshape(_pool(b, x, "AVE", kernel, window), wanted)
    if attr(node, "ceil_mode", 0):
        raise UnsupportedError("its size is rounded up beyond the padding")
    y = depthwise(b, x, np.full(kernel, 1 / area, np.float32), window)
    if not counted and any((*window.begin, *window.end)):
        factors = area / _cells(x.shape[2:], kernel, window, out)
        y = b.emit("Scale", [y, b.const(factors)], y.shape, axis=2, num_axes=2)
    return b.reshape(y, wanted)


def _cells(
    size: tuple[int, ...], kernel: tuple[int, int], window: Window, out: tuple[int, int]
) -> np.ndarray:
    """How many elements of the input each window holds."""
    counts = []
    for n, k, d, s, begin, o in zip(
        size, kernel, window.dilations, window.strides, window.begin, out, strict=True
    ):
        at = np.arange(o)[:, None] * s - begin + np.arange(k) * d
        counts.append(np.sum((at >= 0) & (at < n), axis=1))
    return np.outer(*counts)


@lowers("GlobalAveragePool", "GlobalMaxPool")
def global_pool(b: Builder, node: ir.Node) -> Tensor:
    """Pooling over the whole map."""
    x = planar(b, b.input(node))
    if x.rank != 4:
        raise UnsupportedError(f"its input is of rank {x.rank}")
    kind = "AVE" if node.op_type == "GlobalAveragePool" else "MAX"
    return b.reshape(over_map(b, x, kind), shape_of(node.outputs[0]))


def over_map(b: Builder, x: Tensor, kind: str) -> Tensor:
    """The mean or maximum of each map of x (N x C x H x W)."""
    return b.emit("Pooling", [x], (*x.shape[:2], 1, 1), pool=kind, global_pooling=True)


@lowers("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")
def reduce(b: Builder, node: ir.Node) -> Tensor:
    """Global pooling of a map that holds the reduced dimensions; a sum is a mean times their size."""
    x, kind = b.input(node), node.op_type
    axes = list(range(x.rank)) if input_at(node, 1) is None else sorted(a % x.rank for a in ints_of(node, 1))
    if not axes:
        raise UnsupportedError("it reduces no dimension")
    kept = [a for a in range(x.rank) if a not in axes]
    count = math.prod(x.shape[a] for a in axes)
    if kind in {"ReduceL2", "ReduceSumSquare"}:
        x = b.eltwise("PROD", x, x)
    elif kind == "ReduceL1":
        x = b.unary("AbsVal", x)
    elif kind == "ReduceMin":
        x = b.power(x, scale=-1)
    if x.rank != 4 or axes != [2, 3]:
        x = b.permute(x, [*kept, *axes])
        batch = x.shape[0] if 0 in kept else 1
        x = b.reshape(x, (batch, math.prod(x.shape[: len(kept)]) // batch, 1, count))
    y = over_map(b, x, "MAX" if kind in {"ReduceMax", "ReduceMin"} else "AVE")
    if kind in {"ReduceSum", "ReduceL1", "ReduceSumSquare", "ReduceL2"}:
        y = b.power(y, power=0.5 if kind == "ReduceL2" else 1, scale=count)
    elif kind == "ReduceMin":
        y = b.power(y, scale=-1)
    return b.reshape(y, shape_of(node.outputs[0]))
