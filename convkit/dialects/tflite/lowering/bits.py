"""Operators on the bits of integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.kernels import accepted_dtypes
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.ir.facts import attr, dtype_of

_WORD = np.dtype(np.int32)


@lowers("BitwiseXor")
def bitwise_xor(b: Builder, node: ir.Node) -> Tensor:
    """Bits that differ."""
    return b.binary("BITWISE_XOR", b.input(node, 0), b.input(node, 1))


@lowers("BitwiseNot")
def bitwise_not(b: Builder, node: ir.Node) -> Tensor:
    """~x = -1 - x in two's complement; all ones minus x for an unsigned type."""
    x = b.input(node)
    ones = -1 if x.dtype.kind == "i" else np.iinfo(x.dtype).max
    return b.binary("SUB", b.scalar_like(x, ones), x)


@lowers("BitwiseAnd", "BitwiseOr")
def bitwise_and_or(b: Builder, node: ir.Node) -> Tensor:
    """Sums of halves: (x & y) = x/2 + y/2 - (x ^ y)/2 + the carry, and (x | y) = (x & y) + (x ^ y)."""
    x, y = b.input(node, 0), b.input(node, 1)
    dtype = x.dtype
    if dtype.itemsize > _WORD.itemsize or dtype == np.uint32:
        raise UnsupportedError(f"its kernels do not take {dtype}")
    x, y = b.cast(x, _WORD), b.cast(y, _WORD)
    one = b.scalar_like(x, 1)
    halves = [b.binary("RIGHT_SHIFT", t, one) for t in (x, y)]
    low = [b.binary("SUB", t, b.binary("ADD", h, h)) for t, h in zip((x, y), halves, strict=True)]
    differ = b.binary("BITWISE_XOR", x, y)
    total = b.binary("ADD", b.binary("ADD", *halves), b.binary("MUL", *low))
    both = b.binary("SUB", total, b.binary("RIGHT_SHIFT", differ, one))
    return b.cast(both if node.op_type == "BitwiseAnd" else b.binary("ADD", both, differ), dtype)


@lowers("BitShift")
def bit_shift(b: Builder, node: ir.Node) -> Tensor:
    """A shift by a count in [0, width); any other count moves all bits out.

    To the left it is a product with a power of two, looked up; to the right signed numbers keep their sign.
    """
    x, y = b.input(node, 0), b.input(node, 1)
    width = x.dtype.itemsize * 8
    if attr(node, "direction") == "LEFT":
        powers = np.array([1 << i for i in range(width)] + [0], np.uint64).astype(x.dtype)
        if y.data is not None:
            known = np.where((y.data < 0) | (y.data >= width), width, y.data).astype(np.int64)
            return b.binary("MUL", x, b.const(powers[known], hint="power"))
        count = b.reshape(_bounded(b, b.cast(y, _WORD), width), (_size(y),))
        table = b.const(powers, hint="powers")
        power = b.emit("GATHER", [table, count], count.shape, x.dtype, axis=0)
        return b.binary("MUL", x, b.reshape(power, y.shape))
    if x.dtype.kind == "u" or width > _WORD.itemsize * 8:
        return b.binary("RIGHT_SHIFT", x, y)
    count = _bounded(b, b.cast(y, _WORD), width - 1)
    return b.cast(b.binary("RIGHT_SHIFT", b.cast(x, _WORD), count), x.dtype)


def _size(x: Tensor) -> int:
    return int(np.prod(x.shape))


def _bounded(b: Builder, count: Tensor, most: int) -> Tensor:
    """Counts in [0, most], `most` for those outside."""
    if count.data is not None:
        return b.const(np.where((count.data < 0) | (count.data > most), most, count.data).astype(_WORD))
    top = b.scalar_like(count, most)
    negative = b.binary("LESS", count, b.scalar_like(count, 0), np.bool_)
    return b.emit("SELECT_V2", [negative, top, b.binary("MINIMUM", count, top)], count.shape, _WORD)


@lowers("BitCast")
def bit_cast(b: Builder, node: ir.Node) -> Tensor:
    """The same bits read as another type of the same width."""
    x, dtype = b.input(node), dtype_of(node.outputs[0]).numpy()
    if x.dtype not in accepted_dtypes("BITCAST") or x.dtype.itemsize != dtype.itemsize:
        raise UnsupportedError(f"no kernel reads {x.dtype} as {dtype}")
    return b.emit("BITCAST", [x], x.shape, dtype)
