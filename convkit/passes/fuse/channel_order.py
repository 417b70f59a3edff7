"""Reorderings of channels are absorbed by the weights of the convolution before or behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, constant, input_at, ints, is_op, shape_of, sole_user
from convkit.passes.linear import per_channel
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match

_UNARY = (
    "Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu", "Gelu",
    "Swish", "Mish", "Softplus", "Abs", "Neg", "Exp", "Sqrt", "Identity",
)  # fmt: skip


def producing_conv(value: ir.Value) -> list[ir.Node] | NoMatch:
    """The convolution that makes `value` and the elementwise nodes between, from `value` upward.

    Each is read by the next only; the convolution has constant weights and one group.
    """
    chain: list[ir.Node] = []
    while True:
        node = value.producer()
        if node is None or sole_user(value) is None:
            return NoMatch("what makes the channels is also read elsewhere", node)
        chain.append(node)
        if is_op(node, "Conv"):
            break
        slope = is_op(node, "PRelu") and per_channel(input_at(node, 1), shape_of(value), 1) is not None
        if not (slope or is_op(node, *_UNARY)):
            return NoMatch("no convolution makes the channels", node)
        assert node.inputs[0] is not None
        value = node.inputs[0]
    weights, bias = constant(input_at(node, 1)), input_at(node, 2)
    if weights is None or (bias is not None and constant(bias) is None):
        return NoMatch("the weights are not constant", node)
    if attr(node, "group", 1) != 1:
        return NoMatch("channels cannot leave their group", node)
    return chain


def reorder(rw: Rewriter, chain: list[ir.Node], order: np.ndarray) -> ir.Value:
    """The value of `producing_conv`'s chain with its channels picked in `order`."""
    *between, conv = chain
    rw.replaces(*chain)
    weights, bias = constant(input_at(conv, 1)), constant(input_at(conv, 2))
    assert weights is not None
    w = rw.const(weights[order], "weight")
    b = None if bias is None else rw.const(bias[order], "bias")
    value = rw.op("Conv", conv.inputs[0], w, b, **_attributes(conv))
    for node in reversed(between):
        others = list(node.inputs[1:])
        if node.op_type == "PRelu":
            slope = per_channel(others[0], shape_of(node.outputs[0]), 1)
            stored = constant(others[0])
            assert slope is not None
            assert stored is not None
            ones = (1,) * (len(shape_of(value)) - 2)
            others = [rw.const(slope[order].astype(stored.dtype).reshape(-1, *ones), "slope")]
        value = rw.op(node.op_type, value, *others, **_attributes(node))
    return value


def _attributes(node: ir.Node) -> dict[str, Any]:
    return {name: attr(node, name) for name in node.attributes}


@register
class PixelShuffleOrder(Rewrite):
    """Pixel shuffle in column-row-depth order, made depth-column-row by the convolution before it.

    Most targets have only the latter order. Channel c * r^2 + p becomes channel p * C + c.
    """

    id = "CK-FUSE-070"
    name = "pixel-shuffle-order"
    law = "DepthToSpace(Conv(x, w), CRD) = DepthToSpace(Conv(x, w'), DCR)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any) -> Any:
        return op.DepthToSpace(x, mode="CRD")

    def check(self, match: Match) -> Facts | NoMatch:
        found = producing_conv(match["x"])
        return found if isinstance(found, NoMatch) else {"chain": found}

    def rewrite(self, rw: Rewriter, match: Match, *, chain: list[ir.Node]) -> ir.Value:
        block = attr(match.root, "blocksize")
        channels = shape_of(match["x"])[1]
        order = np.arange(channels).reshape(-1, block * block).T.reshape(-1)
        return rw.op("DepthToSpace", reorder(rw, chain, order), blocksize=block, mode="DCR")


@register
class GatherIntoConvBefore(Rewrite):
    """Picking channels of a convolution's result is picking its filters."""

    id = "CK-FUSE-071"
    name = "channel-gather-into-producer"
    law = "Gather(Conv(x, w), order, channels) = Conv(x, w[order])"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, order: Any) -> Any:
        return op.Gather(x, op.const(order), axis=1)

    def check(self, match: Match) -> Facts | NoMatch:
        order = ints(match["order"])
        if order is None or len(shape_of(match["order"])) != 1 or len(order) > shape_of(match["x"])[1]:
            return NoMatch("the indices repeat channels or are no vector", match.root)
        found = producing_conv(match["x"])
        return found if isinstance(found, NoMatch) else {"chain": found, "order": np.array(order)}

    def rewrite(self, rw: Rewriter, match: Match, *, chain: list[ir.Node], order: np.ndarray) -> ir.Value:
        return reorder(rw, chain, order)


@register
class GatherIntoConvBehind(Rewrite):
    """A convolution reads reordered channels with reordered weights."""

    id = "CK-FUSE-072"
    name = "channel-gather-into-consumer"
    law = "Conv(Gather(x, order, channels), w) = Conv(x, w[:, inverse(order)])"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, order: Any, w: Any, b: Any = None) -> Any:
        return op.Conv(op.Gather(x, op.const(order), axis=1), op.const(w), b, group=1)

    def check(self, match: Match) -> Facts | NoMatch:
        order = ints(match["order"]) or ()
        channels = shape_of(match["x"])[1]
        positive = [i % channels for i in order]
        if len(shape_of(match["order"])) != 1 or sorted(positive) != list(range(channels)):
            return NoMatch("the indices are no permutation", match.root)
        return {"inverse": np.argsort(positive)}

    def rewrite(self, rw: Rewriter, match: Match, *, inverse: np.ndarray) -> ir.Value:
        w = constant(match["w"])
        assert w is not None
        weights = rw.const(np.ascontiguousarray(w[:, inverse]), "weight")
        return rw.op("Conv", match["x"], weights, match.get("b"), **_attributes(match.root))
