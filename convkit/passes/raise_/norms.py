"""Normalizations that were spelled out, as the one operator they are.

A norm over the channels of NCHW has no ONNX operator of its own. Spelled with ReduceMean over axis 1 it is
as short as it gets and keeps any layout, so it stays; between permutes it is a LayerNormalization already.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, constant, dtype_of, ints, rank_of, scalar, shape_of
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewrite, Rewriter, register


def _over_deviation(op: Any, d: Any, square: Any, axes: Any, epsilon: Any) -> Pattern:
    """d / sqrt(mean(square) + epsilon) in every spelling."""
    variance = op.ReduceMean(square, axes, name="mean2")
    shifted = op.Add(variance, op.const(epsilon))
    deviation = op.any_of(op.Sqrt(shifted), op.Pow(shifted, 0.5))
    inverse = op.any_of(op.Reciprocal(deviation), op.Div(1.0, deviation), op.Pow(shifted, -0.5))
    return op.any_of(op.Div(d, deviation), op.Mul(d, inverse))


def _square(op: Any, d: Any) -> Pattern:
    return op.any_of(op.Mul(d, d), op.Pow(d, 2.0))


def _trailing(match: Match, *reductions: str) -> int | NoMatch:
    """The first of the reduced axes, which must be the last ones, kept as ones."""
    x, axes = match["x"], ints(match["axes"])
    rank = rank_of(x)
    if axes is None or axes != tuple(range(rank - len(axes), rank)):
        return NoMatch("it is not over the last axes", match["axes"])
    if any(not attr(match.node(name), "keepdims", 1) for name in reductions):
        return NoMatch("a mean drops its axes", match.root)
    epsilon = scalar(match["epsilon"])
    if epsilon is None or epsilon <= 0 or not dtype_of(x).is_floating_point():
        return NoMatch("the epsilon is not one positive number", match["epsilon"])
    return axes[0]


@register
class RaiseLayerNorm(Rewrite):
    """(x - mean) / sqrt(variance + epsilon) over the last axes (Ba et al. 2016)."""

    id = "CK-RAISE-020"
    name = "raise-layernorm"
    law = "(x - mean(x)) / Sqrt(mean((x - mean(x))^2) + e) = LayerNormalization(x, 1)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, same: Any, axes: Any, epsilon: Any) -> Pattern:
        d = op.Sub(x, op.ReduceMean(x, same, name="mean1"))
        return _over_deviation(op, d, _square(op, d), axes, epsilon)

    def check(self, match: Match) -> Facts | NoMatch:
        if ints(match["same"]) != ints(match["axes"]):
            return NoMatch("the two means are over other axes", match["same"])
        axis = _trailing(match, "mean1", "mean2")
        return axis if isinstance(axis, NoMatch) else {"axis": axis}

    def rewrite(self, rw: Rewriter, match: Match, *, axis: int) -> ir.Value:
        x, epsilon = match["x"], scalar(match["epsilon"])
        ones = np.ones(shape_of(x)[axis:], dtype_of(x).numpy())
        return rw.op("LayerNormalization", x, rw.const(ones), axis=axis, epsilon=epsilon)


@register
class RaiseRmsNorm(Rewrite):
    """x / sqrt(mean of squares + epsilon) over the last axes (Zhang and Sennrich 2019)."""

    id = "CK-RAISE-021"
    name = "raise-rmsnorm"
    law = "x / Sqrt(mean(x^2) + e) = RMSNormalization(x, 1)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, axes: Any, epsilon: Any) -> Pattern:
        return _over_deviation(op, x, _square(op, x), axes, epsilon)

    def check(self, match: Match) -> Facts | NoMatch:
        axis = _trailing(match, "mean2")
        return axis if isinstance(axis, NoMatch) else {"axis": axis}

    def rewrite(self, rw: Rewriter, match: Match, *, axis: int) -> ir.Value:
        x, epsilon = match["x"], scalar(match["epsilon"])
        ones = np.ones(shape_of(x)[axis:], dtype_of(x).numpy())
        return rw.op("RMSNormalization", x, rw.const(ones), axis=axis, epsilon=epsilon)


@register
class ScaleIntoNorm(Rewrite):
    """A constant that multiplies or adds along the normalized axes is the norm's scale or bias."""

    id = "CK-RAISE-022"
    name = "scale-into-norm"
    law = "LayerNormalization(x, g, c) * k + l = LayerNormalization(x, g * k, c * k + l)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, g: Any, k: Any, c: Any = None) -> Pattern:
        layer = op.LayerNormalization(x, op.const(g), c, name="norm")
        rms = op.RMSNormalization(x, op.const(g), name="norm")
        return op.any_of(op.Mul(op.any_of(layer, rms), op.const(k)), op.Add(layer, op.const(k)))

    def check(self, match: Match) -> Facts | NoMatch:
        norm, k = match.node("norm"), constant(match["k"])
        shape = shape_of(match["x"])[attr(norm, "axis") :]
        assert k is not None
        if match.get("c") is not None and constant(match.get("c")) is None:
            return NoMatch("the bias is not constant", norm)
        if shape_of(match["x"]) != shape_of(match.root.outputs[0]) or np.prod(k.shape[: -len(shape)]) != 1:
            return NoMatch("the constant is not along the normalized axes", match["k"])
        return {"factor": np.broadcast_to(k.reshape(k.shape[-len(shape) :]), shape)}

    def rewrite(self, rw: Rewriter, match: Match, *, factor: np.ndarray) -> ir.Value:
        norm, g, c = match.node("norm"), constant(match["g"]), constant(match.get("c"))
        assert g is not None
        if match.root.op_type == "Add":
            c = factor if c is None else c + factor
        else:
            g, c = g * factor, None if c is None else c * factor
        attributes = {a.name: a.value for a in norm.attributes.values() if isinstance(a, ir.Attr)}
        operands = [rw.const(np.ascontiguousarray(v)) for v in (g, c) if v is not None]
        return rw.op(norm.op_type, match["x"], *operands, **attributes)


@register
class RaiseGroupNorm(Rewrite):
    """Group norm as frameworks export it: an instance norm of rank 3 between Reshapes.

    The Reshapes mix channels with space and so would hold every layout. With one group it is a norm over
    all axes but the batch.
    """

    id = "CK-RAISE-023"
    name = "raise-groupnorm"
    law = "Reshape(InstanceNormalization(Reshape(x, [n, g, -1]))) = GroupNormalization(x, groups=g)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, a: Any, s: Any, b: Any, z: Any) -> Pattern:
        norm = op.InstanceNormalization(op.Reshape(x, a, name="in"), op.const(s), op.const(b), name="norm")
        return op.Reshape(norm, z)

    def check(self, match: Match) -> Facts | NoMatch:
        shape, grouped = shape_of(match["x"]), shape_of(match.node("in").outputs[0])
        if len(shape) < 3 or shape != shape_of(match.root.outputs[0]):
            return NoMatch("the shape is another one after it", match.root)
        if grouped[0] != shape[0] or len(grouped) < 3 or shape[1] % grouped[1]:
            return NoMatch("it does not group channels", match.node("in"))
        return {"groups": grouped[1]}

    def rewrite(self, rw: Rewriter, match: Match, *, groups: int) -> ir.Value:
        x, norm = match["x"], match.node("norm")
        scale, bias, epsilon = constant(match["s"]), constant(match["b"]), attr(norm, "epsilon", 1e-5)
        assert scale is not None
        assert bias is not None
        shape = shape_of(x)
        if groups == 1:
            ones = np.ones((1,) * (len(shape) - 1), scale.dtype)
            return rw.op(
                "LayerNormalization",
                x,
                rw.const(ones * scale),
                rw.const(ones * bias),
                axis=1,
                epsilon=epsilon,
            )
        each = shape[1] // groups
        channels = (rw.const(np.repeat(v, each)) for v in (scale, bias))
        return rw.op("GroupNormalization", x, *channels, num_groups=groups, epsilon=epsilon)


@register
class RaiseSoftmax(Rewrite):
    """exp(x - max) / sum; the maximum only guards against overflow."""

    id = "CK-RAISE-024"
    name = "raise-softmax"
    law = "Exp(x - max(x)) / sum(Exp(x - max(x))) = Softmax(x)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, same: Any, axes: Any) -> Pattern:
        power = op.Exp(op.Sub(x, op.ReduceMax(x, same, keepdims=1)))
        return op.Div(power, op.ReduceSum(power, axes, keepdims=1))

    def check(self, match: Match) -> Facts | NoMatch:
        axes = ints(match["axes"])
        if axes is None or len(axes) != 1 or ints(match["same"]) != axes:
            return NoMatch("it is not over one axis", match["axes"])
        return {"axis": axes[0]}

    def rewrite(self, rw: Rewriter, match: Match, *, axis: int) -> ir.Value:
        return rw.op("Softmax", match["x"], axis=axis)
