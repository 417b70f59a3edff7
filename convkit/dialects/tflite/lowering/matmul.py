"""Gemm, MatMul and determinants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import window as cells
from convkit.dialects.tflite.lowering.movement import broadcast
from convkit.dialects.tflite.lowering.window import need_float32
from convkit.ir.facts import attr

_MOST_EXPANDED = 4
"""Rows of a matrix whose determinant is expanded."""


def fully_connected(b: Builder, x: Tensor, w: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
    """x (..., K) times w (N, K) transposed, plus bias (N,); x of rank 2 to 4."""
    units = w.shape[0]
    filters = b.const(np.ascontiguousarray(w), hint="weights")
    added = b.const(np.zeros(units, np.float32) if bias is None else bias, hint="bias")
    return b.emit("FULLY_CONNECTED", [x, filters, added], (*x.shape[:-1], units), keep_num_dims=x.rank > 2)


def _merged_batch(x: Sequence[int], y: Sequence[int]) -> tuple[list[int], list[int]]:
    """Two broadcastable batch shapes of equal rank with as few dimensions as the broadcast allows.

    Neighbours merge where both operands have them, or one has them and the other is 1 in both.
    """
    merged: list[list[int]] = []
    kind = None
    for p, q in zip(x, y):
        if p == q == 1:
            continue
        found = (p == 1, q == 1)
        if merged and found == kind:
            merged[-1] = [merged[-1][0] * p, merged[-1][1] * q]
        else:
            merged.append([p, q])
        kind = found
    return [p for p, _ in merged], [q for _, q in merged]


def batch_matmul(b: Builder, x: Tensor, y: Tensor, adj_x: bool = False, adj_y: bool = False) -> Tensor:
    """Matrix product over the last two dimensions (each read transposed if adj), batch broadcast.

    Operands have rank 2 or more. Both get the same batch: the GPU delegate takes a BATCH_MATMUL that
    broadcasts, and computes it wrong.
    """
    rank = max(x.rank, y.rank) - 2
    batch_x = (1,) * (rank + 2 - x.rank) + x.shape[:-2]
    batch_y = (1,) * (rank + 2 - y.rank) + y.shape[:-2]
    batch = np.broadcast_shapes(batch_x, batch_y)
    rows, columns = x.shape[-1 if adj_x else -2], y.shape[-2 if adj_y else -1]
    if batch_x == batch_y:
        common = batch if rank <= 2 else (math.prod(batch),)
        x, y = b.reshape(x, common + x.shape[-2:]), b.reshape(y, common + y.shape[-2:])
    elif math.prod(batch_y) == 1 and not adj_x:  # one matrix for all: the batch is so many more rows
        x = b.reshape(x, (math.prod(batch) * rows, x.shape[-1]))
        y = b.reshape(y, y.shape[-2:])
    else:
        x, y = _same_batch(b, x, batch_x, y, batch_y)
    if x.data is not None and y.data is None:
        turned = _turned(b, np.asarray(x.data if adj_x else x.data.swapaxes(-1, -2)), y, adj_y)
        return b.reshape(turned, (*batch, rows, columns))
    shape = (*x.shape[:-2], x.shape[-1 if adj_x else -2], columns)
    z = b.emit("BATCH_MATMUL", [x, y], shape, adj_x=adj_x, adj_y=adj_y)
    return b.reshape(z, (*batch, rows, columns))


def _turned(b: Builder, right: np.ndarray, y: Tensor, adj_y: bool) -> Tensor:
    """x y as (y' x')' for a constant x, whose transpose is `right`; the GPU delegate wants it there."""
    turn = (*range(y.rank - 2), y.rank - 1, y.rank - 2)
    if math.prod(right.shape[:-2]) == 1:
        z = fully_connected(b, y if adj_y else b.transpose(y, turn), right.reshape(right.shape[-2:]).T)
    else:
        shape = (*y.shape[:-2], y.shape[-2 if adj_y else -1], right.shape[-1])
        z = b.emit("BATCH_MATMUL", [y, b.const(right, hint="turned")], shape, adj_x=not adj_y, adj_y=False)
    return b.transpose(z, turn)


def _same_batch(
    b: Builder, x: Tensor, batch_x: Sequence[int], y: Tensor, batch_y: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Both repeated to their common batch, which becomes one dimension."""
    merged_x, merged_y = _merged_batch(batch_x, batch_y)
    batch = np.broadcast_shapes(merged_x, merged_y)
    repeated = []
    for operand, merged in ((x, merged_x), (y, merged_y)):
        size = math.prod(operand.shape[-2:])
        flat = broadcast(b, b.reshape(operand, (*merged, size)), (*batch, size))
        repeated.append(b.reshape(flat, (math.prod(batch), *operand.shape[-2:])))
    return repeated[0], repeated[1]


def multiply(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """numpy's matmul: FULLY_CONNECTED for a constant matrix on the right, else BATCH_MATMUL."""
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    shape = (*batch, *x.shape[-2:-1], *(y.shape[-1:] if y.rank > 1 else ()))
    if x.rank == 1:
        x = b.reshape(x, (1, x.shape[0]))
    if y.rank == 1:
        y = b.reshape(y, (y.shape[0], 1))
    if x.data is not None and y.data is None and math.prod(x.shape[:-2]) == 1 and y.rank <= 4:
        return b.reshape(_turned(b, x.data.swapaxes(-1, -2), y, False), shape)
    if y.data is not None and math.prod(y.shape[:-2]) == 1:
        if x.rank > 4:
            x = b.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
        return b.reshape(fully_connected(b, x, y.data.reshape(y.shape[-2:]).T), shape)
    return b.reshape(batch_matmul(b, x, y), shape)


@lowers("MatMul")
def matmul(b: Builder, node: ir.Node) -> Tensor:
    """The product of two float32 tensors."""
    x, y = b.input(node, 0), b.input(node, 1)
    need_float32(x, y)
    return multiply(b, x, y)


@lowers("Gemm")
def gemm(b: Builder, node: ir.Node) -> Tensor:
    """alpha A' B' + beta C: FULLY_CONNECTED for a constant B, else BATCH_MATMUL; C is its bias or an ADD."""
    x, y, c = b.inputs(node, 3)[:3]
    need_float32(x, y, c)
    assert x is not None
    assert y is not None
    alpha, beta = np.float32(attr(node, "alpha", 1.0)), np.float32(attr(node, "beta", 1.0))
    adj_x, adj_y = bool(attr(node, "transA", 0)), bool(attr(node, "transB", 0))
    if beta == 0:
        c = None
    if y.data is not None:
        w = y.data if adj_y else y.data.T
        bias = None
        if (
            c is not None
            and c.data is not None
            and c.shape in ((), (1,), w.shape[:1], (1, 1), (1, w.shape[0]))
        ):
            bias = np.broadcast_to(beta * c.data.reshape(-1), w.shape[:1])
            c = None
        x = b.transpose(x, (1, 0)) if adj_x else x
        z = fully_connected(b, x, w if alpha == 1 else alpha * w, bias)
    else:
        z = batch_matmul(b, x, y, adj_x, adj_y)
        z = z if alpha == 1 else b.binary("MUL", z, b.const(alpha))
    if c is not None:
        z = b.binary("ADD", z, c if beta == 1 else b.binary("MUL", c, b.const(beta)))
    return z


@lowers("Det")
def det(b: Builder, node: ir.Node) -> Tensor:
    """The determinant of small matrices, by expansion along rows."""
    x = b.input(node)
    size, outer = x.shape[-1], x.shape[:-2]
    need_float32(x)
    if size > _MOST_EXPANDED:
        raise UnsupportedError(
            f"determinants of matrices above {_MOST_EXPANDED} x {_MOST_EXPANDED} want pivoting"
        )

    def entry(row: int, column: int) -> Tensor:
        line = cells(b, x, x.rank - 2, row, 1, 1)
        return b.reshape(cells(b, line, x.rank - 1, column, 1, 1), outer)

    @cache
    def minor(columns: tuple[int, ...]) -> Tensor:
        """The determinant of the last rows and some columns."""
        row, total = size - len(columns), None
        if len(columns) == 1:
            return entry(row, columns[0])
        for place, column in enumerate(columns):
            rest = minor((*columns[:place], *columns[place + 1 :]))
            term = b.binary("MUL", entry(row, column), rest)
            total = term if total is None else b.binary("SUB" if place % 2 else "ADD", total, term)
        assert total is not None
        return total

    return minor(tuple(range(size)))
