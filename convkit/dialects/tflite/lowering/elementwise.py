"""Elementwise arithmetic, comparisons, logic, selection and conversion."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.movement import broadcast
from convkit.dialects.tflite.schema import type_name
from convkit.ir.facts import attr, dtype_of, is_op

_UNARY = {
    "Abs": "ABS",
    "Ceil": "CEIL",
    "Cos": "COS",
    "Exp": "EXP",
    "Floor": "FLOOR",
    "Log": "LOG",
    "Neg": "NEG",
    "Not": "LOGICAL_NOT",
    "Round": "ROUND",
    "Sigmoid": "LOGISTIC",
    "Sign": "SIGN",
    "Sin": "SIN",
    "Sqrt": "SQRT",
    "Tanh": "TANH",
}
_BINARY = {"Add": "ADD", "Div": "DIV", "Max": "MAXIMUM", "Min": "MINIMUM", "Mul": "MUL", "Sub": "SUB"}
_PREDICATE = {
    "And": "LOGICAL_AND",
    "Equal": "EQUAL",
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
    "Or": "LOGICAL_OR",
    "Xor": "NOT_EQUAL",
}


def absolute(b: Builder, x: Tensor) -> Tensor:
    """|x|; the kernel of ABS lacks int64."""
    return b.binary("MAXIMUM", x, b.unary("NEG", x)) if x.dtype == np.int64 else b.unary("ABS", x)


@lowers(*_UNARY)
def unary(b: Builder, node: ir.Node) -> Tensor:
    """y = f(x)."""
    x = b.input(node)
    if node.op_type == "Abs":
        return absolute(b, x)
    if x.dtype.kind in "iu" and node.op_type == "Sign":
        positive = b.binary("MINIMUM", x, b.scalar_like(x, 1))
        return positive if x.dtype.kind == "u" else b.binary("MAXIMUM", positive, b.scalar_like(x, -1))
    return b.unary(_UNARY[node.op_type], x)


@lowers(*_BINARY)
def binary(b: Builder, node: ir.Node) -> Tensor:
    """y = f(a, b) with broadcasting; an integer DIV truncates in both worlds."""
    return b.binary(_BINARY[node.op_type], b.input(node, 0), b.input(node, 1))


@lowers(*_PREDICATE)
def predicate(b: Builder, node: ir.Node) -> Tensor:
    """A boolean of two operands, with broadcasting."""
    return b.binary(_PREDICATE[node.op_type], b.input(node, 0), b.input(node, 1), np.bool_)


@lowers("Pow")
def power(b: Builder, node: ir.Node) -> Tensor:
    """x ** e in the type of x; the common exponents have cheaper operators."""
    x, e = b.input(node, 0), b.input(node, 1)
    exponent = float(e.data.reshape(-1)[0]) if e.data is not None and e.data.size == 1 else None
    if x.dtype.kind == "f" and e.rank <= x.rank:
        if exponent == 1:
            return x
        if exponent == 2:
            return b.unary("SQUARE", x)
        if exponent == 3:
            return b.binary("MUL", b.unary("SQUARE", x), x)
        if exponent == -1:
            return b.binary("DIV", b.scalar_like(x, 1), x)
    if x.dtype.kind in "iu" and (e.dtype.kind == "f" or e.data is None or e.data.min() < 0):
        raise UnsupportedError("an integer base wants a constant, non-negative integer exponent")
    e = b.cast(e, x.dtype)
    if x.data is not None and x.dtype.kind == "f" and x.data.min(initial=np.inf) > 0:
        # The GPU delegate computes some of these with the operands exchanged, XNNPACK has no POW.
        return b.unary("EXP", b.binary("MUL", e, b.const(np.log(x.data), hint="logarithm")))
    return b.binary("POW", x, e)


@lowers("Mod")
def modulo(b: Builder, node: ir.Node) -> Tensor:
    """The remainder: of the sign of the divisor (fmod = 0) or of the dividend (fmod = 1)."""
    x, y = b.input(node, 0), b.input(node, 1)
    if not attr(node, "fmod", 0) or x.dtype.kind in "bu":
        return b.binary("FLOOR_MOD", x, y)
    x_size, y_size = (b.unary("ABS", t) if t.data is None else b.const(np.abs(t.data)) for t in (x, y))
    magnitude = b.binary("FLOOR_MOD", x_size, y_size)
    return b.binary("MUL", b.unary("SIGN", x), magnitude)


@lowers("Reciprocal")
def reciprocal(b: Builder, node: ir.Node) -> Tensor:
    """1 / x; of a square root, RSQRT."""
    x = b.input(node)
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    if producer is not None and is_op(producer, "Sqrt"):
        return b.unary("RSQRT", b.input(producer))
    return b.binary("DIV", b.scalar_like(x, 1), x)


@lowers("IsNaN")
def is_nan(b: Builder, node: ir.Node) -> Tensor:
    """Only NaN differs from itself."""
    x = b.input(node)
    return b.binary("NOT_EQUAL", x, x, np.bool_)


@lowers("IsInf")
def is_inf(b: Builder, node: ir.Node) -> Tensor:
    """x is +inf, -inf or either, by the attributes."""
    x = b.input(node)
    positive, negative = attr(node, "detect_positive", 1), attr(node, "detect_negative", 1)
    if positive and negative:
        x = b.unary("ABS", x)
    bound = np.inf if positive else -np.inf
    if not positive and not negative:
        bound = np.nan  # equal to nothing
    return b.binary("EQUAL", x, b.scalar_like(x, bound), np.bool_)


@lowers("Where")
def where(b: Builder, node: ir.Node) -> Tensor:
    """x where the condition holds, else y; the GPU delegate broadcasts single numbers only."""
    operands = [b.input(node, i) for i in range(3)]
    shape = np.broadcast_shapes(*(t.shape for t in operands))
    for i, t in enumerate(operands):
        if i == 0 or t.data is None or t.data.size > 1:
            operands[i] = broadcast(b, t, shape)
    return b.emit("SELECT_V2", operands, shape, operands[1].dtype)


@lowers("Cast")
def cast(b: Builder, node: ir.Node) -> Tensor:
    """x in another element type; TFLite converts as C++ does, which is what ONNX asks."""
    x = b.input(node)
    dtype = dtype_of(node.outputs[0])
    try:
        type_name(dtype.numpy())
    except (KeyError, TypeError):
        raise UnsupportedError(f"TFLite has no element type {dtype}") from None
    return b.cast(x, dtype.numpy())


@lowers("Identity")
def identity(b: Builder, node: ir.Node) -> Tensor:
    """x itself; the normal form keeps it only between the graph's own inputs and outputs."""
    return b.input(node)
