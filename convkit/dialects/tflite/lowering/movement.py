"""Operators that move whole values: shapes, permutations, joins, repetitions, padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, constant_ints, lowers
from convkit.dialects.tflite.lowering.indexing import cut, take, window
from convkit.ir.facts import attr, shape_of


@lowers("Reshape")
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
    return permute(b, b.input(node), attr(node, "perm"))


def permute(b: Builder, x: Tensor, perm: Sequence[int]) -> Tensor:
    """x with its dimensions permuted, by a TRANSPOSE of rank 4 at most where that is possible."""
    if x.rank <= 4:
        return b.transpose(x, perm)
    shape, order = merged_permutation(x.shape, perm)
    return b.reshape(b.transpose(b.reshape(x, shape), order), [x.shape[p] for p in perm])


@lowers("Concat")
def concat(b: Builder, node: ir.Node) -> Tensor:
    """The inputs one after the other along the axis.

    Bytes beside a constant go through float32, which holds them: the GPU delegate stops on constant bytes.
    """
    parts = [b.tensor(v) for v in node.inputs if v is not None]
    dtype, shape, axis = parts[0].dtype, shape_of(node.outputs[0]), attr(node, "axis")
    if dtype not in (np.int8, np.uint8) or all(t.data is None for t in parts):
        return b.emit("CONCATENATION", parts, shape, axis=axis)
    wide = [b.cast(t, np.float32) for t in parts]
    return b.cast(b.emit("CONCATENATION", wide, shape, axis=axis), dtype)


@lowers("Split")
def split(b: Builder, node: ir.Node) -> list[Tensor]:
    """SPLIT where every target takes it (two to four equal parts, all of use), else a SLICE for each part."""
    x, axis = b.input(node), attr(node, "axis")
    shapes = [shape_of(value) for value in node.outputs]
    used = all(value.uses() or value.is_graph_output() for value in node.outputs)
    if len(shapes) <= 4 and len(set(shapes)) == 1 and used and x.dtype == np.float32:
        results = [(shape, x.dtype) for shape in shapes]
        return b.emit_many("SPLIT", [b.const(axis), x], results, num_splits=len(shapes))
    starts = np.cumsum([0, *(shape[axis] for shape in shapes)])
    return [window(b, x, axis, int(start), 1, shape[axis]) for start, shape in zip(starts, shapes)]


def repeat(b: Builder, x: Tensor, counts: Sequence[int]) -> Tensor:
    """x repeated along each dimension; booleans as numbers, which the GPU delegate repeats."""
    if all(n == 1 for n in counts):
        return x
    shape = [d * n for d, n in zip(x.shape, counts, strict=True)]
    if x.data is not None:
        return b.const(np.tile(x.data, counts), hint="tiled")
    if x.dtype.kind == "b":
        return b.cast(repeat(b, b.cast(x, np.float32), counts), np.bool_)
    return b.emit("TILE", [x, b.const(counts, np.int32, "multiples")], shape)


@lowers("Tile")
def tile(b: Builder, node: ir.Node) -> Tensor:
    """x repeated along each dimension."""
    return repeat(b, b.input(node), constant_ints(node, 1))


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
    x, given, mode = b.input(node), constant_ints(node, 1), attr(node, "mode", "constant")
    borders = list(zip(given[: x.rank], given[x.rank :], strict=True))
    starts = [max(-low, 0) for low, _ in borders]
    sizes = [d + min(low, 0) + min(high, 0) for d, (low, high) in zip(x.shape, borders, strict=True)]
    x = cut(b, x, starts, [1] * x.rank, sizes)
    borders = [(max(low, 0), max(high, 0)) for low, high in borders]
    if mode == "constant":
        return border(b, x, borders, b.inputs(node, 3)[2])
    if mode == "reflect" and all(max(p) < d for p, d in zip(borders, x.shape, strict=True)):
        return border(b, x, borders, mirror=True)
    for axis, widths in enumerate(borders):
        x = take(b, x, axis, np.pad(np.arange(x.shape[axis]), widths, mode=mode))
    return x


def border(
    b: Builder,
    x: Tensor,
    widths: Sequence[tuple[int, int]],
    value: Tensor | None = None,
    *,
    mirror: bool = False,
) -> Tensor:
    """x with a border (before and after, per dimension) of zeros, of a scalar value, or of its own mirror.

    Below rank 4, the GPU delegate wants rank 3 and takes the first dimension for an unpadded batch of one.
    """
    if not any(low or high for low, high in widths):
        return x
    shape, outer = x.shape, [d + low + high for d, (low, high) in zip(x.shape, widths, strict=True)]
    fits = x.rank >= 4 or (x.rank == 3 and shape[0] == outer[0] == 1)
    lead = 0 if fits else max(3 - x.rank, 1)
    rows = [(0, 0)] * lead + list(widths)
    operands: list[Tensor | None] = [b.reshape(x, (1,) * lead + shape), b.const(rows, np.int32, "paddings")]
    lifted = [1] * lead + outer
    if mirror:
        padded = b.emit("MIRROR_PAD", operands, lifted, mode="REFLECT")
    elif value is None or (value.data is not None and not value.data.any()):
        padded = b.emit("PAD", operands, lifted)
    else:
        padded = b.emit("PADV2", [*operands, b.reshape(value, ())], lifted)
    return b.reshape(padded, outer)
