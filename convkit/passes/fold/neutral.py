"""Arithmetic with a constant that does nothing, or that a cheaper spelling does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import constant, dtype_of, is_op, rank_of, scalar, shape_of
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match


class _Neutral(Rewrite):
    """The operand `c` is `neutral` throughout and does not widen `x`."""

    neutral: float

    def check(self, match: Match) -> Facts | NoMatch:
        array = constant(match["c"])
        assert array is not None
        if not np.all(array == self.neutral):
            return NoMatch(f"the constant is not {self.neutral:g} throughout", match.root)
        if shape_of(match["x"]) != shape_of(match.root.outputs[0]):
            return NoMatch("the constant widens the other operand", match.root)
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return match["x"]


@register
class DropUnitFactor(_Neutral):
    """Multiplying and dividing by one, and raising to the first power, do nothing."""

    id = "CK-FOLD-001"
    name = "drop-unit-factor"
    law = "x * 1 = x / 1 = x ** 1 = x"
    exactness = Exactness.BITEXACT
    neutral = 1.0

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.any_of(op.Mul(x, op.const(c)), op.Div(x, op.const(c)), op.Pow(x, op.const(c)))


@register
class DropZeroTerm(_Neutral):
    """Adding and subtracting zero do nothing (but turn -0 into 0)."""

    id = "CK-FOLD-002"
    name = "drop-zero-term"
    law = "x + 0 = x - 0 = x"
    exactness = Exactness.REASSOCIATED
    neutral = 0.0

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.any_of(op.Add(x, op.const(c)), op.Sub(x, op.const(c)))


@register
class SubConstant(Rewrite):
    """Subtracting a constant is adding its negative, so that one spelling is left."""

    id = "CK-FOLD-003"
    name = "subtract-constant"
    law = "x - c = x + (-c)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Sub(x, op.const(c))

    def check(self, match: Match) -> Facts | NoMatch:
        unsigned = dtype_of(match["x"]).numpy().kind not in "fi"
        return NoMatch("an unsigned number has no negative", match.root) if unsigned else {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        c = constant(match["c"])
        assert c is not None
        return rw.op("Add", match["x"], rw.const(-c))


@register
class DivConstant(Rewrite):
    """Dividing by a constant is multiplying by its reciprocal, so that one spelling is left."""

    id = "CK-FOLD-004"
    name = "divide-by-constant"
    law = "x / c = x * (1 / c)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Div(x, op.const(c))

    def check(self, match: Match) -> Facts | NoMatch:
        c = constant(match["c"])
        assert c is not None
        if c.dtype.kind != "f":
            return NoMatch("integer division rounds", match.root)
        if any(_rounds(user) for user, _ in match.root.outputs[0].uses()):
            return NoMatch("the quotient is rounded, which makes a step of the last bit", match.root)
        limits = np.finfo(c.dtype)
        with np.errstate(divide="ignore"):
            size = np.abs(1.0 / c.astype(np.float64))
        if not np.all((size >= limits.tiny) & (size <= limits.max)):
            return NoMatch("the reciprocal leaves the float range", match.root)
        return {"factor": (1.0 / c.astype(np.float64)).astype(c.dtype)}

    def rewrite(self, rw: Rewriter, match: Match, *, factor: np.ndarray) -> ir.Value:
        return rw.op("Mul", match["x"], rw.const(factor))


def _rounds(node: ir.Node) -> bool:
    """Whether the smallest difference in what `node` reads may be a whole step in what it gives."""
    if is_op(node, "Cast"):
        return dtype_of(node.outputs[0]).numpy().kind in "iu"
    return is_op(node, "Round", "Floor", "Ceil")


@register
class NegOfNeg(Rewrite):
    """Two signs cancel."""

    id = "CK-FOLD-005"
    name = "double-negation"
    law = "-(-x) = x"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Neg(op.Neg(x))

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return match["x"]


@register
class AddOfNeg(Rewrite):
    """A sign goes into the sum beside it."""

    id = "CK-FOLD-006"
    name = "negation-into-sum"
    law = "x + (-y) = x - y, x - (-y) = x + y"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, y: Any) -> Any:
        return op.any_of(op.Add(x, op.Neg(y)), op.Sub(x, op.Neg(y)))

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        inverse = {"Add": "Sub", "Sub": "Add"}[match.root.op_type]
        return rw.op(inverse, match["x"], match["y"])


@register
class MulOfNeg(Rewrite):
    """A sign goes into the constant factor beside it."""

    id = "CK-FOLD-007"
    name = "negation-into-factor"
    law = "(-x) * c = -(x * c) = x * (-c)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.any_of(op.Mul(op.Neg(x), op.const(c)), op.Neg(op.Mul(x, op.const(c))))

    def check(self, match: Match) -> Facts | NoMatch:
        unsigned = dtype_of(match["x"]).numpy().kind not in "fi"
        return NoMatch("an unsigned number has no negative", match.root) if unsigned else {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        c = constant(match["c"])
        assert c is not None
        return rw.op("Mul", match["x"], rw.const(-c))


@register
class PowerOfConstant(Rewrite):
    """Powers 2, 1/2, -1 and -1/2 have operators that are cheaper and that more targets have."""

    id = "CK-FOLD-008"
    name = "power-of-constant"
    law = "x ** 2 = x * x, x ** 0.5 = Sqrt(x), x ** -1 = Reciprocal(x)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Pow(x, op.const(c))

    def check(self, match: Match) -> Facts | NoMatch:
        power = scalar(match["c"])
        if power not in (2.0, 0.5, -1.0, -0.5):
            return NoMatch("no operator computes this power", match.root)
        if rank_of(match["c"]) > rank_of(match["x"]):
            return NoMatch("the exponent adds a dimension", match.root)
        if dtype_of(match["x"]).numpy().kind != "f" and power != 2.0:
            return NoMatch("integers have no roots", match.root)
        return {"power": power}

    def rewrite(self, rw: Rewriter, match: Match, *, power: float) -> ir.Value:
        x = match["x"]
        if power == 2.0:
            return rw.op("Mul", x, x)
        root = rw.op("Sqrt", x) if abs(power) == 0.5 else x
        return root if power > 0 else rw.op("Reciprocal", root)


@register
class ReciprocalOfDivision(Rewrite):
    """One divided by something is a reciprocal; of a square root, one operator on most targets."""

    id = "CK-FOLD-009"
    name = "one-over"
    law = "1 / x = Reciprocal(x)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Div(op.const(c), x)

    def check(self, match: Match) -> Facts | NoMatch:
        if dtype_of(match["x"]).numpy().kind != "f" or scalar(match["c"]) != 1.0:
            return NoMatch("the dividend is not one", match.root)
        if rank_of(match["c"]) > rank_of(match["x"]):
            return NoMatch("the dividend adds a dimension", match.root)
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return rw.op("Reciprocal", match["x"])
