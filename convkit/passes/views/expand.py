"""Repetition that the reader would do anyway."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import is_op, shape_of
from convkit.passes.walking import WalkingRewrite
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewriter, register

_BROADCASTING = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Max",
    "Min",
    "Where",
    "Equal",
    "Less",
    "Greater",
    "And",
    "Or",
)


@register
class DropExpand(WalkingRewrite):
    """An operand need not be repeated to the shape that its reader's broadcasting gives it."""

    id = "CK-VIEW-070"
    name = "drop-expand"
    law = "f(Expand(x), y) = f(x, y), f broadcasting to the same shape"
    exactness = Exactness.BITEXACT
    any_operands = True

    def pattern(self, op: Any) -> Pattern:
        return op.any_of(*(getattr(op, kind)() for kind in _BROADCASTING))

    def check(self, match: Match) -> Facts | NoMatch:
        operands = list(match.root.inputs)
        walked: list[ir.Node] = []
        for i, value in enumerate(operands):
            node = None if value is None else value.producer()
            if node is None or not _repeats_ones(node):
                continue
            others = [shape_of(v) for k, v in enumerate(operands) if k != i and v is not None]
            assert node.inputs[0] is not None
            if np.broadcast_shapes(shape_of(node.inputs[0]), *others) == shape_of(match.root.outputs[0]):
                operands[i] = node.inputs[0]
                walked.append(node)
        if not walked:
            return NoMatch("no operand is repeated in vain", match.root)
        return {"operands": operands, "walked": walked}

    def rewrite(self, rw: Rewriter, match: Match, *, operands: list[ir.Value]) -> ir.Value:
        attributes = {a.name: a.value for a in match.root.attributes.values() if isinstance(a, ir.Attr)}
        return rw.op(match.root.op_type, *operands, **attributes)


def _repeats_ones(node: ir.Node) -> bool:
    """Whether every axis that `node` makes longer had size 1."""
    if is_op(node, "Expand"):
        return True
    if not is_op(node, "Tile") or node.inputs[0] is None:
        return False
    before, after = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    return all(a == b or a == 1 for a, b in zip(before, after, strict=True))
