"""Ranges of one value that together cover an axis, as one Split."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from convkit.ir.facts import attr, dtype_of, ints, is_op, rank_of, shape_of
from convkit.passes.views.block_steps import MAX_RANK
from convkit.passes.views.chain import taken_ranges
from convkit.passes.walking import WalkingRewrite
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewrite, Rewriter, register

_MOST_INDICES = 1 << 14
_MOST_PARTS = 32


@register
class TakersToSplit(Rewrite):
    """Slices and Gathers that together cover an axis in equal parts are one Split.

    Only for floating point, and for equal parts: what the GPU delegate's SPLIT takes. The Split stands
    right after what it splits, and later parts find it there.
    """

    id = "CK-VIEW-005"
    name = "takers-to-split"
    law = "{Slice(x, 0, n), Slice(x, n, 2n), ...} = Split(x)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, a: Any, b: Any = None, c: Any = None, d: Any = None) -> Pattern:
        return op.any_of(op.Slice(x, a, b, c, d), op.Gather(x, a))

    def check(self, match: Match) -> Facts | NoMatch:
        x, node = match["x"], match.root
        if not dtype_of(x).is_floating_point():
            return NoMatch("only floating point is split", x)
        place = _taken(node)
        if place is None:
            return NoMatch("it takes no range of one axis", node)
        axis, start, count = place
        size = shape_of(x)[axis]
        if len(x.uses()) > _MOST_PARTS:
            return NoMatch("there are too many parts", x)
        if not count or size % count or start % count or size == count:
            return NoMatch("it takes no equal part", node)
        known = [n for n in dict.fromkeys(use.node for use in x.uses()) if is_op(n, "Split")]
        splits = [
            n
            for n in known
            if attr(n, "axis") == axis
            and len(n.outputs) == size // count
            and len(set(ints(n.inputs[1]) or ())) == 1
        ]
        starts = {p[1] for use in x.uses() if (p := _taken(use.node)) and (p[0], p[2]) == (axis, count)}
        if not splits and starts != set(range(0, size, count)):
            return NoMatch("the parts do not cover the axis", x)
        return {
            "axis": axis,
            "part": start // count,
            "parts": size // count,
            "known": splits[0] if splits else None,
        }

    def rewrite(
        self, rw: Rewriter, match: Match, *, axis: int, part: int, parts: int, known: ir.Node | None
    ) -> ir.Value:
        x = match["x"]
        if known is None:
            sizes = rw.const([shape_of(x)[axis] // parts] * parts, "sizes")
            known = rw.ops("Split", x, sizes, outputs=parts, axis=axis)[0].producer()
            assert known is not None
            _place_after(x, known)
        return rw.op("Reshape", known.outputs[part], rw.ints(shape_of(match.root.outputs[0])))


def _taken(node: ir.Node) -> tuple[int, int, int] | None:
    """(axis, start, count) if `node` takes every element of a range of one axis."""
    if not is_op(node, "Slice", "Gather"):
        return None
    ranges = taken_ranges(node, node.outputs[0])
    if ranges is None or len(ranges) != 1 or (ranges[0][3] != 1 and ranges[0][2] > 1):
        return None
    return ranges[0][:3]


def _place_after(x: ir.Value, node: ir.Node) -> None:
    """Move `node` as early as it can stand: right after what makes `x`."""
    graph, producer = node.graph, x.producer()
    assert isinstance(graph, ir.Graph)
    graph.remove(node)
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)


@register
class RangesToGather(WalkingRewrite):
    """Ranges of one value put together again along their axis are one Gather: a roll, a reordering."""

    id = "CK-VIEW-021"
    name = "ranges-to-gather"
    law = "Concat(Slice(x, a), Slice(x, b)) = Gather(x, [a, b])"
    exactness = Exactness.BITEXACT
    any_operands = True

    def pattern(self, op: Any) -> Pattern:
        return op.Concat()

    def check(self, match: Match) -> Facts | NoMatch:
        node = match.root
        indices: list[int] = []
        slices: list[ir.Node] = []
        x: ir.Value | None = None
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if value is None or producer is None or not is_op(producer, "Slice", "Split"):
                return NoMatch("an operand is no range", node)
            ranges = taken_ranges(producer, value)
            if ranges is None or len(ranges) != 1 or ranges[0][0] != attr(node, "axis"):
                return NoMatch("an operand is no range of the axis", producer)
            if x is not None and producer.inputs[0] is not x:
                return NoMatch("the operands are ranges of several values", node)
            x = producer.inputs[0]
            _, start, count, step = ranges[0]
            indices += range(start, start + count * step, step)
            slices.append(producer)
        if x is None or len(indices) > _MOST_INDICES or rank_of(x) > MAX_RANK:
            return NoMatch("there are too many places", node)
        if any(use.node is not node for s in slices for v in s.outputs for use in v.uses()):
            return NoMatch("a range has other readers", node)
        return {"x": x, "indices": indices, "walked": slices}

    def rewrite(self, rw: Rewriter, match: Match, *, x: ir.Value, indices: list[int]) -> ir.Value:
        return rw.op("Gather", x, rw.ints(indices), axis=attr(match.root, "axis"))


@register
class FlattenGather(Rewrite):
    """A Gather whose indices make a rank above 4: flat indices, then a Reshape that joins the view below.

    An unfolding with overlap is two of them.
    """

    id = "CK-VIEW-045"
    name = "flatten-gather"
    law = "Gather(x, i) = Reshape(Gather(x, flat(i)))"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, i: Any) -> Pattern:
        return op.Gather(x, op.const(i))

    def check(self, match: Match) -> Facts | NoMatch:
        if rank_of(match["i"]) < 2 or rank_of(match.root.outputs[0]) <= MAX_RANK:
            return NoMatch("the rank is low enough", match.root)
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        flat = rw.op("Reshape", match["i"], rw.ints([-1]))
        taken = rw.op("Gather", match["x"], flat, axis=attr(match.root, "axis"))
        return rw.op("Reshape", taken, rw.ints(shape_of(match.root.outputs[0])))
