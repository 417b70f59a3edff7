"""Operators that sample images: GridSample, RoiAlign, DeformConv."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.activations import scaled, shifted
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.conv import convolution
from convkit.dialects.tflite.lowering.indexing import window as part
from convkit.dialects.tflite.lowering.reductions import reduce
from convkit.dialects.tflite.lowering.sampling import Picture, cubic_taps, limited, linear_taps, picture
from convkit.dialects.tflite.lowering.window import Window, need_float32, window_of
from convkit.ir.facts import attr, shape_of


def _coordinate(b: Builder, grid: Tensor, axis: int, size: int, aligned: bool) -> Tensor:
    """Pixel coordinates (N, P) along one axis from the grid's -1 to 1, whose last numbers are x, y, ..."""
    last = grid.rank - 1
    places = part(b, grid, last, grid.shape[last] - 1 - axis, 1, 1)
    x = shifted(b, b.reshape(places, (grid.shape[0], prod(grid.shape[1:-1]))), 1.0)
    return scaled(b, x, (size - 1) / 2) if aligned else shifted(b, scaled(b, x, size / 2), -0.5)


@lowers("GridSample")
def grid_sample(b: Builder, node: ir.Node) -> Tensor:
    """The nearest pixel, or the pixels around weighted by linear or cubic interpolation."""
    images, grid = b.input(node, 0), b.input(node, 1)
    need_float32(images, grid)
    mode, padding = attr(node, "mode", "linear"), attr(node, "padding_mode", "zeros")
    aligned = bool(attr(node, "align_corners", 0))
    source = picture(b, images, padding, aligned)
    at = [_coordinate(b, grid, axis, n, aligned) for axis, n in enumerate(source.size)]
    if padding == "border" and mode != "cubic":
        at = [limited(b, x, n - 1) for x, n in zip(at, source.size, strict=True)]
    if mode == "nearest":
        found = source.pixels(b, [b.unary("ROUND", x) for x in at])
    else:
        taps = cubic_taps if mode == "cubic" else linear_taps
        found = source.weighted(b, [taps(b, x) for x in at])
    shape = shape_of(node.outputs[0])
    y = b.reshape(found, (shape[0], *shape[2:], shape[1]))
    return b.transpose(y, (0, len(shape) - 1, *range(1, len(shape) - 1)))


def _roi_places(b: Builder, rois: Tensor, axis: int, out: int, ratio: int, node: ir.Node) -> Tensor:
    """Where each region (R, x1 y1 x2 y2) is sampled along an axis: (R, out ratio)."""
    half = attr(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
    scale, offset = attr(node, "spatial_scale", 1.0), 0.5 if half else 0.0
    start, end = (
        shifted(b, scaled(b, part(b, rois, 1, column, 1, 1), scale), -offset)
        for column in (1 - axis, 3 - axis)
    )
    length = b.binary("SUB", end, start)
    if not half:
        length = b.binary("MAXIMUM", length, b.scalar_like(length, 1))
    steps = (np.arange(out * ratio, dtype=np.float32) + np.float32(0.5)) / np.float32(out * ratio)
    return b.binary("ADD", start, b.binary("MUL", length, b.const(steps[None], hint="steps")))


@lowers("RoiAlign")
def roi_align(b: Builder, node: ir.Node) -> Tensor:
    """The mean of samples, interpolated linearly, over each cell of a region's grid."""
    images, rois, chosen = (b.input(node, i) for i in range(3))
    need_float32(images, rois)
    ratio = attr(node, "sampling_ratio", 0)
    if not ratio:
        raise UnsupportedError("how many samples it takes depends on its regions; it wants a sampling_ratio")
    if attr(node, "mode", "avg") != "avg":
        raise UnsupportedError("runtimes disagree on what the maximum of the samples is taken of")
    count, c, height, width = shape_of(node.outputs[0])
    source = picture(b, images)
    first = b.binary("MUL", b.cast(chosen, np.int32), b.const(prod(source.size)))
    source = replace(source, first=b.reshape(first, (count, 1)), padding="border")
    rows, columns = height * ratio, width * ratio
    at = []
    for axis, (n, cells) in enumerate(zip(source.size, (rows, columns), strict=True)):
        x = _roi_places(b, rois, axis, cells // ratio, ratio, node)
        at.append((x, _weight_near(b, x, n), limited(b, x, n - 1)))
    spread = [(rows, 1), (1, columns)]
    full = (count, rows, columns)

    def over(x: Tensor, axis: int) -> Tensor:
        """A number per row, or per column, of each region as one per sample (R, P)."""
        grid = b.reshape(x, (count, *spread[axis]))
        ones = b.const(np.ones(full[1:], np.float32)[None], hint="ones")
        return b.reshape(b.binary("MUL", grid, ones), (count, rows * columns))

    found = source.weighted(b, [linear_taps(b, over(x, i)) for i, (_, _, x) in enumerate(at)])
    inside = b.binary("MUL", over(at[0][1], 0), over(at[1][1], 1))
    found = b.binary("MUL", found, b.reshape(inside, (count * rows * columns, 1)))
    cells = b.reshape(found, (count * height, ratio, width, ratio * c))
    cells = b.reshape(reduce(b, "SUM", cells, [1]), (count * height * width, ratio, c))
    mean = scaled(b, reduce(b, "SUM", cells, [1]), 1 / ratio**2)
    return b.nchw(b.reshape(mean, (count, height, width, c)))


def _weight_near(b: Builder, x: Tensor, size: int) -> Tensor:
    """One where x is no more than a pixel outside an axis, else zero."""
    low = b.binary("GREATER_EQUAL", x, b.scalar_like(x, -1), np.bool_)
    high = b.binary("LESS_EQUAL", x, b.scalar_like(x, size), np.bool_)
    return b.cast(b.binary("LOGICAL_AND", low, high, np.bool_), np.float32)


def _sampled(b: Builder, source: Picture, offset: Tensor, window: Window) -> Tensor:
    """Where a window's taps, moved by `offset` (N, taps, 2, out...), fall: (N out kernel, channels)."""
    n = offset.shape[0]
    at = []
    for axis in range(2):
        taps = np.arange(window.kernel[axis]) * window.dilations[axis]
        places = np.arange(window.out[axis]) * window.strides[axis] - window.begin[axis]
        home = (places[:, None] + taps).astype(np.float32)  # (out, kernel)
        grid = home[:, :, None, None] if axis == 0 else home[None, None]
        moved = b.reshape(part(b, offset, 2, axis, 1, 1), (n, *window.kernel, *window.out))
        moved = b.transpose(moved, (0, 3, 1, 4, 2))
        shape = (n, *moved.shape[1:])
        base = np.broadcast_to(grid, shape[1:])[None]
        at.append(b.reshape(b.binary("ADD", moved, b.const(base, hint="home")), (n, prod(shape[1:]))))
    return source.weighted(b, [linear_taps(b, x) for x in at])


@lowers("DeformConv")
def deform_conv(b: Builder, node: ir.Node) -> Tensor:
    """A convolution whose taps are moved: the taps are sampled into an image of disjoint windows."""
    x, w, offset, bias, mask = b.inputs(node, 5)[:5]
    need_float32(x, w, offset, bias, mask)
    assert x is not None
    assert w is not None
    assert offset is not None
    if x.rank != 4:
        raise UnsupportedError("only images are sampled")
    window, groups = window_of(node, w.shape[2:]), attr(node, "offset_group", 1)
    n, channels, taps = x.shape[0], x.shape[1] // groups, prod(window.kernel)
    height, width = (o * k for o, k in zip(window.out, window.kernel, strict=True))
    parts = []
    for g in range(groups):
        moves = b.reshape(part(b, offset, 1, g * taps * 2, 1, taps * 2), (n, taps, 2, *window.out))
        found = _sampled(b, picture(b, part(b, x, 1, g * channels, 1, channels)), moves, window)
        if mask is not None:
            weight = b.reshape(part(b, mask, 1, g * taps, 1, taps), (n, *window.kernel, *window.out))
            weight = b.transpose(weight, (0, 3, 1, 4, 2))
            found = b.binary("MUL", found, b.reshape(weight, (found.shape[0], 1)))
        parts.append(b.reshape(found, (n, height, width, channels)))
    full = (n, height, width, x.shape[1])
    joined = parts[0] if groups == 1 else b.emit("CONCATENATION", parts, full, axis=3)
    none = (0, 0)
    apart = Window(window.kernel, window.kernel, (1, 1), none, none, (height, width), window.out)
    return convolution(b, b.nchw(joined), w, bias, apart, attr(node, "group", 1))
