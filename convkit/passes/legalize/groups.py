"""Grouped convolutions for targets that have none."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from convkit.ir.facts import attr, constant, input_at, shape_of
from convkit.passes.fuse.branches import Branch
from convkit.passes.linear import linear
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match


class _Grouped(Rewrite):
    """A convolution of several groups that is not depthwise, with constant weights."""

    def pattern(self, op: Any, x: Any, w: Any, b: Any = None) -> Any:
        return op.Conv(x, op.const(w), b)

    def check(self, match: Match) -> Facts | NoMatch:
        group = attr(match.root, "group", 1)
        if group == 1:
            return NoMatch("there is one group", match.root)
        if shape_of(match["w"])[1] == 1:
            return NoMatch("the convolution is depthwise", match.root)
        if input_at(match.root, 2) is not None and constant(match["b"]) is None:
            return NoMatch("the bias is not constant", match.root)
        return {"group": group}


@register
class GroupConvToSplit(_Grouped):
    """One convolution a group; the multiplications stay the same."""

    id = "CK-LEGAL-060"
    name = "group-conv-to-split"
    law = "Conv(x, w, group g) = Concat(Conv(x_1, w_1), ..., Conv(x_g, w_g))"
    exactness = Exactness.REASSOCIATED

    def rewrite(self, rw: Rewriter, match: Match, *, group: int) -> ir.Value:
        x, w, b = match["x"], constant(match["w"]), constant(match.get("b"))
        assert w is not None
        each, out = shape_of(x)[1] // group, w.shape[0] // group
        kept = {name: attr(match.root, name) for name in match.root.attributes} | {"group": 1}
        parts = rw.ops("Split", x, rw.ints([each] * group), outputs=group, axis=1)
        results = [
            rw.op(
                "Conv",
                part,
                rw.const(w[i * out : (i + 1) * out], "weight"),
                None if b is None else rw.const(b[i * out : (i + 1) * out], "bias"),
                **kept,
            )
            for i, part in enumerate(parts)
        ]
        return rw.op("Concat", *results, axis=1)


@register
class GroupConvToDense(_Grouped):
    """One dense convolution, zero across the groups: one operator, but g times the multiplications."""

    id = "CK-LEGAL-061"
    name = "group-conv-to-dense"
    law = "Conv(x, w, group g) = Conv(x, blockdiagonal(w))"
    exactness = Exactness.REASSOCIATED

    def rewrite(self, rw: Rewriter, match: Match, *, group: int) -> ir.Value:
        view, w = linear(match.root), constant(match["w"])
        assert not isinstance(view, NoMatch)
        assert w is not None
        ones = (1,) * (w.ndim - 2)
        dense = Branch(view.weights, None, ones, ones, ones, 0).regrouped(1)[0].astype(w.dtype)
        kept = {name: attr(match.root, name) for name in match.root.attributes} | {"group": 1}
        return rw.op("Conv", match["x"], rw.const(dense, "weight"), match.get("b"), **kept)
