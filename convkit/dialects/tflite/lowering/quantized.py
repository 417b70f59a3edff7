"""ONNX's quantized operators, computed in float32 on the integers themselves.

Integers of magnitude below 2^24 are exact in float32, so products and sums of 8-bit numbers come out as
with integers, and rounding (to even, as ONNX asks and ROUND does) happens on the same numbers.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.conv import convolve
from convkit.dialects.tflite.lowering.indexing import window
from convkit.dialects.tflite.lowering.matmul import multiply
from convkit.dialects.tflite.lowering.movement import repeat
from convkit.dialects.tflite.lowering.reductions import reduce
from convkit.dialects.tflite.schema import held_in, integer_limits
from convkit.ir.facts import attr, dtype_of

_EXACT = 2**24
_FOUR_BITS = (np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.uint4))


def _spread(b: Builder, vector: Tensor, rank: int, axis: int) -> Tensor:
    """A scale or zero point in the shape that broadcasts along `axis`; a single one has no dimension."""
    if vector.rank == rank > 1:  # one per element, as `_blocks` gives them
        return vector
    if vector.rank > 1:
        raise UnsupportedError("its scale or zero point is no vector")
    if math.prod(vector.shape) == 1:
        return b.reshape(vector, ())
    shape = [1] * rank
    shape[axis] = vector.shape[0]
    return b.reshape(vector, shape)


def _blocks(b: Builder, node: ir.Node, x: Tensor, axis: int, scale: Tensor | None) -> Tensor | None:
    """A scale or zero point of blocks along `axis` as one per element; others, and none, as they are."""
    size = attr(node, "block_size", 0)
    if scale is None or not size:
        return scale
    shape = scale.shape
    apart = b.reshape(scale, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    counts = [1] * apart.rank
    counts[axis + 1] = size
    whole = b.reshape(repeat(b, apart, counts), (*shape[:axis], shape[axis] * size, *shape[axis + 1 :]))
    return window(b, whole, axis, 0, 1, x.shape[axis])


def _centered(b: Builder, x: Tensor, zero: Tensor | None, axis: int = 0) -> Tensor:
    """x minus its zero point, in float32."""
    if x.data is not None and x.dtype in _FOUR_BITS:
        x = b.const(x.data.astype(np.int8), hint="wider")
    if x.dtype.kind not in "iu" or x.dtype.itemsize > 4:
        raise UnsupportedError(f"there is no kernel for quantized numbers of type {x.dtype}")
    if zero is not None and zero.data is not None:
        if not np.any(zero.data):
            zero = None
        elif x.data is not None:
            shift = _spread(b, zero, x.rank, axis).data
            return b.const(x.data.astype(np.float32) - np.asarray(shift, np.float32), hint="centered")
    x = b.cast(x, np.float32)
    if zero is None:
        return x
    if zero.data is not None:
        shift = np.asarray(_spread(b, zero, x.rank, axis).data, np.float32)
        return b.binary("ADD", x, b.const(-shift, hint="shift"))
    return b.binary("SUB", x, b.cast(_spread(b, zero, x.rank, axis), np.float32))


def _quantized(b: Builder, y: Tensor, zero: Tensor | None, dtype: np.dtype[Any]) -> Tensor:
    """round(y) + zero, saturated to the integer type."""
    held = held_in(dtype)
    if held.kind not in "iu" or held.itemsize > 2:
        raise UnsupportedError(f"there is no kernel that quantizes to {dtype}")
    y = b.unary("ROUND", y)
    if zero is not None and not (zero.data is not None and not np.any(zero.data)):
        y = b.binary("ADD", y, b.cast(zero, np.float32))
    low, high = integer_limits(dtype)
    y = b.binary("MAXIMUM", y, b.scalar_like(y, low))
    y = b.binary("MINIMUM", y, b.scalar_like(y, high))
    return b.cast(y, held)


@lowers("QuantizeLinear")
def quantize_linear(b: Builder, node: ir.Node) -> Tensor:
    """saturate(round(x / scale) + zero_point)."""
    x, scale, zero = b.inputs(node, 3)[:3]
    assert x is not None
    assert scale is not None
    if x.dtype != np.float32:
        raise UnsupportedError("only float32 numbers are quantized")
    axis = attr(node, "axis", 1)
    axis = axis % x.rank if x.rank else 0
    scale, zero = (_blocks(b, node, x, axis, t) for t in (scale, zero))
    assert scale is not None
    y = b.binary("DIV", x, _spread(b, scale, x.rank, axis))
    zero = None if zero is None else _spread(b, zero, x.rank, axis)
    return _quantized(b, y, zero, dtype_of(node.outputs[0]).numpy())


@lowers("DequantizeLinear")
def dequantize_linear(b: Builder, node: ir.Node) -> Tensor:
    """(x - zero_point) scale."""
    x, scale, zero = b.inputs(node, 3)[:3]
    assert x is not None
    assert scale is not None
    if scale.dtype != np.float32:
        raise UnsupportedError("only float32 numbers are dequantized to")
    axis = attr(node, "axis", 1)
    axis = axis % x.rank if x.rank else 0
    scale, zero = (_blocks(b, node, x, axis, t) for t in (scale, zero))
    assert scale is not None
    return b.binary("MUL", _centered(b, x, zero, axis), _spread(b, scale, x.rank, axis))


@lowers("DynamicQuantizeLinear")
def dynamic_quantize_linear(b: Builder, node: ir.Node) -> list[Tensor]:
    """Quantization to uint8 with the scale and zero point that cover zero and all of x."""
    x = b.input(node)
    axes = list(range(x.rank))
    zero, steps = b.scalar_like(x, 0), b.scalar_like(x, 255)
    low = b.binary("MINIMUM", reduce(b, "REDUCE_MIN", x, axes, keep=False), zero)
    high = b.binary("MAXIMUM", reduce(b, "REDUCE_MAX", x, axes, keep=False), zero)
    scale = b.binary("DIV", b.binary("SUB", high, low), steps)
    start = b.unary("ROUND", b.binary("DIV", b.binary("SUB", zero, low), scale))
    y = _quantized(b, b.binary("DIV", x, scale), start, np.dtype(np.uint8))
    return [y, scale, b.cast(start, np.uint8)]


def _need_exact(x: Tensor, zero: Tensor | None, w: Tensor, terms: int) -> None:
    """Refuse sums that float32 may not hold exactly (their result is an integer tensor)."""
    limits = np.iinfo(x.dtype)
    shift = int(np.ravel(zero.data)[0]) if zero is not None and zero.data is not None else None
    reach = limits.max - limits.min if shift is None else max(limits.max - shift, shift - limits.min)
    weight = 255.0 if w.data is None else float(np.max(np.abs(w.data), initial=0))
    if reach * weight * terms >= _EXACT:
        raise UnsupportedError(f"sums of {terms} products may exceed the integers that float32 holds exactly")


@lowers("ConvInteger")
def conv_integer(b: Builder, node: ir.Node) -> Tensor:
    """The convolution of (x - x_zero) with (w - w_zero), as int32."""
    x, w, x_zero, w_zero = b.inputs(node, 4)
    assert x is not None
    assert w is not None
    filters = _centered(b, w, w_zero)
    _need_exact(x, x_zero, filters, math.prod(w.shape[1:]))
    return b.cast(convolve(b, node, _centered(b, x, x_zero), filters, None), np.int32)


@lowers("MatMulInteger")
def matmul_integer(b: Builder, node: ir.Node) -> Tensor:
    """The product of (x - x_zero) and (y - y_zero), as int32; zero points per row of x, column of y."""
    x, y, x_zero, y_zero = b.inputs(node, 4)
    assert x is not None
    assert y is not None
    right = _centered(b, y, y_zero, y.rank - 1)
    _need_exact(x, x_zero, right, x.shape[-1])
    return b.cast(multiply(b, _centered(b, x, x_zero, max(x.rank - 2, 0)), right), np.int32)


def _ratio(b: Builder, one: Tensor, two: Tensor, out: Tensor, rank: int, axis: int) -> Tensor:
    """The factor from integer sums to the output's steps: one two / out."""
    if any(t.data is None for t in (one, two, out)):
        raise UnsupportedError("its scales are not constant")
    ratio = np.asarray(one.data) * np.asarray(two.data) / np.asarray(out.data)
    return _spread(b, b.const(ratio.reshape(-1), np.float32, "ratio"), rank, axis)


@lowers("QLinearConv")
def qlinear_conv(b: Builder, node: ir.Node) -> Tensor:
    """saturate(round(conv(x - x_zero, w - w_zero) + bias) x_scale w_scale / y_scale) + y_zero)."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = b.inputs(node, 9)
    assert x is not None
    assert w is not None
    assert x_scale is not None
    assert w_scale is not None
    assert y_scale is not None
    shift = None if bias is None else b.cast(bias, np.float32)
    y = convolve(b, node, _centered(b, x, x_zero), _centered(b, w, w_zero), shift)
    y = b.binary("MUL", y, _ratio(b, x_scale, w_scale, y_scale, y.rank, 1))
    zero = None if y_zero is None else _spread(b, y_zero, y.rank, 1)
    return _quantized(b, y, zero, dtype_of(node.outputs[0]).numpy())


@lowers("QLinearMatMul")
def qlinear_matmul(b: Builder, node: ir.Node) -> Tensor:
    """saturate(round((x - x_zero)(y - y_zero) x_scale y_scale / z_scale) + z_zero)."""
    x, x_scale, x_zero, y, y_scale, y_zero, z_scale, z_zero = b.inputs(node, 8)
    assert x is not None
    assert y is not None
    assert x_scale is not None
    assert y_scale is not None
    assert z_scale is not None
    if math.prod(x_scale.shape) > 1:
        raise UnsupportedError("the left operand has a scale per row")
    z = multiply(b, _centered(b, x, x_zero, max(x.rank - 2, 0)), _centered(b, y, y_zero, y.rank - 1))
    z = b.binary("MUL", z, _ratio(b, x_scale, y_scale, z_scale, z.rank, z.rank - 1))
    zero = None if z_zero is None else _spread(b, z_zero, z.rank, z.rank - 1)
    return _quantized(b, z, zero, dtype_of(node.outputs[0]).numpy())
