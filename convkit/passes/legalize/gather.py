"""Gather in the forms that mobile GPU delegates take."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from convkit.ir.facts import attr, rank_of, shape_of
from convkit.passes.views.chain import taken_ranges
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewrite, Rewriter, register


@register
class GatherToSlice(Rewrite):
    """A Gather whose constant indices count up evenly is a Slice; any other takes flat indices.

    The LiteRT GPU delegate refuses the rest: "GATHER: Only support 1D indices".
    """

    id = "CK-LEGAL-010"
    name = "gather-to-slice"
    law = "Gather(x, [a, a+s, ...]) = Slice(x, a, step=s); Gather(x, i) = Reshape(Gather(x, flat i))"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, indices: Any) -> Pattern:
        return op.Gather(x, indices)

    def check(self, match: Match) -> Facts | NoMatch:
        ranges = taken_ranges(match.root, match.root.outputs[0])
        if ranges is None and rank_of(match["indices"]) == 1:
            return NoMatch("the indices are flat, and do not count up evenly", match["indices"])
        return {"place": ranges[0] if ranges else None}

    def rewrite(self, rw: Rewriter, match: Match, *, place: tuple[int, int, int, int] | None) -> ir.Value:
        if place is None:
            flat = rw.op("Reshape", match["indices"], rw.ints([-1]))
            taken = rw.op("Gather", match["x"], flat, axis=attr(match.root, "axis"))
        else:
            axis, start, count, step = place
            bounds = ([start], [start + (count - 1) * step + 1], [axis], [step])
            taken = rw.op("Slice", match["x"], *map(rw.ints, bounds))
        return rw.op("Reshape", taken, rw.ints(shape_of(match.root.outputs[0])))
