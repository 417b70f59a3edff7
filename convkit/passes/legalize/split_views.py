"""Splits before views: readers without a batch dimension split no leading axis.

A target's rule file names in its `pipeline` the spelling that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from operator import mul
from typing import Any

import onnx_ir as ir

from convkit.ir.facts import attr, ints, shape_of
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match


@register
class SplitBeforeViews(Rewrite):
    """Projections of attention side by side, told apart before they are reshaped and not after.

    The axis that is split is the leading factor of an axis before the Reshape, which can be split there.
    Each part keeps a leading axis of one in its place.
    """

    id = "CK-LEGAL-087"
    name = "split-before-views"
    law = "Split(Transpose(Reshape(x))) = {Transpose(Reshape(part)) for each part of Split(x)}"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, shape: Any, sizes: Any) -> Any:
        return op.Split(op.Transpose(op.Reshape(x, shape)), op.const(sizes))

    def check(self, match: Match) -> Facts | NoMatch:
        split, perm = match.root, _perm(match)
        axis = attr(split, "axis", 0)
        viewed = _viewed(match)
        lead = perm[axis]
        if set(ints(match["sizes"]) or ()) != {1}:
            return NoMatch("the parts are longer than one", split)
        before = shape_of(match["x"])
        starts = dict(zip(accumulate((1, *before), mul), range(len(before)), strict=False))
        home = starts.get(prod(viewed[:lead]))
        if home is None or before[home] % viewed[lead]:
            return NoMatch("what is split is no leading factor of an axis before", split)
        return {"home": home, "lead": lead}

    def rewrite(self, rw: Rewriter, match: Match, *, home: int, lead: int) -> Sequence[ir.Value]:
        viewed, perm = _viewed(match), _perm(match)
        count, whole = viewed[lead], shape_of(match["x"])[home]
        parts = rw.ops("Split", match["x"], rw.ints([whole // count] * count), outputs=count, axis=home)
        rest = [i for i in range(len(viewed)) if i != lead]
        shape = rw.ints([1, *(viewed[i] for i in rest)])
        moved = [0 if i == lead else 1 + rest.index(i) for i in perm]
        return [rw.op("Transpose", rw.op("Reshape", part, shape), perm=moved) for part in parts]


def _perm(match: Match) -> tuple[int, ...]:
    perm: tuple[int, ...] = attr(_transpose(match), "perm")
    return perm


def _viewed(match: Match) -> tuple[int, ...]:
    value = _transpose(match).inputs[0]
    assert value is not None
    return shape_of(value)


def _transpose(match: Match) -> ir.Node:
    value = match.root.inputs[0]
    assert value is not None
    node = value.producer()
    assert node is not None
    return node
