"""Softmax and its kin."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, lowers
from convkit.dialects.tflite.lowering.reductions import reduce
from convkit.dialects.tflite.lowering.window import need_float32
from convkit.ir.facts import attr


def softmax_last(b: Builder, x: Tensor) -> Tensor:
    """Softmax over the last axis, computed with rank 4 at most."""
    flat = x if x.rank <= 4 else b.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    return b.reshape(b.unary("SOFTMAX", flat, beta=1.0), x.shape)


def _axis(node: ir.Node, x: Tensor) -> int:
    return int(attr(node, "axis", -1)) % x.rank


@lowers("Softmax")
def softmax(b: Builder, node: ir.Node) -> Tensor:
    """SOFTMAX, which is over the last axis: another one is moved there and back."""
    x = b.input(node)
    need_float32(x)
    axis = _axis(node, x)
    perm = (*range(axis), *range(axis + 1, x.rank), axis)
    y = softmax_last(b, b.transpose(x, perm))
    return b.transpose(y, np.argsort(perm).tolist())


@lowers("LogSoftmax")
def log_softmax(b: Builder, node: ir.Node) -> Tensor:
    """z - log(sum(exp(z))) with z = x - max(x): LOG_SOFTMAX is taken by few delegates."""
    x = b.input(node)
    need_float32(x)
    axes = [_axis(node, x)]
    z = b.binary("SUB", x, reduce(b, "REDUCE_MAX", x, axes))
    return b.binary("SUB", z, b.unary("LOG", reduce(b, "SUM", b.unary("EXP", z), axes)))


@lowers("Hardmax")
def hardmax(b: Builder, node: ir.Node) -> Tensor:
    """One at the first largest element along an axis, zero elsewhere: ARG_MAX, then ONE_HOT."""
    x = b.input(node)
    need_float32(x)
    axis = _axis(node, x)
    kept = (*x.shape[:axis], *x.shape[axis + 1 :])
    index = b.emit(
        "ARG_MAX", [x, b.const(np.int32(axis), np.int32, "axis")], kept, np.int32, output_type="INT32"
    )
    depth = b.const(np.int32(x.shape[axis]), np.int32, "depth")
    on, off = b.scalar_like(x, 1), b.scalar_like(x, 0)
    return b.emit("ONE_HOT", [index, depth, on, off], x.shape, np.float32, axis=axis)
