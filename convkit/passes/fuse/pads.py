"""An explicit Pad goes into the window operator behind it."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from convkit.ir.facts import attr, ints, is_constant, is_op, scalar
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match

_NOT_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Abs", "Exp", "Softmax", "Softplus", "Sqrt")


def _padding(match: Match) -> tuple[list[int], float] | NoMatch:
    """Pads of the window with the Pad's added (begins, then ends), and the padded value."""
    pad = match.node("pad")
    amounts, value = ints(match["amounts"]), match.get("value")
    if attr(pad, "mode", "constant") != "constant":
        return NoMatch("the padding is no constant", pad)
    if amounts is None or (value is not None and not is_constant(value)):
        return NoMatch("the padding is not known", pad)
    rank = len(amounts) // 2
    begin, end = amounts[:rank], amounts[rank:]
    if any((*begin[:2], *end[:2])) or min(amounts) < 0:
        return NoMatch("the padding is not of the spatial axes alone", pad)
    own = attr(match.root, "pads", (0,) * 2 * (rank - 2))
    total = [a + b for a, b in zip(own, (*begin[2:], *end[2:]), strict=True)]
    number = 0.0 if value is None else scalar(value)
    return NoMatch("the padding is no number", pad) if number is None else (total, number)


class _PadBefore(Rewrite):
    """The same node with larger pads."""

    exactness = Exactness.BITEXACT

    def rewrite(self, rw: Rewriter, match: Match, *, changed: dict[str, Any]) -> ir.Value:
        root = match.root
        kept = {name: attr(root, name) for name in root.attributes}
        return rw.op(root.op_type, match["x"], *root.inputs[1:], **(kept | changed))


@register
class FusePadConv(_PadBefore):
    """Zeros around the input of a convolution are its own padding."""

    id = "CK-FUSE-060"
    name = "fuse-pad-conv"
    law = "Conv(Pad(x, 0), pads p) = Conv(x, pads p + q)"

    def pattern(self, op: Any, x: Any, amounts: Any, w: Any, value: Any = None, b: Any = None) -> Any:
        return op.Conv(op.Pad(x, amounts, value, name="pad"), w, b)

    def check(self, match: Match) -> Facts | NoMatch:
        found = _padding(match)
        if isinstance(found, NoMatch):
            return found
        total, number = found
        return NoMatch("the padding is not zero", match.root) if number else {"changed": {"pads": total}}


@register
class FusePadPool(_PadBefore):
    """Padding before a pooling, where the pooling's own padding counts the same.

    A MaxPool never chooses its own padding: minus infinity does the same, and so does zero where nothing
    pooled is negative and every window meets the input. An AveragePool may count its padding as zeros.
    """

    id = "CK-FUSE-061"
    name = "fuse-pad-pool"
    law = "MaxPool(Pad(x, -inf)) = MaxPool(x, pads), AveragePool(Pad(x, 0)) = AveragePool(x, pads, counted)"

    def pattern(self, op: Any, x: Any, amounts: Any, value: Any = None) -> Any:
        padded = op.Pad(x, amounts, value, name="pad")
        return op.any_of(op.MaxPool(padded), op.AveragePool(padded))

    def check(self, match: Match) -> Facts | NoMatch:
        found, root = _padding(match), match.root
        if isinstance(found, NoMatch):
            return found
        if len(root.outputs) != 1 or attr(root, "ceil_mode", 0):
            return NoMatch("the positions of windows would change", root)
        total, number = found
        kernel = attr(root, "kernel_shape")
        dilated = any(d != 1 for d in attr(root, "dilations", ()))
        if dilated or any(p >= k for p, k in zip(total, (*kernel, *kernel), strict=True)):
            return NoMatch("a window would lie in the padding alone", root)
        changed: dict[str, Any] = {"pads": total}
        if root.op_type == "AveragePool":
            own = any(attr(root, "pads", ()))
            if number or (own and not attr(root, "count_include_pad", 0)):
                return NoMatch("the pooling's own padding counts otherwise", root)
            changed["count_include_pad"] = 1
        elif number != float("-inf") and not (number == 0 and is_op(match["x"].producer(), *_NOT_NEGATIVE)):
            return NoMatch("the padding may be the maximum", root)
        return {"changed": changed}
