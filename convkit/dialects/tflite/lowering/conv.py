"""Conv and ConvTranspose in one to three dimensions."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, lowers
from convkit.dialects.tflite.lowering.indexing import cut
from convkit.dialects.tflite.lowering.indexing import window as window_along
from convkit.dialects.tflite.lowering.movement import border
from convkit.dialects.tflite.lowering.window import (
    Window,
    channels_first,
    channels_last,
    need_float32,
    pad_for,
    window_of,
)
from convkit.ir.facts import attr, shape_of


def _filter(b: Builder, w: Tensor) -> Tensor:
    """A filter in ONNX order; a single spatial dimension becomes two."""
    return b.reshape(w, (*w.shape[:2], 1, w.shape[2])) if w.rank == 3 else w


def _block_diagonal(b: Builder, w: Tensor, group: int, rows: int, columns: int) -> Tensor:
    """The filter of a grouped convolution as that of a dense one, zero between the groups.

    `rows` and `columns` are the axes of w's channels: the full ones and those of one group.
    """
    if group == 1:
        return w
    shape = list(w.shape)
    size = shape[columns]
    shape[columns] *= group
    if w.data is None:
        parts, each = [], w.shape[rows] // group
        for g in range(group):
            widths = [(0, 0)] * w.rank
            widths[columns] = (g * size, (group - 1 - g) * size)
            parts.append(border(b, window_along(b, w, rows, g * each, 1, each), widths))
        return b.emit("CONCATENATION", parts, shape, axis=rows)
    dense = np.moveaxis(np.zeros(shape, w.dtype), (rows, columns), (0, 1))
    packed = np.moveaxis(w.data, (rows, columns), (0, 1))
    r, c = packed.shape[0] // group, packed.shape[1]
    for g in range(group):
        dense[g * r : (g + 1) * r, g * c : (g + 1) * c] = packed[g * r : (g + 1) * r]
    return b.const(np.moveaxis(dense, (0, 1), (rows, columns)), hint="dense")


def convolve(b: Builder, node: ir.Node, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """x convolved with w in float32, with the node's window and groups; zeros stand for a missing bias
    (XNNPACK wants one).
    """
    return convolution(b, x, w, bias, window_of(node, w.shape[2:]), attr(node, "group", 1))


def convolution(b: Builder, x: Tensor, w: Tensor, bias: Tensor | None, window: Window, group: int) -> Tensor:
    """x (N, C, spatial...) convolved with w (M, C / group, spatial...)."""
    shape = (x.shape[0], w.shape[0], *window.out[-(x.rank - 2) :])
    w = _filter(b, w)
    bias = bias or b.const(np.zeros(shape[1], np.float32), hint="bias")
    padded, padding = pad_for(b, channels_last(b, x), window)
    options = window.options() | {"padding": padding}
    if len(window.kernel) == 3:
        code = "CONV_3D"
        w = b.transpose(_block_diagonal(b, w, group, 0, 1), (2, 3, 4, 1, 0))
    elif group == x.shape[1] > 1:
        code = "DEPTHWISE_CONV_2D"
        w = b.transpose(w, (1, 2, 3, 0))
        options["depth_multiplier"] = shape[1] // group
    else:
        # A filter of I = C / group channels makes it a grouped one. The GPU delegate works on slices of
        # four channels and takes, but gets wrong, groups that do not fill them.
        code = "CONV_2D"
        sliced = x.shape[1] // group % 4 == 0 and shape[1] // group % 4 == 0
        w = b.transpose(w if sliced else _block_diagonal(b, w, group, 0, 1), (0, 2, 3, 1))
    y = b.emit(code, [padded, w, bias], (shape[0], *window.out, shape[1]), **options)
    return channels_first(b, y, shape)


@lowers("Conv")
def conv(b: Builder, node: ir.Node) -> Tensor:
    """CONV_2D, DEPTHWISE_CONV_2D when every input channel is its own group, or CONV_3D."""
    x, w, bias = b.inputs(node, 3)[:3]
    need_float32(x, w, bias)
    assert x is not None
    assert w is not None
    return convolve(b, node, x, w, bias)


def _spread(b: Builder, w: Tensor, kernel: tuple[int, ...], dilations: tuple[int, ...]) -> Tensor:
    """The filter w (I, O, spatial...) with zeros between its taps and behind them, of size `kernel`."""
    if w.shape[2:] == kernel:
        return w
    if w.data is None:
        return _spread_at_run_time(b, w, kernel, dilations)
    spread = np.zeros((*w.shape[:2], *kernel), w.dtype)
    taps = tuple(slice(0, (k - 1) * d + 1, d) for k, d in zip(w.shape[2:], dilations))
    spread[(slice(None), slice(None), *taps)] = w.data
    return b.const(spread, hint="spread")


def _spread_at_run_time(b: Builder, w: Tensor, kernel: tuple[int, ...], dilations: tuple[int, ...]) -> Tensor:
    """As `_spread`, of a computed filter: axis by axis, each tap followed by its zeros, the rest cut off."""
    for axis, (size, step) in enumerate(zip(kernel, dilations), start=2):
        outer, taps, inner = prod(w.shape[:axis]), w.shape[axis], prod(w.shape[axis + 1 :])
        tall = border(b, b.reshape(w, (outer, taps, 1, inner)), [(0, 0), (0, 0), (0, step - 1), (0, 0)])
        long = b.reshape(tall, (outer, taps * step, inner))
        long = window_along(b, long, 1, 0, 1, min(size, taps * step))
        long = border(b, long, [(0, 0), (0, size - long.shape[1]), (0, 0)])
        w = b.reshape(long, (*w.shape[:axis], size, *w.shape[axis + 1 :]))
    return w


@lowers("ConvTranspose")
def conv_transpose(b: Builder, node: ir.Node) -> Tensor:
    """TRANSPOSE_CONV or CONV_3D_TRANSPOSE; any padding but SAME cuts the full result by a SLICE."""
    shape = shape_of(node.outputs[0])
    x, w, bias = b.inputs(node, 3)[:3]
    need_float32(x, w, bias)
    assert x is not None
    assert w is not None
    window = window_of(node, w.shape[2:])
    full = [(n - 1) * s + e for n, s, e in zip(window.size, window.strides, window.extent)]
    # Output beyond the full one (by output_padding) comes from zeros appended to the kernel.
    missing = [max(o + p - f, 0) for o, p, f in zip(window.out, window.begin, full)]
    kernel = tuple(e + m for e, m in zip(window.extent, missing))
    full = [f + m for f, m in zip(full, missing)]
    same = any(window.begin) and all(
        o == n * s and k >= s and p == (k - s) // 2 == (k - 1 - (n - 1) % s) // 2
        for o, n, s, k, p in zip(window.out, window.size, window.strides, kernel, window.begin)
    )  # the second formula is the GPU delegate's, that of a forward convolution; it takes the others too
    w = _block_diagonal(b, _spread(b, _filter(b, w), kernel, window.dilations), attr(node, "group", 1), 0, 1)
    bias = bias or b.const(np.zeros(shape[1], np.float32), hint="bias")
    three = len(kernel) == 3
    w = b.transpose(w, (2, 3, 4, 1, 0) if three else (1, 2, 3, 0))
    sized = (shape[0], *(window.out if same else full), shape[1])
    options = window.options(dilated=three) | {"padding": "SAME" if same else "VALID"}
    if three:
        options |= {f"dilation_{a}_factor": 1 for a in "dhw"}
    inputs = [b.const(sized, np.int32, "output_shape"), w, channels_last(b, x), bias]
    y = b.emit("CONV_3D_TRANSPOSE" if three else "TRANSPOSE_CONV", inputs, sized, x.dtype, **options)
    y = cut(b, y, (0, *window.begin, 0), (1,) * y.rank, (shape[0], *window.out, shape[1]))
    return channels_first(b, y, shape)
