"""Scales around the product of queries and keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import constant, is_constant, scalar, shape_of
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewrite, Rewriter, register


@register
class OneScalePerProduct(Rewrite):
    """Both factors of a MatMul scaled by a number: one of them scaled by the product, the smaller one."""

    id = "CK-FUSE-030"
    name = "one-scale-per-product"
    law = "(a * s) @ (b * t) = (a * st) @ b"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, a: Any, s: Any, b: Any, t: Any) -> Pattern:
        return op.MatMul(op.Mul(a, op.const(s)), op.Mul(b, op.const(t)))

    def check(self, match: Match) -> Facts | NoMatch:
        s, t = scalar(match["s"]), scalar(match["t"])
        if s is None or t is None:
            return NoMatch("a scale is not one number", match["t"] if t is None else match["s"])
        if any(match[v].shape != match.root.inputs[i].shape for i, v in enumerate("ab")):  # type: ignore[union-attr]
            return NoMatch("a scale broadcasts its factor", match.root)
        return {"scale": np.asarray(s * t, constant(match["s"]).dtype)}  # type: ignore[union-attr]

    def rewrite(self, rw: Rewriter, match: Match, *, scale: np.ndarray) -> ir.Value:
        a, b = match["a"], match["b"]
        if np.prod(shape_of(b)) < np.prod(shape_of(a)):
            return rw.op("MatMul", a, rw.op("Mul", b, rw.const(scale)))
        return rw.op("MatMul", rw.op("Mul", a, rw.const(scale)), b)


@register
class ScaleBeforeTranspose(Rewrite):
    """A number multiplies before a Transpose as well as after it: the Transpose then feeds the MatMul."""

    id = "CK-FUSE-031"
    name = "scale-before-transpose"
    law = "(Transpose(x) * s) @ b = Transpose(x * s) @ b"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, s: Any, y: Any) -> Pattern:
        scaled = op.Mul(op.Transpose(x, name="move"), op.const(s))
        return op.any_of(op.MatMul(scaled, y), op.MatMul(y, scaled))

    def check(self, match: Match) -> Facts | NoMatch:
        if scalar(match["s"]) is None or len(shape_of(match["s"])) > len(shape_of(match["x"])):
            return NoMatch("the scale is not one number", match["s"])
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        perm = match.node("move").attributes["perm"].value
        moved = rw.op("Transpose", rw.op("Mul", match["x"], match["s"]), perm=perm)
        operands = [match["y"], moved] if match.root.inputs[0] is match["y"] else [moved, match["y"]]
        return rw.op("MatMul", *operands)


@register
class NormScaleIntoProduct(Rewrite):
    """The scale and bias of a normalization go into the weights of the products that read it.

    Only where every reader is a MatMul with constant weights, so that nothing is computed twice.
    """

    id = "CK-FUSE-032"
    name = "norm-scale-into-product"
    law = "LayerNormalization(x, g, c) @ w = LayerNormalization(x, 1, 0) @ (g w) + c w"
    exactness = Exactness.REASSOCIATED
    shares_interior = True

    def pattern(self, op: Any, x: Any, g: Any, w: Any, c: Any = None) -> Pattern:
        norm = op.any_of(
            op.LayerNormalization(x, op.const(g), c, name="norm"),
            op.RMSNormalization(x, op.const(g), name="norm"),
        )
        return op.MatMul(norm, op.const(w))

    def check(self, match: Match) -> Facts | NoMatch:
        norm, gain, shift = match.node("norm"), constant(match["g"]), constant(match.get("c"))
        weights = constant(match["w"])
        assert gain is not None
        assert weights is not None
        if np.all(gain == 1) and (shift is None or not np.any(shift)):
            return NoMatch("it has no scale or bias", norm)
        if len(norm.outputs) > 1 or gain.size != shape_of(match["x"])[-1] or weights.ndim != 2:
            return NoMatch("the scale is not along the axis of the product", norm)
        if match.get("c") is not None and shift is None:
            return NoMatch("the bias is not constant", norm)
        readers = [use.node for use in norm.outputs[0].uses()]
        if norm.outputs[0].is_graph_output() or any(
            n.op_type != "MatMul" or n.inputs[0] is not norm.outputs[0] or not is_constant(n.inputs[1])
            for n in readers
        ):
            return NoMatch("the normalized value has other readers", norm)
        wide = weights.astype(np.float64)
        offset = None if shift is None or not np.any(shift) else shift.reshape(-1).astype(np.float64) @ wide
        return {"weights": gain.reshape(-1, 1).astype(np.float64) * wide, "offset": offset}

    def rewrite(
        self, rw: Rewriter, match: Match, *, weights: np.ndarray, offset: np.ndarray | None
    ) -> ir.Value:
        norm, dtype = match.node("norm"), constant(match["w"]).dtype  # type: ignore[union-attr]
        gain = constant(match["g"])
        assert gain is not None
        attributes = {a.name: a.value for a in norm.attributes.values() if isinstance(a, ir.Attr)}
        plain = rw.op(norm.op_type, match["x"], rw.const(np.ones_like(gain)), **attributes)
        y = rw.op("MatMul", plain, rw.const(weights.astype(dtype)))
        return y if offset is None else rw.op("Add", y, rw.const(offset.astype(dtype)))
