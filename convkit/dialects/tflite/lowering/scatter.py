"""Operators that write parts of a value: ScatterND, ScatterElements, TensorScatter, MaxUnpool, Col2Im.

SCATTER_ND adds updates into zeros. That replaces elements at distinct places, which ONNX demands where
nothing is to be combined; other combinations at places that may repeat are written one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, constant_ints, lowers
from convkit.dialects.tflite.lowering.indexing import window
from convkit.ir.facts import attr, shape_of

_COMBINE = {"mul": "MUL", "max": "MAXIMUM", "min": "MINIMUM"}
_MOST_UPDATES = 64
"""Updates that are written one after the other."""


def _laid(b: Builder, places: Tensor, updates: Tensor, x: Tensor) -> Tensor:
    """The updates at their places, those at one place added up, zeros elsewhere."""
    return b.emit("SCATTER_ND", [places, updates, b.const(x.shape, np.int32, "shape")], x.shape, x.dtype)


def _written(b: Builder, places: Tensor, updates: Tensor, x: Tensor) -> Tensor:
    """Where updates are written (bool)."""
    if places.data is not None:
        written = np.zeros(x.shape, np.bool_)
        written[tuple(places.data.reshape(-1, places.shape[-1]).T)] = True
        return b.const(written, hint="written")
    ones = b.const(np.ones(updates.shape, np.int32), hint="ones")
    count = b.emit("SCATTER_ND", [places, ones, b.const(x.shape, np.int32, "shape")], x.shape, np.int32)
    return b.binary("GREATER", count, b.scalar_like(count, 0), np.bool_)


def _replaced(b: Builder, places: Tensor, updates: Tensor, x: Tensor, code: str | None = None) -> Tensor:
    """x with updates at distinct places, combined with what is there by `code`."""
    laid = _laid(b, places, updates, x)
    new = laid if code is None else b.binary(code, x, laid)
    return b.emit("SELECT_V2", [_written(b, places, updates, x), new, x], x.shape, x.dtype)


def _scattered(b: Builder, node: ir.Node, places: Tensor, updates: Tensor, x: Tensor) -> Tensor:
    """x with updates at index tuples (their last dimension), as the node's reduction says."""
    reduction = attr(node, "reduction", "none")
    if reduction == "add":
        return b.binary("ADD", x, _laid(b, places, updates, x))
    depth, count = places.shape[-1], prod(places.shape[:-1])
    tuples = b.reshape(places, (count, depth))
    rows = b.reshape(updates, (count, *x.shape[depth:]))
    distinct = tuples.data is not None and len(np.unique(tuples.data, axis=0)) == count
    if distinct or (reduction == "none" and tuples.data is None):
        return _replaced(b, tuples, rows, x, _COMBINE.get(reduction))
    if count > _MOST_UPDATES:
        raise UnsupportedError(f"reduction {reduction!r} of {count} updates at places that may repeat")
    for i in range(count):
        place, row = window(b, tuples, 0, i, 1, 1), window(b, rows, 0, i, 1, 1)
        x = _replaced(b, place, row, x, _COMBINE.get(reduction))
    return x


def _wrapped(b: Builder, indices: Tensor, sizes: Sequence[int] | int) -> Tensor:
    """Indices in [0, size), int32: ONNX counts negative ones from the end."""
    if indices.data is not None:
        return b.const(indices.data.astype(np.int64) % np.asarray(sizes), np.int32, "indices")
    return b.binary("FLOOR_MOD", b.cast(indices, np.int32), b.const(sizes, np.int32, "sizes"))


@lowers("ScatterND")
def scatter_nd(b: Builder, node: ir.Node) -> Tensor:
    """x with slices replaced, or combined, at index tuples."""
    x, indices, updates = (b.input(node, i) for i in range(3))
    return _scattered(b, node, _wrapped(b, indices, x.shape[: indices.shape[-1]]), updates, x)


@lowers("ScatterElements")
def scatter_elements(b: Builder, node: ir.Node) -> Tensor:
    """x with elements replaced, or combined, at indices along the axis and their own position elsewhere."""
    x, indices, updates = (b.input(node, i) for i in range(3))
    axis = attr(node, "axis")
    found = _wrapped(b, indices, x.shape[axis])
    grid = np.moveaxis(np.indices(indices.shape, np.int32), 0, -1).copy()
    if found.data is not None:
        grid[..., axis] = found.data
        return _scattered(b, node, b.const(grid, hint="indices"), updates, x)
    grid[..., axis] = 0
    unit = np.eye(x.rank, dtype=np.int32)[axis]
    along = b.binary("MUL", b.reshape(found, (*found.shape, 1)), b.const(unit, np.int32, "axis"))
    return _scattered(b, node, b.binary("ADD", along, b.const(grid, hint="home")), updates, x)


@lowers("TensorScatter")
def tensor_scatter(b: Builder, node: ir.Node) -> Tensor:
    """A cache with each batch's update written from its index on; `circular` goes on at the beginning."""
    cache, update, start = b.inputs(node, 3)
    assert cache is not None
    assert update is not None
    axis, batch = attr(node, "axis", -2) % cache.rank, cache.shape[0]
    perm = [0, axis, *(i for i in range(1, cache.rank) if i != axis)]
    x, rows = b.transpose(cache, perm), b.transpose(update, perm)
    size, steps = x.shape[1], rows.shape[1]
    home = b.const(np.arange(steps)[None], np.int32, "steps")
    if start is not None:
        home = b.binary("ADD", home, b.reshape(b.cast(start, np.int32), (batch, 1)))
    if attr(node, "mode", "linear") == "circular":
        home = b.binary("FLOOR_MOD", home, b.scalar_like(home, size))
    places = b.binary("ADD", home, b.const(np.arange(batch)[:, None] * size, np.int32, "first"))
    flat = b.reshape(x, (batch * size, *x.shape[2:]))
    rows = b.reshape(rows, (batch * steps, *x.shape[2:]))
    y = b.reshape(_replaced(b, b.reshape(places, (batch * steps, 1)), rows, flat), x.shape)
    return b.transpose(y, [perm.index(i) for i in range(cache.rank)])


@lowers("MaxUnpool")
def max_unpool(b: Builder, node: ir.Node) -> Tensor:
    """Maxima put back at the places in the whole output that a pooling over disjoint windows gave."""
    x, places, shape = b.input(node, 0), b.input(node, 1), shape_of(node.outputs[0])
    kernel = attr(node, "kernel_shape")
    if any(k > s for k, s in zip(kernel, attr(node, "strides", (1,) * len(kernel)), strict=True)):
        raise UnsupportedError("its windows overlap, so that a place may be written twice")
    count = prod(x.shape)
    flat = b.reshape(b.cast(places, np.int32), (count, 1))
    size = b.const([prod(shape)], np.int32, "shape")
    laid = b.emit("SCATTER_ND", [flat, b.reshape(x, (count,)), size], (prod(shape),), x.dtype)
    return b.reshape(laid, shape)


@lowers("Col2Im")
def col2im(b: Builder, node: ir.Node) -> Tensor:
    """Columns of blocks added up into an image: a scatter at constant places of the padded image."""
    x, image, block = b.input(node), constant_ints(node, 1), constant_ints(node, 2)
    rank = len(image)
    strides, dilations = attr(node, "strides", (1,) * rank), attr(node, "dilations", (1,) * rank)
    pads = attr(node, "pads", (0,) * (2 * rank))
    padded = [n + pads[i] + pads[rank + i] for i, n in enumerate(image)]
    positions = []
    for n, k, s, d in zip(padded, block, strides, dilations, strict=True):
        blocks = (n - (k - 1) * d - 1) // s + 1
        positions.append(np.arange(k)[:, None] * d + np.arange(blocks) * s)
    steps = np.cumprod([1, *padded[:0:-1]])[::-1]
    flat = np.zeros((1, 1), np.int64)
    for found, step in zip(positions, steps, strict=True):
        flat = (flat[:, None, :, None] + found[None, :, None, :] * step).reshape(
            flat.shape[0] * found.shape[0], flat.shape[1] * found.shape[1]
        )
    shape = shape_of(node.outputs[0])
    maps = shape[0] * shape[1]
    rows = b.transpose(b.reshape(x, (maps, flat.size)), (1, 0))
    places = b.const(flat.reshape(-1, 1), np.int32, "places")
    size = b.const([prod(padded), maps], np.int32, "shape")
    y = b.emit("SCATTER_ND", [places, rows, size], (prod(padded), maps), x.dtype)
    y = b.reshape(b.transpose(y, (1, 0)), (maps, *padded))
    for i, n in enumerate(image):
        y = window(b, y, i + 1, pads[i], 1, n)
    return b.reshape(y, shape)
