"""Operators on the bits of integers.

Where a kernel lacks a type, it is given words of int32: narrow integers widened, 64-bit ones as two words
(the low one first) along a new last axis, which BITCAST makes without a copy.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.kernels import accepted_dtypes
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import window
from convkit.ir.facts import attr, dtype_of

_WORD = np.dtype(np.int32)


def _read_as(b: Builder, x: Tensor, dtype: Any, shape: tuple[int, ...]) -> Tensor:
    """x's bits as another type; folded for a constant."""
    dtype = np.dtype(dtype)
    if dtype == x.dtype:
        return x
    if x.data is not None:
        return b.const(np.ascontiguousarray(x.data).reshape(-1).view(dtype).reshape(shape), hint="bits")
    return b.emit("BITCAST", [x], shape, dtype)


def _words(b: Builder, x: Tensor) -> Tensor:
    """x's bits as words."""
    if x.dtype.itemsize < _WORD.itemsize:
        return b.cast(x, _WORD)
    return _read_as(b, x, _WORD, (*x.shape, 2) if x.dtype.itemsize == 8 else x.shape)


def _of_words(b: Builder, words: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """The inverse of `_words`."""
    if dtype.itemsize < _WORD.itemsize:
        return b.cast(words, dtype)
    return _read_as(b, words, dtype, words.shape[:-1] if dtype.itemsize == 8 else words.shape)


@lowers("BitwiseXor")
def bitwise_xor(b: Builder, node: ir.Node) -> Tensor:
    """Bits that differ."""
    x, y = b.input(node, 0), b.input(node, 1)
    if x.dtype in accepted_dtypes("BITWISE_XOR"):
        return b.binary("BITWISE_XOR", x, y)
    return _of_words(b, b.binary("BITWISE_XOR", _words(b, x), _words(b, y)), x.dtype)


@lowers("BitwiseNot")
def bitwise_not(b: Builder, node: ir.Node) -> Tensor:
    """Every bit turned."""
    return complement(b, b.input(node))


def complement(b: Builder, x: Tensor) -> Tensor:
    """~x = -1 - x in two's complement; all ones minus x for an unsigned type. It reverses the order."""
    ones = -1 if x.dtype.kind == "i" else np.iinfo(x.dtype).max
    return b.binary("SUB", b.scalar_like(x, ones), x)


@lowers("BitwiseAnd", "BitwiseOr")
def bitwise_and_or(b: Builder, node: ir.Node) -> Tensor:
    """Sums of halves: (x & y) = x/2 + y/2 - (x ^ y)/2 + the carry, and (x | y) = (x & y) + (x ^ y)."""
    dtype = b.input(node).dtype
    x, y = _words(b, b.input(node, 0)), _words(b, b.input(node, 1))
    one = b.scalar_like(x, 1)
    halves = [b.binary("RIGHT_SHIFT", t, one) for t in (x, y)]
    low = [b.binary("SUB", t, b.binary("ADD", h, h)) for t, h in zip((x, y), halves, strict=True)]
    differ = b.binary("BITWISE_XOR", x, y)
    total = b.binary("ADD", b.binary("ADD", *halves), b.binary("MUL", *low))
    both = b.binary("SUB", total, b.binary("RIGHT_SHIFT", differ, one))
    return _of_words(b, both if node.op_type == "BitwiseAnd" else b.binary("ADD", both, differ), dtype)


@lowers("BitShift")
def bit_shift(b: Builder, node: ir.Node) -> Tensor:
    """A shift by a count in [0, width); any other count moves all bits out.

    To the left it is a product with a power of two, looked up; to the right signed numbers keep their sign.
    """
    x, y = b.input(node, 0), b.input(node, 1)
    width = x.dtype.itemsize * 8
    if attr(node, "direction") == "LEFT":
        powers = np.array([1 << i for i in range(width)] + [0], np.uint64)
        return b.binary("MUL", x, _looked_up(b, powers.astype(x.dtype), _count(b, y, width)))
    if width == 64:
        return _right_shifted(b, x, y)
    if x.dtype.kind == "u":
        return _unsigned_shifted(b, x, y, width)
    return b.cast(b.binary("RIGHT_SHIFT", b.cast(x, _WORD), _count(b, y, width - 1)), x.dtype)


def _unsigned_shifted(b: Builder, x: Tensor, y: Tensor, width: int) -> Tensor:
    """x shifted to the right, zeros coming in."""
    if y.data is not None and np.all(y.data < width):
        return b.binary("RIGHT_SHIFT", x, y)
    count = _count(b, y, width)
    held = b.binary("MINIMUM", count, b.scalar_like(count, width - 1))
    moved = b.binary("RIGHT_SHIFT", x, b.cast(held, x.dtype))
    out = b.binary("EQUAL", count, b.scalar_like(count, width), np.bool_)
    return b.emit("SELECT_V2", [out, b.scalar_like(x, 0), moved], moved.shape, x.dtype)


def _right_shifted(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """64-bit x shifted to the right, word by word."""
    signed = x.dtype.kind == "i"
    words, count = _words(b, x), _count(b, y, 63 if signed else 64)
    low, high = (b.reshape(window(b, words, x.rank, i, 1, 1), x.shape) for i in (0, 1))
    near = b.binary("FLOOR_MOD", count, b.scalar_like(count, 32))
    far = b.binary("GREATER_EQUAL", count, b.scalar_like(count, 32), np.bool_)
    powers = np.array([0, *(1 << i for i in range(31, 0, -1))], np.uint32).view(np.int32)
    carried = b.binary("MUL", high, _looked_up(b, powers, near))  # the bits that move into the low word
    moved = _logical(b, high, near)
    low = b.binary("ADD", _logical(b, low, near), carried)
    fill = b.scalar_like(high, 0)
    if signed:
        moved = b.binary("RIGHT_SHIFT", high, near)
        fill = b.binary("RIGHT_SHIFT", high, b.scalar_like(high, 31))
    shape = moved.shape

    def chosen(condition: Tensor, one: Tensor, two: Tensor) -> Tensor:
        return b.emit("SELECT_V2", [condition, one, two], shape, _WORD)

    pair = [chosen(far, moved, low), chosen(far, fill, moved)]
    if not signed:
        out = b.binary("EQUAL", count, b.scalar_like(count, 64), np.bool_)
        pair = [chosen(out, b.scalar_like(t, 0), t) for t in pair]
    joined = b.emit("CONCATENATION", [b.reshape(t, (*shape, 1)) for t in pair], (*shape, 2), axis=len(shape))
    return _of_words(b, joined, x.dtype)


def _logical(b: Builder, x: Tensor, count: Tensor) -> Tensor:
    """A word shifted to the right with zeros coming in."""
    unsigned = [_read_as(b, t, np.uint32, t.shape) for t in (x, count)]
    moved = b.binary("RIGHT_SHIFT", *unsigned)
    return _read_as(b, moved, _WORD, moved.shape)


def _looked_up(b: Builder, table: np.ndarray, index: Tensor) -> Tensor:
    """The entry of a small table for each index."""
    if index.data is not None:
        return b.const(table[index.data], hint="power")
    flat = b.reshape(index, (prod(index.shape),))
    signed = b.const(table.view(f"i{table.itemsize}"), hint="powers")
    found = b.emit("GATHER", [signed, flat], flat.shape, signed.dtype, axis=0)
    return b.reshape(_read_as(b, found, table.dtype, found.shape), index.shape)


def _count(b: Builder, count: Tensor, most: int) -> Tensor:
    """Counts in [0, most] as words, `most` for those outside."""
    if count.data is not None:
        known = np.where((count.data < 0) | (count.data > most), most, count.data)
        return b.const(known.astype(_WORD), hint="count")
    words, shape = _words(b, count), count.shape
    top = b.const(most, _WORD, "most")
    beyond: list[Tensor] = []
    if words.rank > count.rank:
        high = b.reshape(window(b, words, count.rank, 1, 1, 1), shape)
        words = b.reshape(window(b, words, count.rank, 0, 1, 1), shape)
        beyond.append(b.binary("NOT_EQUAL", high, b.scalar_like(high, 0), np.bool_))
    beyond.append(b.binary("LESS", words, b.scalar_like(words, 0), np.bool_))
    held = b.binary("MINIMUM", words, top)
    for outside in beyond:
        held = b.emit("SELECT_V2", [outside, top, held], shape, _WORD)
    return held


@lowers("BitCast")
def bit_cast(b: Builder, node: ir.Node) -> Tensor:
    """The same bits read as another type of the same width."""
    x, dtype = b.input(node), dtype_of(node.outputs[0]).numpy()
    if x.dtype not in accepted_dtypes("BITCAST") or x.dtype.itemsize != dtype.itemsize:
        raise UnsupportedError(f"no kernel reads {x.dtype} as {dtype}")
    return b.emit("BITCAST", [x], x.shape, dtype)
