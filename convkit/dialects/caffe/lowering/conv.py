"""Convolutions, products with constants, and what is spelled by them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.dialects.caffe.lowering.builder import Builder, constant_of, lowers
from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.unsupported import UnsupportedError
from convkit.ir.facts import attr, input_at, rank_of, shape_of

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A two-dimensional window; `begin` and `end` are padding (of a transposed convolution: cropping)."""

    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    begin: Pair = (0, 0)
    end: Pair = (0, 0)


def window_of(node: ir.Node) -> Window:
    """The window of a node; one spatial dimension becomes two, of height 1."""
    spatial = rank_of(node.outputs[0]) - 2
    if spatial not in (1, 2):
        raise UnsupportedError(f"it has {spatial} spatial dimensions")

    def pair(name: str, default: int, at: slice = slice(None)) -> Pair:
        given = attr(node, name, (default,) * spatial * (2 if name == "pads" else 1))[at]
        return tuple(given) if spatial == 2 else (default, given[0])

    front, back = slice(spatial), slice(spatial, None)
    return Window(pair("strides", 1), pair("dilations", 1), pair("pads", 0, front), pair("pads", 0, back))


def planar(b: Builder, x: Tensor) -> Tensor:
    """N x C x H x W: a single spatial dimension becomes the width."""
    return b.reshape(x, (*x.shape[:2], 1, x.shape[2])) if x.rank == 3 else x


def symmetric(filters: np.ndarray, window: Window) -> tuple[np.ndarray, Window]:
    """Filters (.., .., h, w) and window with equal padding on both sides: Caffe has no other.

    Padding that differs by d is the same as d zeros more at that side of the kernel (before it where there
    is more padding behind) and the larger padding on both sides; so for the cropping of a transposed one.
    """
    widths = [(0, 0)] * 2
    for begin, end, dilation in zip(window.begin, window.end, window.dilations, strict=True):
        if (begin - end) % dilation:
            raise UnsupportedError(f"its padding ({begin}, {end}) differs by no multiple of the dilation")
        zeros = abs(begin - end) // dilation
        widths.append((zeros, 0) if end > begin else (0, zeros))
    larger = (max(window.begin[0], window.end[0]), max(window.begin[1], window.end[1]))
    if min(larger) < 0:
        raise UnsupportedError("its padding is negative")
    return np.pad(filters, widths), replace(window, begin=larger, end=larger)


def convolve(
    b: Builder,
    x: Tensor,
    filters: np.ndarray,
    bias: np.ndarray | None = None,
    group: int = 1,
    window: Window | None = None,
) -> Tensor:
    """Convolution with filters (o, i / group, h, w) of any padding."""
    filters, window = symmetric(filters, window or Window())
    out = [
        (size + 2 * pad - ((k - 1) * d + 1)) // s + 1
        for size, pad, k, d, s in zip(
            x.shape[2:], window.begin, filters.shape[2:], window.dilations, window.strides, strict=True
        )
    ]
    shape = (x.shape[0], len(filters), *out)
    return _emit(b, "Convolution", x, filters, bias, shape, len(filters), group, window)


def deconvolve(
    b: Builder,
    x: Tensor,
    filters: np.ndarray,
    bias: np.ndarray | None = None,
    group: int = 1,
    window: Window | None = None,
) -> Tensor:
    """Transposed convolution with filters (i, o / group, h, w) and any cropping."""
    filters, window = symmetric(filters, window or Window())
    out = [
        (size - 1) * s + (k - 1) * d + 1 - 2 * crop
        for size, crop, k, d, s in zip(
            x.shape[2:], window.begin, filters.shape[2:], window.dilations, window.strides, strict=True
        )
    ]
    count = filters.shape[1] * group
    return _emit(b, "Deconvolution", x, filters, bias, (x.shape[0], count, *out), count, group, window)


def _emit(
    b: Builder,
    code: str,
    x: Tensor,
    filters: np.ndarray,
    bias: np.ndarray | None,
    shape: tuple[int, ...],
    count: int,
    group: int,
    window: Window,
) -> Tensor:
    options: dict[str, Any] = {"num_output": count, "bias_term": bias is not None, "group": group}
    for side, at in (("h", 0), ("w", 1)):
        options |= {
            f"kernel_{side}": filters.shape[2 + at],
            f"stride_{side}": window.strides[at],
            f"dilation_{side}": window.dilations[at],
            f"pad_{side}": window.begin[at],
        }
    return b.emit(code, [x, b.const(filters), None if bias is None else b.const(bias)], shape, **options)


def depthwise(b: Builder, x: Tensor, kernel: np.ndarray, window: Window | None = None) -> Tensor:
    """The same kernel (h, w) over every channel."""
    filters = np.broadcast_to(kernel, (x.shape[1], 1, *kernel.shape))
    return convolve(b, x, filters, group=x.shape[1], window=window)


def _filters(node: ir.Node) -> np.ndarray:
    filters = constant_of(node, 1)
    return filters[:, :, None] if filters.ndim == 3 else filters


def _bias(node: ir.Node, index: int = 2) -> np.ndarray | None:
    return None if input_at(node, index) is None else constant_of(node, index)


@lowers("Conv")
def conv(b: Builder, node: ir.Node) -> Tensor:
    """Convolution."""
    window, x = window_of(node), planar(b, b.input(node))
    y = convolve(b, x, _filters(node), _bias(node), attr(node, "group", 1), window)
    return b.reshape(y, shape_of(node.outputs[0]))


@lowers("ConvTranspose")
def conv_transpose(b: Builder, node: ir.Node) -> Tensor:
    """Deconvolution; output padding is cropping taken back at the end."""
    window, x, filters = window_of(node), planar(b, b.input(node)), _filters(node)
    wanted = shape_of(node.outputs[0])
    out = wanted[2:] if len(wanted) == 4 else (1, wanted[2])
    sides = zip(x.shape[2:], window.strides, filters.shape[2:], window.dilations, strict=True)
    whole = [(size - 1) * stride + (k - 1) * dilation + 1 for size, stride, k, dilation in sides]
    high, wide = (w - o - begin for w, o, begin in zip(whole, out, window.begin, strict=True))
    window = replace(window, end=(high, wide))
    y = deconvolve(b, x, filters, _bias(node), attr(node, "group", 1), window)
    return b.reshape(y, wanted)


def inner_product(b: Builder, x: Tensor, weights: np.ndarray, bias: np.ndarray | None, axis: int) -> Tensor:
    """InnerProduct with weights (out, in) over the dimensions from `axis` on."""
    shape = (*x.shape[:axis], len(weights))
    blobs = [b.const(weights), None if bias is None else b.const(bias)]
    options = {"num_output": len(weights), "bias_term": bias is not None, "axis": axis}
    return b.emit("InnerProduct", [x, *blobs], shape, **options)


@lowers("Gemm")
def gemm(b: Builder, node: ir.Node) -> Tensor:
    """InnerProduct with alpha and beta in its blobs."""
    if attr(node, "transA", 0):
        raise UnsupportedError("its first factor is transposed")
    weights = constant_of(node, 1) * np.float32(attr(node, "alpha", 1.0))
    weights = weights if attr(node, "transB", 0) else weights.T
    bias = _bias(node)
    if bias is not None:
        if bias.ndim == 2 and bias.shape[0] > 1:
            raise UnsupportedError("its bias differs by row")
        bias = np.broadcast_to(bias.reshape(-1), (len(weights),)) * np.float32(attr(node, "beta", 1.0))
    return inner_product(b, b.unflattened(b.input(node)), weights, bias, 1)


@lowers("MatMul")
def matmul(b: Builder, node: ir.Node) -> Tensor:
    """InnerProduct over the last dimension, where the second factor is a constant matrix."""
    x, matrix = b.input(node), constant_of(node, 1)
    if matrix.ndim != 2 or x.rank < 2:
        raise UnsupportedError("the product is not with one constant matrix")
    return inner_product(b, x, matrix.T, None, x.rank - 1)


@lowers("DepthToSpace")
def depth_to_space(b: Builder, node: ir.Node) -> Tensor:
    """Deconvolution with kernel and stride of the block, of zeros and ones."""
    block, x = attr(node, "blocksize"), b.input(node)
    count, cells = x.shape[1] // block**2, block**2
    window = Window(strides=(block, block))
    if attr(node, "mode", "DCR") == "CRD":
        one = np.eye(cells, dtype=np.float32).reshape(cells, 1, block, block)
        return deconvolve(b, x, np.tile(one, (count, 1, 1, 1)), group=count, window=window)
    places = np.eye(cells, dtype=np.float32).reshape(cells, 1, 1, block, block)
    filters = places * np.eye(count, dtype=np.float32)[None, :, :, None, None]
    return deconvolve(b, x, filters.reshape(cells * count, count, block, block), window=window)


@lowers("SpaceToDepth")
def space_to_depth(b: Builder, node: ir.Node) -> Tensor:
    """Convolution with kernel and stride of the block, of zeros and ones."""
    block, x = attr(node, "blocksize"), b.input(node)
    count, cells = x.shape[1], block**2
    places = np.eye(cells, dtype=np.float32).reshape(cells, 1, 1, block, block)
    filters = places * np.eye(count, dtype=np.float32)[None, :, :, None, None]
    filters = filters.reshape(cells * count, count, block, block)
    return convolve(b, x, filters, window=Window(strides=(block, block)))
