"""Attention masks that float16 cannot hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, constant
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewrite, Rewriter, register

_LARGEST = float(np.finfo(np.float16).max)
_MASK = -30000.0
"""What is masked by it weighs exp(-30000) = 0 in any float, and scores of up to 30000 can be added."""

_ADDITIVE = frozenset(
    {"Add", "Concat", "Expand", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze", "Where"}
)
_DEPTH = 12


@register
class ClampMask(Rewrite):
    """A mask of -1e9 is minus infinity in float16, and zero times that is not a number.

    Softmax gives no weight to either, unless a row is masked from end to end.
    """

    id = "CK-F16-003"
    name = "clamp-mask"
    law = "Softmax(x + Mul(m, -1e9)) = Softmax(x + Mul(m, -30000)), so for Add and Where"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, y: Any, z: Any) -> Pattern:
        return op.any_of(op.Add(x, y), op.Mul(x, y), op.Where(x, y, z))

    def check(self, match: Match) -> Facts | NoMatch:
        node = match.root
        found = [at for at, value in enumerate(node.inputs) if _is_mask(value)]
        if len(found) != 1:
            return NoMatch("no constant of it is below -65504", node)
        if not _reaches_only_softmax(node.outputs[0], _DEPTH):
            return NoMatch("more than a softmax reads it", node)
        return {"at": found[0]}

    def rewrite(self, rw: Rewriter, match: Match, *, at: int) -> ir.Value:
        inputs = list(match.root.inputs)
        mask = constant(inputs[at])
        assert mask is not None
        inputs[at] = rw.const(np.maximum(mask, np.asarray(_MASK, mask.dtype)))
        return rw.op(match.root.op_type, *inputs)


def _is_mask(value: ir.Value | None) -> bool:
    """Finite numbers below the range of float16, and none above it."""
    array = constant(value)
    if array is None or array.dtype != np.float32 or array.size == 0:
        return False
    return bool(np.isfinite(array).all() and array.min() < -_LARGEST and array.max() <= _LARGEST)


def _reaches_only_softmax(value: ir.Value, depth: int) -> bool:
    if value.is_graph_output() or not depth:
        return False
    return bool(value.uses()) and all(_is_sink(use.node, use.idx, depth) for use in value.uses())


def _is_sink(node: ir.Node, at: int, depth: int) -> bool:
    if node.op_type == "Softmax":
        return attr(node, "axis", -1) is not None
    if node.op_type == "Attention":
        return at == 3
    return node.op_type in _ADDITIVE and _reaches_only_softmax(node.outputs[0], depth - 1)
