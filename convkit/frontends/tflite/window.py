"""Sliding windows and resizing: convolutions, pools, resize, depth to space. Channels come second in ONNX."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.reader import CUSTOM
from convkit.frontends.tflite.builder import Builder, RefusedError, imports


def _sizes(options: dict[str, Any], names: Sequence[str]) -> list[int]:
    found = [int(options[name]) for name in names]
    if any(size < 1 for size in found):
        raise RefusedError(f"its {names[0]} is not positive")
    return found


def _pads(same: bool, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
          dilations: Sequence[int]) -> list[int]:  # fmt: skip
    """ONNX pads (all begins, then all ends): SAME puts the odd one behind."""
    if not same:
        return [0] * (2 * len(size))
    total = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)
    ]
    return [t // 2 for t in total] + [t - t // 2 for t in total]


def _filter(tensor: Tensor | None, rank: int) -> Tensor:
    assert tensor is not None
    if tensor.rank != rank:
        raise RefusedError(f"its filter has rank {tensor.rank}")
    return tensor


def _bias(b: Builder, op: Op, position: int) -> ir.Value | None:
    given = op.inputs[position] if len(op.inputs) > position else None
    return None if given is None else b.real(given)


def _data(op: Op, position: int, rank: int) -> Tensor:
    x = op.inputs[position]
    assert x is not None
    if x.rank != rank:
        raise RefusedError(f"its input has rank {x.rank}")
    return x


@imports("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D")
def conv(b: Builder, op: Op) -> ir.Value:
    """Conv; a filter of fewer channels than the input makes groups."""
    three = op.code == "CONV_3D"
    rank = 5 if three else 4
    x, w = _data(op, 0, rank), _filter(op.inputs[1], rank)
    axes = ("d", "h", "w") if three else ("h", "w")
    strides = _sizes(op.options, [f"stride_{a}" for a in axes])
    dilations = _sizes(op.options, [f"dilation_{a}_factor" for a in axes])
    channels = x.shape[-1]
    if op.code == "DEPTHWISE_CONV_2D":
        order: tuple[int, ...] = (3, 0, 1, 2)  # 1HWO
        group, kernel = channels, w.shape[1:3]
        outputs = w.shape[3]
    elif three:
        order = (4, 3, 0, 1, 2)  # DHWIO
        group, kernel, outputs = channels // max(w.shape[3], 1), w.shape[:3], w.shape[4]
    else:
        order = (0, 3, 1, 2)  # OHWI
        group, kernel, outputs = channels // max(w.shape[3], 1), w.shape[1:3], w.shape[0]
    if group < 1 or channels % group or outputs % group:
        raise RefusedError(f"its filter {list(w.shape)} does not fit {channels} channels")
    pads = _pads(op.options["padding"] == "SAME", x.shape[1:-1], kernel, strides, dilations)
    y = b.op(
        "Conv", b.nchw(x), b.real(w, order), _bias(b, op, 2),
        kernel_shape=list(kernel), strides=strides, dilations=dilations, pads=pads, group=group,
    )  # fmt: skip
    return b.nhwc(b.activated(y, op.options), rank)


def _transposed(b: Builder, op: Op, x: Tensor, w: Tensor, bias: ir.Value | None, out: Sequence[int],
                strides: Sequence[int], axes: tuple[int, ...]) -> ir.Value:  # fmt: skip
    """ConvTranspose to the spatial size `out`; `axes` brings the filter to (in, out, spatial...)."""
    kernel = [w.shape[a] for a in axes[2:]]
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[1:-1], strides, kernel, strict=True)]
    cut = [max(f - o, 0) for f, o in zip(full, out, strict=True)]
    begin = [c // 2 for c in cut]
    missing = [max(o - f, 0) for f, o in zip(full, out, strict=True)]
    if any(m >= s for m, s in zip(missing, strides, strict=True)):
        raise RefusedError("its output is larger than the input reaches")
    y = b.op(
        "ConvTranspose", b.nchw(x), b.real(w, axes), bias,
        kernel_shape=kernel, strides=list(strides), output_padding=missing,
        pads=begin + [c - h for c, h in zip(cut, begin, strict=True)],
    )  # fmt: skip
    return b.nhwc(b.activated(y, op.options), x.rank)


@imports("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE")
def transpose_conv(b: Builder, op: Op) -> ir.Value:
    """ConvTranspose, cut as SAME or VALID says."""
    three = op.code == "CONV_3D_TRANSPOSE"
    rank = 5 if three else 4
    x, w = _data(op, 2, rank), _filter(op.inputs[1], rank)
    sizes = ("d", "h", "w") if three else ("h", "w")
    strides = _sizes(op.options, [f"stride_{a}" for a in sizes])
    if any(op.options.get(f"dilation_{a}_factor", 1) != 1 for a in sizes):
        raise RefusedError("it is dilated")
    shape = op.inputs[0]
    assert shape is not None
    target = op.outputs[0].shape if shape.data is None else tuple(int(d) for d in shape.data.reshape(-1))
    if len(target) != rank:
        raise RefusedError(f"its output has rank {len(target)}")
    axes = (4, 3, 0, 1, 2) if three else (3, 0, 1, 2)
    return _transposed(b, op, x, w, _bias(b, op, 3), target[1:-1], strides, axes)


@imports(CUSTOM + "Convolution2DTransposeBias")
def transpose_conv_bias(b: Builder, op: Op) -> ir.Value:
    """MediaPipe's transposed convolution with a bias; its options are (padding, stride w, stride h)."""
    raw = op.options["custom"]
    if len(raw) < 12:
        raise RefusedError("its options are cut short")
    padding, stride_w, stride_h = struct.unpack_from("<3i", raw)
    if padding not in (1, 2) or min(stride_w, stride_h) < 1 or len(op.inputs) < 3:
        raise RefusedError(f"its padding is {padding}, its strides {stride_h}x{stride_w}")
    x, w = _data(op, 0, 4), _filter(op.inputs[1], 4)
    strides = (stride_h, stride_w)
    kernel = w.shape[1:3]
    out = [
        n * s if padding == 1 else (n - 1) * s + k
        for n, s, k in zip(x.shape[1:3], strides, kernel, strict=True)
    ]
    return _transposed(b, op, x, w, _bias(b, op, 2), out, strides, (3, 0, 1, 2))


@imports("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(b: Builder, op: Op) -> ir.Value:
    """AveragePool (padding is not counted) or MaxPool."""
    x = _data(op, 0, 4)
    kernel = _sizes(op.options, ["filter_height", "filter_width"])
    strides = _sizes(op.options, ["stride_h", "stride_w"])
    pads = _pads(op.options["padding"] == "SAME", x.shape[1:3], kernel, strides, (1, 1))
    name = "MaxPool" if op.code == "MAX_POOL_2D" else "AveragePool"
    y = b.op(name, b.nchw(x), kernel_shape=kernel, strides=strides, pads=pads)
    return b.nhwc(b.activated(y, op.options))


@imports("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(b: Builder, op: Op) -> ir.Value:
    """Resize; the nearest neighbour is rounded up from a half, or down without centres."""
    x, size = _data(op, 0, 4), op.inputs[1]
    assert size is not None
    height, width = op.outputs[0].shape[1:3] if size.data is None else (int(n) for n in size.data.reshape(-1))
    corners, centres = bool(op.options["align_corners"]), bool(op.options["half_pixel_centers"])
    if corners and centres:
        raise RefusedError("it aligns corners and centres")
    mode = "align_corners" if corners else "half_pixel" if centres else "asymmetric"
    how: dict[str, Any] = {"mode": "linear"}
    if op.code == "RESIZE_NEAREST_NEIGHBOR":
        how = {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if corners or centres else "floor"}
    sizes = b.ints([x.shape[0], x.shape[3], height, width])
    y = b.op("Resize", b.nchw(x), None, None, sizes, coordinate_transformation_mode=mode, **how)
    return b.nhwc(y)


@imports("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def depth_space(b: Builder, op: Op) -> ir.Value:
    """The block's own channels come last, as in ONNX's DCR."""
    x = _data(op, 0, 4)
    name = "DepthToSpace" if op.code == "DEPTH_TO_SPACE" else "SpaceToDepth"
    return b.nhwc(b.op(name, b.nchw(x), blocksize=int(op.options["block_size"])))


@imports("LOCAL_RESPONSE_NORMALIZATION")
def lrn(b: Builder, op: Op) -> ir.Value:
    """x (bias + alpha sum x^2)^-beta over 2 radius + 1 channels; ONNX's alpha is over their number."""
    size = 2 * int(op.options["radius"]) + 1
    return b.nhwc(
        b.op("LRN", b.nchw(_data(op, 0, 4)), size=size, alpha=float(op.options["alpha"]) * size,
             beta=float(op.options["beta"]), bias=float(op.options["bias"]))
    )  # fmt: skip


@imports("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND")
def space_batch(b: Builder, op: Op) -> ir.Value:
    """Blocks of the spatial axes to the batch (after padding), or back (before cropping)."""
    x, block, edges = op.inputs[:3]
    assert x is not None
    if block is None or block.data is None or edges is None or edges.data is None:
        raise RefusedError("its blocks are not constant")
    steps = [int(n) for n in block.data.reshape(-1)]
    first, last = edges.data.reshape(-1, 2).astype(int).T
    m, n = len(steps), x.shape[0]
    rest = list(x.shape[1 + m :])
    if op.code == "SPACE_TO_BATCH_ND":
        pads = [0, *first, *[0] * len(rest), 0, *last, *[0] * len(rest)]
        padded = b.op("Pad", b.real(x), b.ints(pads))
        sizes = [s + int(f) + int(e) for s, f, e in zip(x.shape[1:], first, last, strict=False)]
        split = [v for s, k in zip(sizes, steps, strict=True) for v in (s // k, k)]
        y = b.reshape(padded, [n, *split, *rest])
        blocks, grid = range(2, 2 * m + 1, 2), range(1, 2 * m, 2)
        y = b.transpose(y, [*blocks, 0, *grid, *range(2 * m + 1, 2 * m + 1 + len(rest))])
        return b.reshape(y, [n * int(np.prod(steps)), *split[::2], *rest])
    batch = n // int(np.prod(steps))
    y = b.reshape(b.real(x), [*steps, batch, *x.shape[1:]])
    woven = [v for i in range(m) for v in (m + 1 + i, i)]
    y = b.transpose(y, [m, *woven, *range(2 * m + 1, 2 * m + 1 + len(rest))])
    full = [s * k for s, k in zip(x.shape[1:], steps, strict=False)]
    y = b.reshape(y, [batch, *full, *rest])
    ends = [f - int(e) for f, e in zip(full, last, strict=True)]
    return b.op("Slice", y, b.ints([int(f) for f in first]), b.ints(ends), b.ints(range(1, 1 + m)))
