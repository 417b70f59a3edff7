"""Arithmetic per channel goes into the weights of the linear operator beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, constant, dtype_of, is_op, rank_of, shape_of
from convkit.passes.linear import Linear, affine, channel_shape, linear, linear_pattern
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match


class _AfterLinear(Rewrite):
    """The root is affine per channel and reads the linear operator."""

    exactness = Exactness.REASSOCIATED

    def check(self, match: Match) -> Facts | NoMatch:
        before = linear(match.node("linear"))
        if isinstance(before, NoMatch):
            return before
        after = affine(match.root, before.axis)
        if isinstance(after, NoMatch):
            return after
        if after.shift is not None and not before.has_bias_input:
            return NoMatch("a MatMul of more than two dimensions has no bias input", match.root)
        fused = before.then(after.scale, after.shift)
        return {"fused": fused} if fused.fits() else NoMatch("the weights would not be finite", match.root)

    def rewrite(self, rw: Rewriter, match: Match, *, fused: Linear) -> ir.Value:
        return fused.build(rw)


@register
class FuseBatchNorm(_AfterLinear):
    """BatchNormalization into the weights and bias of what it normalizes.

    At inference it is an affine map per channel with known numbers.
    Source: Jacob et al., Quantization and Training of Neural Networks, arXiv:1712.05877, section 3.2.
    """

    id = "CK-FUSE-001"
    name = "fuse-batchnorm"
    law = "BatchNormalization(Conv(x, w, b)) = Conv(x, w', b')"

    def pattern(
        self, op: Any, x: Any, w: Any, scale: Any, bias: Any, mean: Any, var: Any, b: Any = None
    ) -> Any:
        return op.BatchNormalization(linear_pattern(op, x, w, b), scale, bias, mean, var)


@register
class FuseBias(_AfterLinear):
    """Adding a constant per channel is the bias input of the linear operator."""

    id = "CK-FUSE-002"
    name = "fuse-bias"
    law = "Conv(x, w, b) + c = Conv(x, w, b + c)"

    def pattern(self, op: Any, x: Any, w: Any, c: Any, b: Any = None) -> Any:
        y = linear_pattern(op, x, w, b)
        return op.any_of(op.Add(y, op.const(c)), op.Sub(y, op.const(c)), op.Sub(op.const(c), y))


@register
class FuseScale(_AfterLinear):
    """Scaling by a constant per channel scales the weights."""

    id = "CK-FUSE-003"
    name = "fuse-scale"
    law = "Conv(x, w, b) * c = Conv(x, w * c, b * c)"

    def pattern(self, op: Any, x: Any, w: Any, c: Any, b: Any = None) -> Any:
        y = linear_pattern(op, x, w, b)
        return op.any_of(op.Mul(y, op.const(c)), op.Div(y, op.const(c)), op.Neg(y))


@register
class FuseAffineBefore(Rewrite):
    """Arithmetic per channel on the input of a linear operator.

    A scale always goes into the weights. A shift becomes part of the bias only where no window reads padding:
    padding is zero after the shift, not before it.
    """

    id = "CK-FUSE-004"
    name = "fuse-affine-before"
    law = "Conv(x * c, w, b) = Conv(x, w * c, b)"
    exactness = Exactness.REASSOCIATED

    def pattern(
        self, op: Any, x: Any, w: Any, c: Any, scale: Any, bias: Any, mean: Any, var: Any, b: Any = None
    ) -> Any:
        mapped = op.any_of(
            op.Mul(x, op.const(c), name="affine"),
            op.Add(x, op.const(c), name="affine"),
            op.BatchNormalization(x, scale, bias, mean, var, name="affine"),
            op.Sub(x, op.const(c), name="affine"),
            op.Sub(op.const(c), x, name="affine"),
            op.Div(x, op.const(c), name="affine"),
            op.Neg(x, name="affine"),
        )
        return linear_pattern(op, mapped, w, b)

    def check(self, match: Match) -> Facts | NoMatch:
        after = linear(match.root)
        if isinstance(after, NoMatch):
            return after
        windowed = match.root.op_type in ("Conv", "ConvTranspose")
        before = affine(match.node("affine"), 1 if windowed else rank_of(after.x) - 1)
        if isinstance(before, NoMatch):
            return before
        if before.shift is not None and np.any(before.shift):
            if match.root.op_type == "ConvTranspose":
                return NoMatch("windows of a transposed convolution overlap unevenly", match.root)
            if windowed and any(attr(match.root, "pads", ())):
                return NoMatch("padding is zero after the shift, not before it", match.root)
            if not after.has_bias_input:
                return NoMatch("a MatMul of more than two dimensions has no bias input", match.root)
            shift = before.shift
        else:
            shift = None
        fused = after.after(before.x, before.scale, shift)
        return {"fused": fused} if fused.fits() else NoMatch("the weights would not be finite", match.root)

    def rewrite(self, rw: Rewriter, match: Match, *, fused: Linear) -> ir.Value:
        return fused.build(rw)


@register
class BatchNormToMulAdd(Rewrite):
    """A BatchNormalization that no linear operator absorbs is a multiplication and an addition."""

    id = "CK-FUSE-005"
    name = "batchnorm-to-mul-add"
    law = "BatchNormalization(x) = x * s + t"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
        return op.BatchNormalization(x, scale, bias, mean, var)

    def check(self, match: Match) -> Facts | NoMatch:
        view = affine(match.root, 1)
        if isinstance(view, NoMatch):
            return view
        limit = np.finfo(dtype_of(match["x"]).numpy()).max
        if not all(c is not None and np.all(np.abs(c) <= limit) for c in (view.scale, view.shift)):
            return NoMatch("the factors would not be finite", match.root)
        return {"scale": view.scale, "shift": view.shift}

    def rewrite(self, rw: Rewriter, match: Match, *, scale: np.ndarray, shift: np.ndarray) -> ir.Value:
        x = match["x"]
        dtype, rank = dtype_of(x).numpy(), rank_of(x)
        result = x
        if np.any(scale != 1):
            result = rw.Mul(x, rw.const(channel_shape(scale, rank, 1).astype(dtype), "scale"))
        if np.any(shift):
            result = rw.Add(result, rw.const(channel_shape(shift, rank, 1).astype(dtype), "shift"))
        return result


class _Chain(Rewrite):
    """Two constants meet; the result may not be larger than the larger of the two."""

    exactness = Exactness.REASSOCIATED

    def check(self, match: Match) -> Facts | NoMatch:
        a, b = shape_of(match["a"]), shape_of(match["b"])
        joint = np.broadcast_shapes(a, b)
        if np.prod(joint) > max(np.prod(a), np.prod(b)):
            return NoMatch("the merged constant would be larger", match.root)
        return {}


def _product_in_range(first: ir.Value, second: ir.Value) -> bool:
    """Whether the product of two constants neither overflows nor vanishes."""
    a, b = constant(first), constant(second)
    assert a is not None
    assert b is not None
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = a * b
    return bool(np.all(np.isfinite(product)) and not np.any((product == 0) & (a != 0) & (b != 0)))


@register
class MergeAdds(_Chain):
    """Two constants added one after the other are one."""

    id = "CK-FUSE-006"
    name = "merge-adds"
    law = "(x + a) + b = x + (a + b)"

    def pattern(self, op: Any, x: Any, a: Any, b: Any) -> Any:
        return op.Add(op.Add(x, op.const(a)), op.const(b))

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return rw.op("Add", match["x"], rw.Add(match["a"], match["b"]))


@register
class MergeMuls(_Chain):
    """Two constants multiplied one after the other are one."""

    id = "CK-FUSE-007"
    name = "merge-muls"
    law = "(x * a) * b = x * (a * b)"

    def pattern(self, op: Any, x: Any, a: Any, b: Any) -> Any:
        return op.Mul(op.Mul(x, op.const(a)), op.const(b))

    def check(self, match: Match) -> Facts | NoMatch:
        if not _product_in_range(match["a"], match["b"]):
            return NoMatch("the product of the constants leaves the float range", match.root)
        return super().check(match)

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return rw.op("Mul", match["x"], rw.Mul(match["a"], match["b"]))


@register
class ScaleBeforeBias(Rewrite):
    """A scale moves in front of a shift, to the product or the scale that absorbs it."""

    id = "CK-FUSE-008"
    name = "scale-before-bias"
    law = "(x @ w + a) * b = (x @ w) * b + a * b"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, w: Any, a: Any, b: Any) -> Any:
        before = op.any_of(op.MatMul(x, op.const(w), name="before"), op.Mul(x, op.const(w), name="before"))
        return op.Mul(op.Add(before, op.const(a)), op.const(b))

    def check(self, match: Match) -> Facts | NoMatch:
        before = match.node("before")
        if before.op_type == "MatMul":
            view = linear(before)
            if isinstance(view, NoMatch):
                return view
            scale = affine(match.root, view.axis)
            return scale if isinstance(scale, NoMatch) else {}
        w, a, b = (shape_of(match[name]) for name in "wab")
        if any(np.prod(np.broadcast_shapes(c, b)) > np.prod(c) for c in (w, a)):
            return NoMatch("the constants would grow", match.root)
        if not all(_product_in_range(match[name], match["b"]) for name in "wa"):
            return NoMatch("the product of the constants leaves the float range", match.root)
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        if match.node("before").op_type == "MatMul":
            scaled = rw.Mul(rw.MatMul(match["x"], match["w"]), match["b"])
        else:
            scaled = rw.Mul(match["x"], rw.Mul(match["w"], match["b"]))
        return rw.op("Add", scaled, rw.Mul(match["a"], match["b"]))


@register
class BiasAfterSum(Rewrite):
    """A constant moves outward through a sum, towards the operator that can take it as its bias."""

    id = "CK-FUSE-009"
    name = "bias-after-sum"
    law = "(x + c) + y = (x + y) + c"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, y: Any, c: Any) -> Any:
        return op.Add(op.Add(x, op.const(c)), y)

    def check(self, match: Match) -> Facts | NoMatch:
        x, y = match["x"], match["y"]
        if y.const_value is not None:
            return NoMatch("both are constants", match.root)
        if is_op(x.producer(), "MatMul"):
            return NoMatch("the product takes it as its bias", match.root)
        if shape_of(x) != shape_of(y):
            return NoMatch("the sum would be of another shape", match.root)
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return rw.op("Add", rw.Add(match["x"], match["y"]), match["c"])
