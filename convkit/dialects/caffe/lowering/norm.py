"""Normalisations and softmax."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convkit.dialects.caffe.lowering.builder import Builder, constant_of, lowers
from convkit.dialects.caffe.lowering.conv import convolve, inner_product
from convkit.dialects.caffe.lowering.elementwise import expanded, scaled, times
from convkit.dialects.caffe.lowering.pool import over_map
from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.unsupported import UnsupportedError
from convkit.ir.facts import attr, input_at


@lowers("BatchNormalization")
def batch_normalization(b: Builder, node: ir.Node) -> Tensor:
    """Scale with bias, of the statistics."""
    scale, bias, mean, variance = (constant_of(node, i).astype(np.float64) for i in (1, 2, 3, 4))
    if attr(node, "training_mode", 0):
        raise UnsupportedError("it is in training mode")
    x = b.input(node)
    factor = scale / np.sqrt(variance + attr(node, "epsilon", 1e-5))
    shape = (-1,) + (1,) * (x.rank - 2)
    return scaled(b, x, factor.reshape(shape), (bias - mean * factor).reshape(shape))


@lowers("LRN")
def lrn(b: Builder, node: ir.Node) -> Tensor:
    """LRN with k of 1, which every reader of Caffe has: (k + s) ** -b = k ** -b * (1 + s / k) ** -b."""
    alpha, beta, k = (
        float(attr(node, name, d)) for name, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    size = attr(node, "size")
    if size % 2 == 0 or k <= 0:
        raise UnsupportedError(f"size {size} and bias {k:g}: Caffe takes an odd size, and a bias above 0")
    y = b.unary("LRN", b.input(node), local_size=size, alpha=alpha / k, beta=beta)
    return b.power(y, scale=k**-beta)


@lowers("Softmax")
def softmax(b: Builder, node: ir.Node) -> Tensor:
    """Softmax along one axis."""
    x = b.input(node)
    return b.unary("Softmax", x, axis=attr(node, "axis", -1) % x.rank)


@lowers("LogSoftmax")
def log_softmax(b: Builder, node: ir.Node) -> Tensor:
    """The logarithm of a softmax."""
    x = b.input(node)
    return b.unary("Log", b.unary("Softmax", x, axis=attr(node, "axis", -1) % x.rank))


@lowers("LayerNormalization")
def layer_normalization(b: Builder, node: ir.Node) -> Tensor:
    """Over the last dimension: products with constant matrices take the mean away and spread the variance.

    Where the last dimension is that of channels, moved there, it is done over channels by 1 x 1 convolutions.
    """
    x = b.input(node)
    axis = attr(node, "axis", -1) % x.rank
    if axis != x.rank - 1 or any(v.uses() for v in node.outputs[1:]):
        raise UnsupportedError("it is over several dimensions, or gives its statistics")
    size = x.shape[axis]
    scale = constant_of(node, 1)
    bias = np.zeros_like(scale) if input_at(node, 2) is None else constant_of(node, 2)
    mean = np.full((size, size), 1 / size)
    source, order = b.unpermuted(x)
    over_channels = order == [0, 2, 3, 1]

    def product(value: Tensor, matrix: np.ndarray) -> Tensor:
        if over_channels:
            return convolve(b, value, matrix[:, :, None, None])
        return inner_product(b, value, matrix, None, axis)

    centered = product(source if over_channels else x, np.eye(size) - mean)
    variance = product(b.eltwise("PROD", centered, centered), mean)
    inverse = b.power(variance, power=-0.5, shift=attr(node, "epsilon", 1e-5))
    shape = (size, 1, 1) if over_channels else (size,)
    y = b.eltwise("PROD", centered, inverse)
    y = scaled(b, y, scale.reshape(shape), np.broadcast_to(bias, scale.shape).reshape(shape))
    return b.permute(y, order) if over_channels else y


@lowers("InstanceNormalization")
def instance_normalization(b: Builder, node: ir.Node) -> Tensor:
    """Over each map, by poolings and a Scale of two inputs."""
    x = b.input(node)
    if x.rank != 4:
        raise UnsupportedError(f"its input is of rank {x.rank}")
    centered = b.eltwise("SUM", x, expanded(b, over_map(b, x, "AVE"), x), coeff=(1.0, -1.0))
    variance = over_map(b, b.eltwise("PROD", centered, centered), "AVE")
    inverse = b.power(variance, power=-0.5, shift=attr(node, "epsilon", 1e-5))
    y = times(b, centered, inverse)
    scale, bias = (constant_of(node, i).reshape(-1, 1, 1) for i in (1, 2))
    return scaled(b, y, scale, bias)
