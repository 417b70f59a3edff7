"""Mathematical functions that TFLite has no operator for, by identities that stay accurate near zero.

Their errors are a few units in the last place of float32.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.activations import scaled, shifted
from convkit.dialects.tflite.lowering.builder import Builder, lowers

# erf(x) / x = P(x^2) / Q(x^2) on |x| <= 4, beyond which erf is 1 in float32: a rational least-squares fit
# with reweighting towards equal relative error, 2.5e-8 before rounding and 3.7e-7 evaluated in float32.
_ERF_LIMIT = 4.0
_ERF_P = (
    1.12837913940,
    1.93546739826e-1,
    5.31017902162e-2,
    3.88335154756e-3,
    2.84555658190e-4,
    1.98664547107e-6,
)
_ERF_Q = (1.0, 5.04858886475e-1, 1.15350527228e-1, 1.52072949359e-2, 1.18555221159e-3, 3.74181191195e-5)
_ATANH = tuple(2 / (2 * k + 1) for k in range(6))  # the next term is below 3e-9


def polynomial(b: Builder, x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """The polynomial of ascending coefficients at x, by Horner's rule."""
    *lower, leading = coefficients
    first = shifted(b, scaled(b, x, leading), lower.pop())
    return reduce(lambda inner, c: shifted(b, b.binary("MUL", inner, x), c), reversed(lower), first)


@lowers("Erf")
def erf(b: Builder, node: ir.Node) -> Tensor:
    """x P(x^2) / Q(x^2), x held within the range of the fit."""
    x = b.input(node)
    below = b.binary("MINIMUM", x, b.scalar_like(x, _ERF_LIMIT))
    x = b.binary("MAXIMUM", below, b.scalar_like(x, -_ERF_LIMIT))
    square = b.square(x)
    p, q = (polynomial(b, square, c) for c in (_ERF_P, _ERF_Q))
    return b.binary("MUL", x, b.binary("DIV", p, q))


def _one_like(b: Builder, x: Tensor) -> Tensor:
    """Ones of x's shape: ATAN2 does not broadcast."""
    one = b.scalar_like(x, 1)
    return b.binary("MAXIMUM", b.binary("MINIMUM", x, one), one)


def _cosine_of(b: Builder, sine: Tensor) -> Tensor:
    """sqrt(1 - s^2) = sqrt((1 - s)(1 + s))."""
    one = b.scalar_like(sine, 1)
    return b.unary("SQRT", b.binary("MUL", b.binary("SUB", one, sine), b.binary("ADD", one, sine)))


def _log1p(b: Builder, x: Tensor) -> Tensor:
    """log(1 + x) for x >= 0; below 1/2 as 2 atanh(s), s = x / (2 + x), by atanh's series in s^2 <= 1/25."""
    s = b.binary("DIV", x, shifted(b, x, 2))
    series = polynomial(b, b.square(s), _ATANH)
    small = b.binary("MUL", s, series)
    near = b.binary("LESS", x, b.scalar_like(x, 0.5), np.bool_)
    return b.emit("SELECT_V2", [near, small, b.unary("LOG", shifted(b, x, 1))], x.shape, x.dtype)


@lowers("Tan")
def tan(b: Builder, node: ir.Node) -> Tensor:
    """sin / cos."""
    x = b.input(node)
    return b.binary("DIV", b.unary("SIN", x), b.unary("COS", x))


@lowers("Atan")
def atan(b: Builder, node: ir.Node) -> Tensor:
    """atan2(x, 1)."""
    x = b.input(node)
    return b.binary("ATAN2", x, _one_like(b, x))


@lowers("Asin")
def asin(b: Builder, node: ir.Node) -> Tensor:
    """atan2(x, sqrt(1 - x^2))."""
    x = b.input(node)
    return b.binary("ATAN2", x, _cosine_of(b, x))


@lowers("Acos")
def acos(b: Builder, node: ir.Node) -> Tensor:
    """atan2(sqrt(1 - x^2), x)."""
    x = b.input(node)
    return b.binary("ATAN2", _cosine_of(b, x), x)


@lowers("Cosh")
def cosh(b: Builder, node: ir.Node) -> Tensor:
    """(exp(x) + exp(-x)) / 2."""
    x = b.input(node)
    return scaled(b, b.binary("ADD", b.unary("EXP", x), b.unary("EXP", b.unary("NEG", x))), 0.5)


@lowers("Sinh")
def sinh(b: Builder, node: ir.Node) -> Tensor:
    """sign(x) (exp|x| + 1) (1 - exp(-|x|)) / 2; TFLite's ELU is exp - 1 below zero, without cancellation."""
    x = b.input(node)
    size = b.unary("ABS", x)
    falling = b.unary("ELU", b.unary("NEG", size))
    product = b.binary("MUL", shifted(b, b.unary("EXP", size), 1), falling)
    return b.binary("MUL", b.unary("SIGN", x), scaled(b, product, -0.5))


@lowers("Asinh")
def asinh(b: Builder, node: ir.Node) -> Tensor:
    """sign(x) log1p(|x| + x^2 / (1 + sqrt(1 + x^2)))."""
    x = b.input(node)
    square = b.square(x)
    root = b.unary("SQRT", shifted(b, square, 1))
    beyond = b.binary("ADD", b.unary("ABS", x), b.binary("DIV", square, shifted(b, root, 1)))
    return b.binary("MUL", b.unary("SIGN", x), _log1p(b, beyond))


@lowers("Acosh")
def acosh(b: Builder, node: ir.Node) -> Tensor:
    """log1p(t + sqrt(t (t + 2))) with t = x - 1."""
    t = shifted(b, b.input(node), -1)
    return _log1p(b, b.binary("ADD", t, b.unary("SQRT", b.binary("MUL", t, shifted(b, t, 2)))))


@lowers("Atanh")
def atanh(b: Builder, node: ir.Node) -> Tensor:
    """sign(x) log1p(2 |x| / (1 - |x|)) / 2."""
    x = b.input(node)
    size = b.unary("ABS", x)
    ratio = b.binary("DIV", scaled(b, size, 2), b.binary("SUB", b.scalar_like(x, 1), size))
    return b.binary("MUL", b.unary("SIGN", x), scaled(b, _log1p(b, ratio), 0.5))
