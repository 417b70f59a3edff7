"""GridSample over images: gathers of the nearest or the four surrounding pixels."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.activations import scaled, shifted
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import window
from convkit.dialects.tflite.lowering.window import need_float32
from convkit.ir.facts import attr, shape_of


def _limited(b: Builder, x: Tensor, high: int) -> Tensor:
    """x between zero and `high`."""
    return b.binary("MINIMUM", b.binary("MAXIMUM", x, b.scalar_like(x, 0)), b.scalar_like(x, high))


def _inside(b: Builder, at: Tensor, size: int) -> Tensor:
    """One where a pixel coordinate (a whole number) lies in the image, else zero."""
    return b.binary(
        "SUB",
        b.scalar_like(at, 1),
        _limited(b, b.unary("ABS", b.binary("SUB", at, _limited(b, at, size - 1))), 1),
    )


def _pixel(b: Builder, rows: Tensor, x: Tensor, y: Tensor, size: tuple[int, int], zeros: bool) -> Tensor:
    """The pixels at whole coordinates x, y (N, P) of an image given as rows (N H W, C): (N P, C)."""
    height, width = size
    batch, points = x.shape
    column, row = _limited(b, x, width - 1), _limited(b, y, height - 1)
    index = b.binary("ADD", b.binary("MUL", row, b.scalar_like(row, width)), column)
    flat = b.cast(index, np.int32)
    if batch > 1:
        first = b.const(np.arange(batch, dtype=np.int32)[:, None] * (height * width), hint="first")
        flat = b.binary("ADD", flat, first)
    flat = b.reshape(flat, (batch * points,))
    pixels = b.emit("GATHER", [rows, flat], (batch * points, rows.shape[1]), axis=0)
    if not zeros:
        return pixels
    inside = b.binary("MUL", _inside(b, x, width), _inside(b, y, height))
    return b.binary("MUL", pixels, b.reshape(inside, (batch * points, 1)))


def _coordinate(b: Builder, grid: Tensor, axis: int, size: int, aligned: bool, border: bool) -> Tensor:
    """Pixel coordinates (N, P) along one axis from the grid's -1 to 1."""
    batch, height, width, _ = grid.shape
    part = b.reshape(window(b, grid, 3, axis, 1, 1), (batch, height * width))
    if aligned:
        x = scaled(b, shifted(b, part, 1.0), (size - 1) / 2)
    else:
        x = shifted(b, scaled(b, shifted(b, part, 1.0), size / 2), -0.5)
    return _limited(b, x, size - 1) if border else x


@lowers("GridSample")
def grid_sample(b: Builder, node: ir.Node) -> Tensor:
    """Pixels gathered by computed indices, weighted by their distance; padding by zeros or the border."""
    image, grid = b.input(node, 0), b.input(node, 1)
    need_float32(image, grid)
    mode, padding = attr(node, "mode", "linear"), attr(node, "padding_mode", "zeros")
    if image.rank != 4 or mode == "cubic" or padding == "reflection":
        raise UnsupportedError("only images, linear or nearest, padded with zeros or the border are sampled")
    n, c, h, w = image.shape
    if h * w >= 2**24:
        raise UnsupportedError("its image has more pixels than float32 counts")
    rows = b.reshape(b.nhwc(image), (n * h * w, c))
    aligned, border = bool(attr(node, "align_corners", 0)), padding == "border"
    x = _coordinate(b, grid, 0, w, aligned, border)
    y = _coordinate(b, grid, 1, h, aligned, border)
    if mode == "nearest":
        found = _pixel(b, rows, b.unary("ROUND", x), b.unary("ROUND", y), (h, w), not border)
    else:
        found = _blend(b, rows, x, y, (h, w), not border)
    shape = shape_of(node.outputs[0])
    return b.nchw(b.reshape(found, (shape[0], *shape[2:], shape[1])))


def _blend(b: Builder, rows: Tensor, x: Tensor, y: Tensor, size: tuple[int, int], zeros: bool) -> Tensor:
    """The four pixels around x, y, each weighted by the area opposite to it."""
    near = [b.unary("FLOOR", v) for v in (x, y)]
    far = [shifted(b, v, 1.0) for v in near]
    part = [b.binary("SUB", v, low) for v, low in zip((x, y), near)]
    rest = [b.binary("SUB", b.scalar_like(p, 1), p) for p in part]
    total: Tensor | None = None
    for at_x, weight_x in ((near[0], rest[0]), (far[0], part[0])):
        for at_y, weight_y in ((near[1], rest[1]), (far[1], part[1])):
            weight = b.binary("MUL", weight_x, weight_y)
            weight = b.reshape(weight, (math.prod(weight.shape), 1))
            term = b.binary("MUL", _pixel(b, rows, at_x, at_y, size, zeros), weight)
            total = term if total is None else b.binary("ADD", total, term)
    assert total is not None
    return total
