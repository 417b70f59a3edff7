"""Relu, Clip, and Max and Min with a number are one thing, an interval; intervals in a row are one."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import dtype_of, input_at, scalar, shape_of
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match

Interval = tuple[float, float]

KINDS = ("Relu", "Clip", "Max", "Min")


def interval(node: ir.Node) -> tuple[ir.Value, Interval] | NoMatch:
    """The operand and the bounds of a node that only limits its values."""
    x = node.inputs[0]
    assert x is not None
    if node.op_type == "Relu":
        return x, (0.0, inf)
    if node.op_type == "Clip":
        low, high = (_bound(input_at(node, i), default) for i, default in ((1, -inf), (2, inf)))
        if low is None or high is None:
            return NoMatch("a bound is not constant", node)
        # ONNX: where the bounds cross, the upper one wins.
        return x, (min(low, high), high)
    if len(node.inputs) != 2:
        return NoMatch("the operands are not two", node)
    y = node.inputs[1]
    assert y is not None
    number, x = (scalar(x), y) if scalar(x) is not None else (scalar(y), x)
    if number is None or number != number:
        return NoMatch("no operand is a number", node)
    if shape_of(x) != shape_of(node.outputs[0]):
        return NoMatch("the number adds a dimension", node)
    return x, ((number, inf) if node.op_type == "Max" else (-inf, number))


def _bound(value: ir.Value | None, default: float) -> float | None:
    return default if value is None else scalar(value)


def build_interval(rw: Rewriter, x: ir.Value, bounds: Interval) -> ir.Value:
    """The cheapest node that limits `x` to `bounds`."""
    low, high = bounds
    if bounds == (0.0, inf):
        return rw.op("Relu", x)
    dtype = dtype_of(x).numpy()
    limits = [None if abs(b) == inf else rw.const(np.array(b, dtype)) for b in (low, high)]
    return rw.op("Clip", x, *limits)


@register
class MergeClips(Rewrite):
    """Limiting limited values: the outer interval limits the bounds of the inner one."""

    id = "CK-FOLD-020"
    name = "merge-clips"
    law = "Clip(Clip(x, a, b), c, d) = Clip(x, Clip(a, c, d), Clip(b, c, d))"
    exactness = Exactness.BITEXACT
    shares_interior = True

    def pattern(self, op: Any, x: Any, p: Any = None, q: Any = None, a: Any = None, b: Any = None) -> Any:
        inner = op.any_of(
            op.Relu(x, name="inner"),
            op.Clip(x, p, q, name="inner"),
            op.Max(x, op.const(p), name="inner"),
            op.Min(x, op.const(p), name="inner"),
        )
        return op.any_of(
            op.Relu(inner), op.Clip(inner, a, b), op.Max(inner, op.const(a)), op.Min(inner, op.const(a))
        )

    def check(self, match: Match) -> Facts | NoMatch:
        if dtype_of(match["x"]).numpy().kind not in "f":
            return NoMatch("integer bounds are not handled", match.root)
        inside, outside = interval(match.node("inner")), interval(match.root)
        if isinstance(inside, NoMatch):
            return inside
        if isinstance(outside, NoMatch):
            return outside
        x, (a, b) = inside
        (c, d) = outside[1]
        merged = (min(max(a, c), d), min(max(b, c), d))
        if merged == (a, b):
            return {"x": match.node("inner").outputs[0], "bounds": None}
        return {"x": x, "bounds": merged}

    def rewrite(self, rw: Rewriter, match: Match, *, x: ir.Value, bounds: Interval | None) -> ir.Value:
        return x if bounds is None else build_interval(rw, x, bounds)


@register
class ReluOfMax(Rewrite):
    """The maximum with zero is a Relu, and a Clip from zero up as well."""

    id = "CK-FOLD-021"
    name = "max-with-zero"
    law = "Max(x, 0) = Clip(x, 0) = Relu(x)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, p: Any, q: Any = None) -> Any:
        return op.any_of(op.Max(x, op.const(p)), op.Clip(x, op.const(p), q))

    def check(self, match: Match) -> Facts | NoMatch:
        found = interval(match.root)
        if isinstance(found, NoMatch):
            return found
        if found[1] != (0.0, inf) or dtype_of(found[0]).numpy().kind != "f":
            return NoMatch("the bounds are not zero and infinity", match.root)
        return {"x": found[0]}

    def rewrite(self, rw: Rewriter, match: Match, *, x: ir.Value) -> ir.Value:
        return rw.op("Relu", x)
