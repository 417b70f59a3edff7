"""Transposed convolution as a convolution at the input's resolution and a pixel shuffle.

Derivation, per spatial axis, with stride s, dilation d and begin pad p: y[t] = sum over taps k and inputs i
with t = i*s + k*d - p of x[i] w[k]. Add an offset a to t (the first a results are cropped again) and write
t + a = q*s + r with 0 <= r < s. Tap k reaches phase r only where k*d + a - p - r = m*s, and then i = q - m.
So phase r is a stride-1 convolution over the offsets -m, and the phases are the channels that a pixel shuffle
interleaves. Any kernel, stride, dilation, pad, output padding and group fits; no approximation is made.

Source: Shi et al., Is the deconvolution layer the same as a convolutional layer?, arXiv:1609.07009.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, constant, shape_of
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match

_MOVE_COST = 32
"""Multiplications that take as long as cropping one element of the output (a memory-bound copy)."""


@dataclass(frozen=True)
class Axis:
    """The decomposition along one spatial axis."""

    stride: int
    offset: int
    """Results cropped in front (a)."""
    taps: tuple[tuple[int, int, int], ...]
    """(tap k of the transposed kernel, phase r, tap j of the convolution's kernel)."""
    size: int
    """Taps of the convolution's kernel."""
    pads: tuple[int, int]
    length: int
    """Results kept (before cropping there are stride * convolution outputs)."""
    whole: bool
    """Whether nothing has to be cropped."""


def plan_axis(
    n: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], extra: int, a: int
) -> Axis:
    """Decompose one axis of input length `n`; `extra` is the output padding, `a` the crop in front."""
    length = (n - 1) * stride + extra + (kernel - 1) * dilation + 1 - sum(pads)
    reach = [(k, (k * dilation + a - pads[0]) % stride) for k in range(kernel)]
    shifts = [(k * dilation + a - pads[0] - r) // stride for k, r in reach]
    before = max(0, *shifts)  # convolution pads are not negative
    size = before - min(shifts) + 1
    taps = tuple((k, r, before - m) for (k, r), m in zip(reach, shifts, strict=True))
    outputs = -(-(length + a) // stride)
    after = max(0, outputs - n - before + size - 1)
    outputs = n + before + after - size + 1
    whole = a == 0 and outputs * stride == length
    return Axis(stride, a, taps, size, (before, after), length, whole)


def plan(node: ir.Node) -> list[Axis]:
    """The cheapest decomposition: fewest multiplications, where a crop counts as some."""
    x, w = (shape_of(v) for v in node.inputs[:2] if v is not None)
    rank = len(x) - 2
    pads = attr(node, "pads", (0,) * 2 * rank)
    strides = attr(node, "strides", (1,) * rank)
    dilations = attr(node, "dilations", (1,) * rank)
    extra = attr(node, "output_padding", (0,) * rank)
    choices = [
        [
            plan_axis(x[2 + i], w[2 + i], strides[i], dilations[i], (pads[i], pads[rank + i]), extra[i], a)
            for a in range(strides[i])
        ]
        for i in range(rank)
    ]
    # The axes are chosen one by one: the smallest kernel with and without a crop.
    best = [min(axis, key=lambda c: (c.size, not c.whole, c.offset)) for axis in choices]
    uncropped = [min(axis, key=lambda c: (not c.whole, c.size, c.offset)) for axis in choices]
    per_output = w[0]

    def cost(axes: list[Axis]) -> int:
        return per_output * prod(c.size for c in axes) + (0 if all(c.whole for c in axes) else _MOVE_COST)

    return min(uncropped, best, key=cost)


def phases(node: ir.Node, axes: list[Axis], weights: np.ndarray) -> np.ndarray:
    """Convolution weights (group, outputs of a group, phases, inputs of a group, *kernel)."""
    group = attr(node, "group", 1)
    inputs, outputs = weights.shape[0] // group, weights.shape[1]
    spread = np.zeros(
        (group, outputs, *(c.stride for c in axes), inputs, *(c.size for c in axes)), weights.dtype
    )
    grouped = np.swapaxes(weights.reshape(group, inputs, *weights.shape[1:]), 1, 2)
    every = slice(None)
    for taps in product(*(c.taps for c in axes)):
        kernel, phase, tap = (tuple(t[i] for t in taps) for i in range(3))
        into: tuple[Any, ...] = (every, every, *phase, every, *tap)
        source: tuple[Any, ...] = (every, every, every, *kernel)
        spread[into] += grouped[source]
    return spread.reshape(group, outputs, prod(c.stride for c in axes), inputs, *(c.size for c in axes))


@register
class ConvTransposeToSubpixel(Rewrite):
    """ConvTranspose for targets that lack it or run it slowly, exactly: see the module's derivation.

    A square pixel shuffle is DepthToSpace (order CRD when grouped: the phases of a channel must stay in its
    group). Other strides and ranks interleave one axis at a time by rank-preserving transposes and reshapes.
    """

    id = "CK-LEGAL-001"
    name = "convtranspose-to-subpixel"
    law = "ConvTranspose(x, w, stride s) = DepthToSpace(Conv(x, w', stride 1), s)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, w: Any, b: Any = None) -> Any:
        return op.ConvTranspose(x, op.const(w), b)

    def check(self, match: Match) -> Facts | NoMatch:
        node = match.root
        if attr(node, "auto_pad", "NOTSET") != "NOTSET" or attr(node, "output_shape") is not None:
            return NoMatch("the pads are not explicit", node)
        if match.get("b") is not None and constant(match.get("b")) is None:
            return NoMatch("the bias is not constant", node)
        if min(shape_of(node.outputs[0])) < 1:
            return NoMatch("the output is empty", node)
        return {"axes": plan(node)}

    def rewrite(self, rw: Rewriter, match: Match, *, axes: list[Axis]) -> ir.Value:
        weights, bias = constant(match["w"]), constant(match.get("b"))
        assert weights is not None
        group, channels = attr(match.root, "group", 1), shape_of(match.root.outputs[0])[1]
        split = phases(match.root, axes, weights)  # g, o, r, i, *k
        count = split.shape[2]
        by_phase = group == 1
        if by_phase:
            split = np.swapaxes(split, 1, 2)
        w = rw.const(split.reshape(channels * count, *split.shape[3:]), "weight")
        b = None
        if bias is not None:
            b = rw.const(np.tile(bias, count) if by_phase else np.repeat(bias, count), "bias")
        pads = [c.pads[0] for c in axes] + [c.pads[1] for c in axes]
        y = rw.op("Conv", match["x"], w, b, pads=pads, group=group)
        y = shuffle(rw, y, [c.stride for c in axes], by_phase)
        if all(c.whole for c in axes):
            return y
        starts = [c.offset for c in axes]
        ends = [c.offset + c.length for c in axes]
        return rw.op("Slice", y, rw.ints(starts), rw.ints(ends), rw.ints(range(2, 2 + len(axes))))


def shuffle(rw: Rewriter, x: ir.Value, strides: list[int], by_phase: bool) -> ir.Value:
    """Interleave the phases in the channels of `x` into space.

    The channels are (phase of axis 0, ..., phase of the last axis, channel) if `by_phase`, else (channel,
    phases).
    """
    if prod(strides) == 1:
        return x
    if len(strides) == 2 and strides[0] == strides[1]:
        return rw.op("DepthToSpace", x, blocksize=strides[0], mode="DCR" if by_phase else "CRD")
    rank, count = 2 + len(strides), prod(strides)
    if not by_phase:
        batch, depth, *space = shape_of(x)
        merged = rw.Reshape(x, rw.ints([batch, depth // count, count, prod(space)]))
        x = rw.Reshape(rw.Transpose(merged, perm=[0, 2, 1, 3]), rw.ints([batch, depth, *space]))
    for i, stride in enumerate(strides):
        if stride == 1:
            continue
        # With the axis just before the channels, moving the leading phase into it is a reshape.
        order = [0, *(d for d in range(2, rank) if d != 2 + i), 2 + i, 1]
        x = rw.Transpose(x, perm=order)
        *outer, size, depth = shape_of(x)
        x = rw.Reshape(x, rw.ints([*outer, size * stride, depth // stride]))
        x = rw.Transpose(x, perm=[order.index(d) for d in range(rank)])
    return x
