"""Data movement that is undone, or that picks what was just put together; conversions in a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, dtype_of, ints, rank_of, shape_of
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match


@register
class SliceOfConcat(Rewrite):
    """A slice along the axis of a concatenation reads only the operands it meets."""

    id = "CK-FOLD-030"
    name = "slice-of-concat"
    law = "Slice(Concat(x, y), inside x) = Slice(x)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, joined: Any, starts: Any, ends: Any, axes: Any, steps: Any) -> Any:
        return op.Slice(joined, op.const(starts), op.const(ends), op.const(axes), op.const(steps))

    def check(self, match: Match) -> Facts | NoMatch:
        concat = match["joined"].producer()
        if concat is None or concat.domain != "" or concat.op_type != "Concat":
            return NoMatch("a concatenation is not what is sliced", match.root)
        axis = attr(concat, "axis")
        starts, ends, axes, steps = (ints(match[n]) or () for n in ("starts", "ends", "axes", "steps"))
        if axes != (axis,) or steps != (1,):
            return NoMatch("the slice is not along the axis of the concatenation", match.root)
        begin = 0
        for value in concat.inputs:
            assert value is not None
            size = shape_of(value)[axis]
            if begin <= starts[0] and ends[0] <= begin + size:
                return {"x": value, "start": starts[0] - begin, "end": ends[0] - begin, "axis": axis}
            begin += size
        return NoMatch("the slice meets several operands", match.root)

    def rewrite(
        self, rw: Rewriter, match: Match, *, x: ir.Value, start: int, end: int, axis: int
    ) -> ir.Value:
        return rw.op("Slice", x, rw.ints([start]), rw.ints([end]), rw.ints([axis]), rw.ints([1]))


@register
class ConcatOfSplit(Rewrite):
    """All the parts of a split, put together again in order, are the value that was split."""

    id = "CK-FOLD-031"
    name = "concat-of-split"
    law = "Concat(Split(x)) = x"
    exactness = Exactness.BITEXACT
    shares_interior = True

    def pattern(self, op: Any, first: Any) -> Any:
        return op.Concat(first)

    def find(self, node: ir.Node) -> tuple[Match, Facts] | NoMatch:
        """A Concat has any number of operands, which no pattern can say."""
        split = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if split is None or split.domain != "" or split.op_type != "Split":
            return NoMatch("the first operand is no part of a split", node)
        if list(node.inputs) != list(split.outputs) or attr(node, "axis") != attr(split, "axis"):
            return NoMatch("the parts are not all there, in order, along the same axis", node)
        return Match(node, {"x": split.inputs[0]}, {}, (node,)), {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return match["x"]


@register
class CastOfCast(Rewrite):
    """A conversion through a type that holds every value of the first is one conversion."""

    id = "CK-FOLD-032"
    name = "cast-of-cast"
    law = "Cast(Cast(x, wider), t) = Cast(x, t)"
    exactness = Exactness.BITEXACT
    shares_interior = True

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Cast(op.Cast(x, name="inner"))

    def check(self, match: Match) -> Facts | NoMatch:
        source = dtype_of(match["x"]).numpy()
        through = dtype_of(match.node("inner").outputs[0]).numpy()
        if not np.can_cast(source, through, "safe"):
            return NoMatch("the type between loses values", match.node("inner"))
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return rw.op("Cast", match["x"], to=int(dtype_of(match.root.outputs[0])))


@register
class GlobalPoolToReduce(Rewrite):
    """A global maximum is a reduction over the spatial axes; one spelling is left. A global average stays: no
    target gains by a mean, and summing in another order can tell apart what was equal."""

    id = "CK-FOLD-033"
    name = "global-pool-to-reduce"
    law = "GlobalMaxPool(x) = ReduceMax(x, spatial axes)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any) -> Any:
        return op.GlobalMaxPool(x)

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return rw.op("ReduceMax", match["x"], rw.ints(range(2, rank_of(match["x"]))), keepdims=1)
