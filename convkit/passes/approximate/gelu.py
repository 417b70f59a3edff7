"""GELU by tanh, for targets that have no error function."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from convkit.ir.facts import attr
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match


@register
class GeluToTanh(Rewrite):
    """The form by tanh, which networks are trained with as often: off by less than 5e-4 everywhere."""

    id = "CK-APPROX-020"
    name = "gelu-to-tanh"
    law = "Gelu(x) ~ x / 2 * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))"
    exactness = Exactness.APPROXIMATE

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Gelu(x)

    def check(self, match: Match) -> Facts | NoMatch:
        if attr(match.root, "approximate", "none") == "tanh":
            return NoMatch("it is in the form by tanh", match.root)
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return rw.op("Gelu", match["x"], approximate="tanh")
