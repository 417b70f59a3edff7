"""Matrix products with constant weights as convolutions of one tap, and back."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, constant, dtype_of, rank_of, shape_of
from convkit.passes.linear import Linear, linear
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match


@register
class MatMulToConv(Rewrite):
    """For targets that run convolutions better than matrix products.

    The rows become positions: (batch, rows, k) is read as an image (batch, k, rows, 1).
    """

    id = "CK-LEGAL-040"
    name = "matmul-to-conv"
    law = "x @ w + b = Conv1x1(x, transpose(w), b)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, w: Any, b: Any = None) -> Any:
        return op.any_of(op.MatMul(x, op.const(w)), op.Gemm(x, op.const(w), b))

    def check(self, match: Match) -> Facts | NoMatch:
        view = linear(match.root)
        if isinstance(view, NoMatch):
            return view
        if rank_of(match["x"]) < 2:
            return NoMatch("the input is a vector", match.root)
        return {"view": view}

    def rewrite(self, rw: Rewriter, match: Match, *, view: Linear) -> ir.Value:
        x, dtype = match["x"], dtype_of(match["w"]).numpy()
        outer, k = shape_of(x)[:-1], shape_of(x)[-1]
        w = rw.const(view.weights[0][..., None, None].astype(dtype), "weight")
        b = None if view.bias is None else rw.const(view.bias.astype(dtype), "bias")
        if len(outer) == 1:
            image = rw.Reshape(x, rw.ints([outer[0], k, 1, 1]))
        else:
            rows = rw.Reshape(x, rw.ints([outer[0], 1, prod(outer[1:]), k]))
            image = rw.Transpose(rows, perm=[0, 3, 1, 2])
        y = rw.Conv(image, w, b)
        if len(outer) > 1:
            y = rw.Transpose(y, perm=[0, 2, 3, 1])
        return rw.op("Reshape", y, rw.ints([*outer, view.channels]))


@register
class ConvToMatMul(Rewrite):
    """For targets that run matrix products better than convolutions of one tap."""

    id = "CK-LEGAL-041"
    name = "conv-to-matmul"
    law = "Conv1x1(x, w, b) = x @ transpose(w) + b"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, w: Any, b: Any = None) -> Any:
        return op.Conv(x, op.const(w), b, group=1)

    def check(self, match: Match) -> Facts | NoMatch:
        root = match.root
        if any(k != 1 for k in shape_of(match["w"])[2:]):
            return NoMatch("the kernel has more than one tap", root)
        if any(s != 1 for s in attr(root, "strides", ())) or any(attr(root, "pads", ())):
            return NoMatch("positions are skipped or added", root)
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        x, w, b = match["x"], constant(match["w"]), match.get("b")
        assert w is not None
        rank = rank_of(x)
        matrix = rw.const(np.ascontiguousarray(w.reshape(w.shape[:2]).T), "weight")
        y = rw.MatMul(rw.Transpose(x, perm=[0, *range(2, rank), 1]), matrix)
        y = y if b is None else rw.Add(y, b)
        return rw.op("Transpose", y, perm=[0, rank - 1, *range(1, rank - 1)])
