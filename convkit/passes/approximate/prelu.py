"""PReLU as ReLU, to be fine-tuned."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from convkit.rewrite import Exactness, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match


@register
class PReluToRelu(Rewrite):
    """Drop the slope: the cheapest activation, another function."""

    id = "CK-APPROX-001"
    name = "prelu-to-relu"
    law = "PRelu(x, a) ~ Relu(x)"
    exactness = Exactness.RETRAIN

    def pattern(self, op: Any, x: Any, slope: Any) -> Any:
        return op.any_of(op.PRelu(x, slope), op.LeakyRelu(x))

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return rw.op("Relu", match["x"])
