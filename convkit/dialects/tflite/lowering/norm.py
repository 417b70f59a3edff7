"""Normalizations, spelled out in operators that delegates take."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.movement import broadcast
from convkit.dialects.tflite.lowering.reductions import reduce
from convkit.dialects.tflite.lowering.window import channels_first, channels_last, need_float32
from convkit.ir.facts import attr, shape_of

_SMALLEST = float(np.finfo(np.float32).tiny)


def _along(b: Builder, vector: Tensor, x: Tensor) -> Tensor:
    """A vector of channels in the shape that broadcasts to x (N, C, ...)."""
    return b.reshape(vector, (1, vector.shape[0], *(1,) * (x.rank - 2)))


def _scaled(b: Builder, y: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """y scale + bias, without what is absent or does nothing."""
    if scale is not None and not (scale.data is not None and np.all(scale.data == 1)):
        y = b.binary("MUL", y, scale)
    if bias is not None and not (bias.data is not None and not np.any(bias.data)):
        y = b.binary("ADD", y, bias)
    return y


def _inverse_deviation(b: Builder, variance: Tensor, epsilon: float) -> Tensor:
    return b.unary("RSQRT", b.binary("ADD", variance, b.scalar_like(variance, epsilon)))


@lowers("BatchNormalization")
def batch_normalization(b: Builder, node: ir.Node) -> Tensor:
    """x a + c with a = scale / sqrt(var + epsilon), c = bias - mean a."""
    x, scale, bias, mean, var = b.inputs(node)
    need_float32(x, scale, bias, mean, var)
    if attr(node, "training_mode", 0):
        raise UnsupportedError("it is in training mode")
    statistics = [None if t is None else t.data for t in (scale, bias, mean, var)]
    assert x is not None
    if any(s is None for s in statistics):
        assert scale is not None
        assert bias is not None
        assert mean is not None
        assert var is not None
        by = b.binary("MUL", scale, _inverse_deviation(b, var, attr(node, "epsilon", 1e-5)))
        up = b.binary("SUB", bias, b.binary("MUL", mean, by))
        return _scaled(b, x, _along(b, by, x), _along(b, up, x))
    gain, shift, center, spread = (np.asarray(s, np.float64) for s in statistics)
    a = gain / np.sqrt(spread + attr(node, "epsilon", 1e-5))
    c = shift - center * a
    factor, offset = (_along(b, b.const(v.astype(np.float32)), x) for v in (a, c))
    return _scaled(b, x, factor, offset)


@lowers("LayerNormalization")
def layer_normalization(b: Builder, node: ir.Node) -> list[Tensor]:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) over the axes from `axis` on."""
    x, scale, bias = b.inputs(node, 3)[:3]
    need_float32(x, scale, bias)
    assert x is not None
    axes = list(range(attr(node, "axis", -1) % x.rank, x.rank))
    mean = reduce(b, "MEAN", x, axes)
    d = b.binary("SUB", x, mean)
    variance = reduce(b, "MEAN", b.square(d), axes)
    inverse = _inverse_deviation(b, variance, attr(node, "epsilon", 1e-5))
    return [_scaled(b, b.binary("MUL", d, inverse), scale, bias), mean, inverse]


@lowers("RMSNormalization")
def rms_normalization(b: Builder, node: ir.Node) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) over the axes from `axis` on."""
    x, scale = b.inputs(node, 2)[:2]
    need_float32(x, scale)
    assert x is not None
    axes = list(range(attr(node, "axis", -1) % x.rank, x.rank))
    mean = reduce(b, "MEAN", b.square(x), axes)
    inverse = _inverse_deviation(b, mean, attr(node, "epsilon", 1e-5))
    return _scaled(b, b.binary("MUL", x, inverse), scale, None)


def _group_mean(b: Builder, x: Tensor, groups: int) -> Tensor:
    """The mean over space and over the channels of each group, once per channel: (N, C, 1, ...).

    Only the tiny means are reshaped, so that x keeps a layout.
    """
    mean = reduce(b, "MEAN", x, list(range(2, x.rank)))
    n, c = x.shape[:2]
    if groups == c:
        return mean
    grouped = reduce(b, "MEAN", b.reshape(mean, (n, groups, c // groups)), [2])
    return b.reshape(broadcast(b, grouped, (n, groups, c // groups)), mean.shape)


@lowers("InstanceNormalization", "GroupNormalization")
def group_normalization(b: Builder, node: ir.Node) -> Tensor:
    """(x - mean) / sqrt(var + epsilon) over space and each group of channels; scale, bias per channel."""
    x, scale, bias = b.inputs(node)
    need_float32(x, scale, bias)
    assert x is not None
    assert scale is not None
    assert bias is not None
    groups = attr(node, "num_groups", x.shape[1])
    if x.rank == 2:  # no space: one element is its own mean
        raise UnsupportedError("its input has no spatial dimension")
    d = b.binary("SUB", x, _group_mean(b, x, groups))
    variance = _group_mean(b, b.square(d), groups)
    y = b.binary("MUL", d, _inverse_deviation(b, variance, attr(node, "epsilon", 1e-5)))
    if scale.shape[0] != x.shape[1]:  # before opset 21 they were per group
        scale, bias = (
            b.reshape(broadcast(b, b.reshape(v, (groups, 1)), (groups, x.shape[1] // groups)), (x.shape[1],))
            for v in (scale, bias)
        )
    return _scaled(b, y, _along(b, scale, x), _along(b, bias, x))


@lowers("MeanVarianceNormalization")
def mean_variance_normalization(b: Builder, node: ir.Node) -> Tensor:
    """(x - mean) / (deviation + 1e-9)."""
    x = b.input(node)
    need_float32(x)
    axes = sorted(a % x.rank for a in attr(node, "axes", (0, 2, 3)))
    d = b.binary("SUB", x, reduce(b, "MEAN", x, axes))
    deviation = b.unary("SQRT", reduce(b, "MEAN", b.square(d), axes))
    return b.binary("DIV", d, b.binary("ADD", deviation, b.scalar_like(x, 1e-9)))


@lowers("LpNormalization")
def lp_normalization(b: Builder, node: ir.Node) -> Tensor:
    """x over its 1-norm or 2-norm along an axis; zeros stay zeros."""
    x, p = b.input(node), attr(node, "p", 2)
    need_float32(x)
    axes = [attr(node, "axis", -1) % x.rank]
    norm = reduce(b, "SUM", b.unary("ABS", x) if p == 1 else b.square(x), axes)
    norm = norm if p == 1 else b.unary("SQRT", norm)
    return b.binary("DIV", x, b.binary("MAXIMUM", norm, b.scalar_like(x, _SMALLEST)))


@lowers("LRN")
def local_response_normalization(b: Builder, node: ir.Node) -> Tensor:
    """x (bias + alpha / size sum(x^2))^-beta; the sum over near channels is a 1x1 convolution with a band.

    The GPU delegates refuse LOCAL_RESPONSE_NORMALIZATION.
    """
    x, size, beta = b.input(node), attr(node, "size"), attr(node, "beta", 0.75)
    need_float32(x)
    shape = shape_of(node.outputs[0])
    c = shape[1]
    flat = x if x.rank <= 4 else b.reshape(x, (*shape[:3], int(np.prod(shape[3:]))))
    y = channels_last(b, flat)
    step = np.arange(c) - np.arange(c)[:, None]
    band = (step >= -((size - 1) // 2)) & (step <= size // 2)
    w = b.const(
        (band * (attr(node, "alpha", 1e-4) / size)).astype(np.float32).reshape(c, 1, 1, c), hint="band"
    )
    bias = b.const(np.full(c, attr(node, "bias", 1.0), np.float32), hint="bias")
    one = {f"{kind}_{a}{end}": 1 for kind, end in (("stride", ""), ("dilation", "_factor")) for a in "hw"}
    s = b.emit("CONV_2D", [b.square(y), w, bias], y.shape, padding="VALID", **one)
    if beta == 0.75:  # without POW, which XNNPACK does not have
        r = b.unary("RSQRT", s)
        gain = b.binary("MUL", r, b.unary("SQRT", r))
    else:
        gain = b.unary("RSQRT", s) if beta == 0.5 else b.binary("POW", s, b.scalar_like(s, -beta))
    return channels_first(b, b.binary("MUL", y, gain), shape)
