"""Parallel convolutions of one value whose results are added are one convolution.

Structural re-parameterisation, done on whatever graph shows the sum: a convolution is its taps, a map from
offsets to weights, and taps add. An identity is a convolution with one tap of weight 1, a scale per channel
one with that scale, an average pooling one with equal taps.

Source: Ding et al., RepVGG: Making VGG-style ConvNets Great Again, arXiv:2101.03697, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, dtype_of, rank_of, shape_of
from convkit.passes.linear import linear, per_channel
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match


@dataclass(frozen=True)
class Branch:
    """Taps of a linear map: weights (group, outputs, inputs, *kernel) at offset start + j * step per axis."""

    weights: np.ndarray
    bias: np.ndarray | None
    start: tuple[int, ...]
    step: tuple[int, ...]
    strides: tuple[int, ...]
    macs: int
    """Multiplications per output position; identities and scales count as one a channel."""

    @property
    def kernel(self) -> tuple[int, ...]:
        return self.weights.shape[3:]

    def regrouped(self, group: int) -> np.ndarray:
        """The weights as those of a convolution with fewer groups: zero across the old groups."""
        old, outputs, inputs, *kernel = self.weights.shape
        if old == group:
            return self.weights
        each = old // group
        spread = np.zeros((group, each, outputs, each, inputs, *kernel))
        parts = self.weights.reshape(group, each, outputs, inputs, *kernel)
        for i in range(each):
            spread[:, i, :, i] = parts[:, i]
        return spread.reshape(group, each * outputs, each * inputs, *kernel)


def _convolution(node: ir.Node) -> Branch | NoMatch:
    view = linear(node)
    if isinstance(view, NoMatch):
        return view
    kernel = view.weights.shape[3:]
    pads, dilations = attr(node, "pads"), attr(node, "dilations")
    start = tuple(-p for p in pads[: len(kernel)])
    return Branch(view.wide, view.bias, start, dilations, attr(node, "strides"), view.weights.size)


def _average(node: ir.Node) -> Branch | NoMatch:
    kernel, pads = attr(node, "kernel_shape"), attr(node, "pads")
    if any(pads) and not attr(node, "count_include_pad", 0):
        return NoMatch("the average leaves padding out", node)
    if attr(node, "ceil_mode", 0):
        return NoMatch("windows may run over the end", node)
    channels = shape_of(node.outputs[0])[1]
    weights = np.full((channels, 1, 1, *kernel), 1.0 / prod(kernel))
    start = tuple(-p for p in pads[: len(kernel)])
    dilations = attr(node, "dilations", (1,) * len(kernel))
    return Branch(weights, None, start, dilations, attr(node, "strides"), channels * prod(kernel))


def _scale(x: ir.Value, factor: np.ndarray) -> Branch:
    spatial = rank_of(x) - 2
    ones = (1,) * spatial
    weights = factor.reshape(-1, 1, 1, *ones)
    return Branch(weights, None, (0,) * spatial, ones, ones, factor.size)


def branch(node: ir.Node | None, x: ir.Value, total: ir.Value) -> Branch | NoMatch:
    """What `node` (None: nothing) does to `x`, as taps; the result has the shape of `total`."""
    if node is None:
        if shape_of(x) != shape_of(total):
            return NoMatch("the sum widens the identity")
        return _scale(x, np.ones(shape_of(x)[1]))
    if shape_of(node.outputs[0]) != shape_of(total):
        return NoMatch("the sum widens a branch", node)
    if node.op_type == "Conv":
        return _convolution(node)
    if node.op_type == "AveragePool":
        return _average(node)
    constant = node.inputs[1] if node.inputs[0] is x else node.inputs[0]
    factor = per_channel(constant, shape_of(x), 1) if shape_of(x) == shape_of(total) else None
    return NoMatch("the factor is not one constant a channel", node) if factor is None else _scale(x, factor)


@dataclass(frozen=True)
class Merged:
    """Attributes and weights of the one convolution."""

    weights: np.ndarray
    bias: np.ndarray | None
    attributes: dict[str, Any]


def merge(first: Branch, second: Branch, space: tuple[int, ...], out: tuple[int, ...]) -> Merged | NoMatch:
    """The sum of two branches over an input of spatial size `space` with outputs of size `out`."""
    if first.strides != second.strides:
        return NoMatch("the strides differ")
    group = gcd(first.weights.shape[0], second.weights.shape[0])
    start = tuple(map(min, first.start, second.start))
    step, kernel = [], []
    for i, low in enumerate(start):
        offsets = [b.start[i] + j * b.step[i] - low for b in (first, second) for j in range(b.kernel[i])]
        stride = gcd(*offsets) or 1
        step.append(stride)
        kernel.append(max(offsets) // stride + 1)
    channels = [b.regrouped(group).shape[:3] for b in (first, second)]
    if channels[0] != channels[1]:
        return NoMatch("the channels differ")
    if prod(channels[0]) * prod(kernel) > first.macs + second.macs:
        return NoMatch("the merged kernel would cost more multiplications")
    weights = np.zeros((*channels[0], *kernel))
    for b in (first, second):
        where: list[Any] = [slice(None)] * 3
        for i, low in enumerate(start):
            begin, every = (b.start[i] - low) // step[i], max(b.step[i] // step[i], 1)
            where.append(slice(begin, begin + (b.kernel[i] - 1) * every + 1, every))
        weights[tuple(where)] += b.regrouped(group)
    reach = [low + (k - 1) * d for low, k, d in zip(start, kernel, step, strict=True)]
    after = [
        max(0, (o - 1) * s + r + 1 - n) for o, s, r, n in zip(out, first.strides, reach, space, strict=True)
    ]
    biases = [b.bias for b in (first, second) if b.bias is not None]
    return Merged(
        weights.reshape(-1, *weights.shape[2:]),
        sum(biases) if biases else None,  # type: ignore[arg-type]
        {
            "pads": [*(-low for low in start), *after],
            "strides": first.strides,
            "dilations": step,
            "group": group,
        },
    )


@register
class MergeBranches(Rewrite):
    """The sum of two branches of one value, of which one is a convolution; sums of many fall two by two.

    Kernels are aligned by their pads, dilations and groups; nothing is merged that would cost more
    multiplications than it saves.
    """

    id = "CK-FUSE-020"
    name = "merge-branches"
    law = "Conv(x, w1, b1) + Conv(x, w2, b2) = Conv(x, pad(w1) + pad(w2), b1 + b2)"
    exactness = Exactness.REASSOCIATED

    def pattern(
        self, op: Any, x: Any, w: Any, s: Any, w2: Any, s2: Any, other: Any, b: Any = None, b2: Any = None
    ) -> Any:
        conv = op.Conv(x, op.const(w), b, name="first")
        second = op.any_of(
            op.Conv(x, op.const(w2), b2, name="second"),
            op.Mul(x, op.const(s2), name="second"),
            op.AveragePool(x, name="second"),
            x,
        )
        first = op.any_of(op.Mul(x, op.const(s), name="first"), op.AveragePool(x, name="first"), x)
        return op.any_of(
            op.Add(conv, second, name="sum"),
            # Branches that stand apart in a chain of sums.
            op.Add(op.Add(other, conv, name="sum"), second),
            op.Add(op.Add(other, first, name="sum"), op.Conv(x, op.const(w2), b2, name="second")),
        )

    def check(self, match: Match) -> Facts | NoMatch:
        x, total = match["x"], match.root.outputs[0]
        inner = match.node("sum")
        if inner is not match.root and shape_of(match["other"]) != shape_of(total):
            return NoMatch("the sum widens an operand", match.root)
        if rank_of(x) < 3 or rank_of(x) != rank_of(total):
            return NoMatch("the branches are no images", match.root)
        first = branch(match.named.get("first"), x, total)
        second = branch(match.named.get("second"), x, total)
        if isinstance(first, NoMatch):
            return first
        if isinstance(second, NoMatch):
            return second
        merged = merge(first, second, shape_of(x)[2:], shape_of(total)[2:])
        return merged if isinstance(merged, NoMatch) else {"merged": merged}

    def rewrite(self, rw: Rewriter, match: Match, *, merged: Merged) -> ir.Value:
        x = match["x"]
        dtype = dtype_of(x).numpy()
        w = rw.const(merged.weights.astype(dtype), "weight")
        b = None if merged.bias is None else rw.const(merged.bias.astype(dtype), "bias")
        y = rw.op("Conv", x, w, b, **merged.attributes)
        return y if match.node("sum") is match.root else rw.op("Add", match["other"], y)
