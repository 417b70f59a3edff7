"""Operators that move whole values: shapes, permutations, joins, repetitions, padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import take, window
from convkit.ir.facts import attr, input_at, ints, shape_of


@lowers("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def reshape(b: Builder, node: ir.Node) -> Tensor:
    """The same numbers under the output's shape."""
    return b.reshape(b.input(node), shape_of(node.outputs[0]))


def merged_permutation(shape: Sequence[int], perm: Sequence[int]) -> tuple[list[int], list[int]]:
    """The least-rank (shape, permutation) that moves the same numbers.

    Dimensions of size 1 vanish and dimensions that stay neighbours merge.
    """
    order = [p for p in perm if shape[p] != 1]
    runs: list[list[int]] = []
    present = sorted(order)
    follows = dict(pairwise(present))
    for p in order:
        if runs and follows.get(runs[-1][-1]) == p:
            runs[-1].append(p)
        else:
            runs.append([p])
    ascending = sorted(runs)
    sizes = [int(np.prod([shape[p] for p in run])) for run in ascending]
    return sizes, [ascending.index(run) for run in runs]


@lowers("Transpose")
def transpose(b: Builder, node: ir.Node) -> Tensor:
    """A permutation of dimensions, of rank 4 at most where that is possible."""
    x = b.input(node)
    perm = attr(node, "perm", tuple(reversed(range(x.rank))))
    if x.rank <= 4:
        return b.transpose(x, perm)
    shape, order = merged_permutation(x.shape, perm)
    return b.reshape(b.transpose(b.reshape(x, shape), order), [x.shape[p] for p in perm])


@lowers("Concat")
def concat(b: Builder, node: ir.Node) -> Tensor:
    """The inputs one after the other along the axis; empty ones are left out."""
    shape = shape_of(node.outputs[0])
    axis = attr(node, "axis") % len(shape)
    parts = [b.tensor(v) for v in node.inputs if v is not None]
    return join(b, [t for t in parts if t.shape[axis]], axis)


def join(b: Builder, parts: Sequence[Tensor], axis: int) -> Tensor:
    """The concatenation of one or more tensors."""
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] = sum(t.shape[axis] for t in parts)
    return b.emit("CONCATENATION", parts, shape, axis=axis)


@lowers("Split")
def split(b: Builder, node: ir.Node) -> list[Tensor]:
    """Consecutive windows along the axis, each a SLICE: every target takes that."""
    x = b.input(node)
    axis = attr(node, "axis", 0) % x.rank
    parts, start = [], 0
    for value in node.outputs:
        size = shape_of(value)[axis]
        parts.append(window(b, x, axis, start, 1, size))
        start += size
    return parts


def repeat(b: Builder, x: Tensor, counts: Sequence[int]) -> Tensor:
    """x repeated along each dimension."""
    if all(n == 1 for n in counts):
        return x
    shape = [d * n for d, n in zip(x.shape, counts, strict=True)]
    if x.data is not None:
        return b.const(np.tile(x.data, counts), hint="tiled")
    return b.emit("TILE", [x, b.const(counts, np.int32, "multiples")], shape)


@lowers("Tile")
def tile(b: Builder, node: ir.Node) -> Tensor:
    """x repeated along each dimension."""
    x, counts = b.input(node), ints(input_at(node, 1))
    if counts is None:
        raise UnsupportedError("the repeats are not constant")
    return repeat(b, x, counts)


def broadcast(b: Builder, x: Tensor, shape: Sequence[int]) -> Tensor:
    """x broadcast to a shape by TILE, exact for every number and taken where BROADCAST_TO is not."""
    padded = (1,) * (len(shape) - x.rank) + x.shape
    return repeat(b, b.reshape(x, padded), [n if d == 1 else 1 for d, n in zip(padded, shape, strict=True)])


@lowers("Expand")
def expand(b: Builder, node: ir.Node) -> Tensor:
    """x broadcast to the output's shape."""
    return broadcast(b, b.input(node), shape_of(node.outputs[0]))


@lowers("Pad")
def pad(b: Builder, node: ir.Node) -> Tensor:
    """x with a border; a negative border is cut off first."""
    x = b.input(node)
    before, after = _borders(node, x.rank)
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        if low < 0 or high < 0:
            start, end = max(-low, 0), x.shape[axis] - max(-high, 0)
            x = window(b, x, axis, start, 1, end - start)
    borders = [(max(low, 0), max(high, 0)) for low, high in zip(before, after, strict=True)]
    mode = attr(node, "mode", "constant")
    if not any(low or high for low, high in borders):
        return x
    if mode == "constant":
        return pad_constant(b, x, borders, b.inputs(node, 3)[2])
    if mode == "reflect" and all(max(p) < d for p, d in zip(borders, x.shape, strict=True)):
        shape = [d + low + high for d, (low, high) in zip(x.shape, borders, strict=True)]
        paddings = b.const(borders, np.int32, "paddings")
        return b.emit("MIRROR_PAD", [x, paddings], shape, mode="REFLECT")
    for axis, (low, high) in enumerate(borders):
        source = np.pad(np.arange(x.shape[axis]), (low, high), mode=mode)
        x = take(b, x, axis, source)
    return x


def _borders(node: ir.Node, rank: int) -> tuple[list[int], list[int]]:
    pads = attr(node, "pads") or ints(input_at(node, 1))
    if pads is None:
        raise UnsupportedError("the pads are not constant")
    axes = range(rank) if input_at(node, 3) is None else ints(input_at(node, 3))
    if axes is None:
        raise UnsupportedError("the axes are not constant")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis % rank], after[axis % rank] = pads[i], pads[len(pads) // 2 + i]
    return before, after


def pad_constant(
    b: Builder, x: Tensor, borders: Sequence[tuple[int, int]], value: Tensor | None = None
) -> Tensor:
    """x with a border of zeros, or of a scalar value."""
    shape = [d + low + high for d, (low, high) in zip(x.shape, borders, strict=True)]
    paddings = b.const(np.asarray(borders), np.int32, "paddings")
    if value is None or (value.data is not None and not value.data.any()):
        return b.emit("PAD", [x, paddings], shape)
    return b.emit("PADV2", [x, paddings, b.reshape(value, ())], shape)
