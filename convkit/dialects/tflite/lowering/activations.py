"""Activation functions, each by the operator TFLite has for it or a stable formula of two to six."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, lowers
from convkit.ir.facts import attr

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def scaled(b: Builder, x: Tensor, factor: float) -> Tensor:
    """factor x."""
    return x if factor == 1 else b.binary("MUL", x, b.scalar_like(x, factor))


def shifted(b: Builder, x: Tensor, offset: float) -> Tensor:
    """x + offset."""
    return x if offset == 0 else b.binary("ADD", x, b.scalar_like(x, offset))


@lowers("Relu")
def relu(b: Builder, node: ir.Node) -> Tensor:
    """max(x, 0)."""
    x = b.input(node)
    return b.unary("RELU", x) if x.dtype.kind == "f" else b.binary("MAXIMUM", x, b.scalar_like(x, 0))


_RANGES = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


@lowers("Clip")
def clip(b: Builder, node: ir.Node) -> Tensor:
    """min(max(x, low), high); the ranges of ReLU have their own operators.

    RELU_0_TO_1 is left alone: the GPU delegate refuses it.
    """
    x, low, high = b.inputs(node, 3)
    assert x is not None
    if x.dtype.kind == "f":
        limits = (_number(low, -np.inf), _number(high, np.inf))
        if limits in _RANGES:
            return b.unary(_RANGES[limits], x)
        if limits[0] == 0:
            x, low = b.unary("RELU", x), None
    if low is not None:
        x = b.binary("MAXIMUM", x, b.reshape(low, ()))
    return x if high is None else b.binary("MINIMUM", x, b.reshape(high, ()))


def _number(bound: Tensor | None, absent: float) -> float | None:
    """The bound as a number, `absent` where there is none, None where it is computed."""
    if bound is None:
        return absent
    return None if bound.data is None else float(bound.data.reshape(-1)[0])


@lowers("HardSigmoid")
def hard_sigmoid(b: Builder, node: ir.Node) -> Tensor:
    """clip(alpha x + beta, 0, 1) = RELU6(6 (alpha x + beta)) / 6, bounded by one operator.

    With PyTorch's alpha = 1/6, beta = 1/2 the factor vanishes: RELU6(x + 3) / 6.
    """
    x = b.input(node)
    alpha, beta = np.float32(attr(node, "alpha", 0.2)), np.float32(attr(node, "beta", 0.5))
    slope = 1.0 if alpha == np.float32(1 / 6) else 6 * float(alpha)
    return scaled(b, b.unary("RELU6", shifted(b, scaled(b, x, slope), 6 * float(beta))), 1 / 6)


@lowers("HardSwish")
def hard_swish(b: Builder, node: ir.Node) -> Tensor:
    """x clip(x / 6 + 1/2, 0, 1)."""
    return b.unary("HARD_SWISH", b.input(node))


def _elu(b: Builder, x: Tensor, alpha: float, scale: float = 1.0, gamma: float = 1.0) -> Tensor:
    """gamma (max(x, 0) + alpha expm1(min(x, 0) scale)); TFLite's ELU is expm1 below zero."""
    if alpha == scale == 1:
        return scaled(b, b.unary("ELU", x), gamma)
    negative = scaled(b, b.binary("MINIMUM", x, b.scalar_like(x, 0)), scale)
    falling = scaled(b, b.unary("ELU", negative), alpha * gamma)
    return b.binary("ADD", scaled(b, b.unary("RELU", x), gamma), falling)


@lowers("Elu")
def elu(b: Builder, node: ir.Node) -> Tensor:
    """x above zero, alpha (exp(x) - 1) below."""
    return _elu(b, b.input(node), attr(node, "alpha", 1.0))


@lowers("Selu")
def selu(b: Builder, node: ir.Node) -> Tensor:
    """gamma times ELU of alpha."""
    return _elu(b, b.input(node), attr(node, "alpha", _SELU_ALPHA), gamma=attr(node, "gamma", _SELU_GAMMA))


@lowers("Celu")
def celu(b: Builder, node: ir.Node) -> Tensor:
    """max(x, 0) + min(0, alpha (exp(x / alpha) - 1))."""
    alpha = attr(node, "alpha", 1.0)
    return _elu(b, b.input(node), alpha, 1 / alpha)


@lowers("LeakyRelu")
def leaky_relu(b: Builder, node: ir.Node) -> Tensor:
    """x above zero, alpha x below."""
    return b.unary("LEAKY_RELU", b.input(node), alpha=attr(node, "alpha", 0.01))


@lowers("PRelu")
def prelu(b: Builder, node: ir.Node) -> Tensor:
    """x above zero, slope x below; the slope broadcasts to x, and one slope for all is LEAKY_RELU."""
    x, slope = b.input(node, 0), b.input(node, 1)
    if slope.data is not None and slope.data.size == 1:
        return b.unary("LEAKY_RELU", x, alpha=float(slope.data.reshape(-1)[0]))
    if slope.data is not None:
        return b.emit("PRELU", [x, slope], x.shape)
    falling = b.binary("MUL", b.binary("MINIMUM", x, b.scalar_like(x, 0)), slope)
    return b.binary("ADD", b.unary("RELU", x), falling)


@lowers("ThresholdedRelu")
def thresholded_relu(b: Builder, node: ir.Node) -> Tensor:
    """x where it exceeds alpha, else 0."""
    x = b.input(node)
    above = b.binary("GREATER", x, b.scalar_like(x, attr(node, "alpha", 1.0)), np.bool_)
    return b.emit("SELECT_V2", [above, x, b.scalar_like(x, 0)], x.shape, x.dtype)


@lowers("Shrink")
def shrink(b: Builder, node: ir.Node) -> Tensor:
    """x + bias below -lambd, x - bias above lambd, else 0."""
    x = b.input(node)
    bias, lambd = attr(node, "bias", 0.0), attr(node, "lambd", 0.5)
    zero = b.scalar_like(x, 0)
    above = b.binary("GREATER", x, b.scalar_like(x, lambd), np.bool_)
    below = b.binary("LESS", x, b.scalar_like(x, -lambd), np.bool_)
    rest = b.emit("SELECT_V2", [below, shifted(b, x, bias), zero], x.shape, x.dtype)
    return b.emit("SELECT_V2", [above, shifted(b, x, -bias), rest], x.shape, x.dtype)


@lowers("Softplus")
def softplus(b: Builder, node: ir.Node) -> Tensor:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which cannot overflow."""
    x = b.input(node)
    decay = b.unary("EXP", b.unary("NEG", b.unary("ABS", x)))
    return b.binary("ADD", b.unary("RELU", x), b.unary("LOG", shifted(b, decay, 1)))


@lowers("Softsign")
def softsign(b: Builder, node: ir.Node) -> Tensor:
    """x / (1 + |x|)."""
    x = b.input(node)
    return b.binary("DIV", x, shifted(b, b.unary("ABS", x), 1))


@lowers("Mish")
def mish(b: Builder, node: ir.Node) -> Tensor:
    """x tanh(softplus(x)) = x / (1 + 2 / (e (e + 2))) with e = exp(x): exact to rounding at both ends."""
    x = b.input(node)
    e = b.unary("EXP", x)
    inverse = b.binary("DIV", b.scalar_like(x, 2), b.binary("MUL", e, shifted(b, e, 2)))
    return b.binary("DIV", x, shifted(b, inverse, 1))


@lowers("Gelu")
def gelu(b: Builder, node: ir.Node) -> Tensor:
    """x Phi(x), by erf or by tanh as the attribute says."""
    return b.unary("GELU", b.input(node), approximate=attr(node, "approximate", "none") == "tanh")


@lowers("Swish")
def swish(b: Builder, node: ir.Node) -> Tensor:
    """x sigmoid(alpha x)."""
    x = b.input(node)
    return b.binary("MUL", x, b.unary("LOGISTIC", scaled(b, x, attr(node, "alpha", 1.0))))
