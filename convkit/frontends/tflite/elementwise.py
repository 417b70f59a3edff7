"""Element by element: arithmetic, comparison, activations, types."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Op
from convkit.frontends.tflite.builder import Builder, RefusedError, imports

_UNARY = {
    "ABS": "Abs",
    "CEIL": "Ceil",
    "COS": "Cos",
    "ELU": "Elu",
    "EXP": "Exp",
    "FLOOR": "Floor",
    "HARD_SWISH": "HardSwish",
    "LOG": "Log",
    "LOGICAL_NOT": "Not",
    "LOGISTIC": "Sigmoid",
    "NEG": "Neg",
    "RELU": "Relu",
    "ROUND": "Round",
    "SIGN": "Sign",
    "SIN": "Sin",
    "SQRT": "Sqrt",
    "TANH": "Tanh",
}
_BINARY = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "POW": "Pow",
    "EQUAL": "Equal",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "LOGICAL_AND": "And",
    "LOGICAL_OR": "Or",
    "BITWISE_XOR": "BitwiseXor",
}
_CLIPS = {"RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}


@imports(*_UNARY)
def unary(b: Builder, op: Op) -> ir.Value:
    """One ONNX operator of the same meaning."""
    return b.op(_UNARY[op.code], b.real(op.inputs[0]))


@imports(*_BINARY)
def binary(b: Builder, op: Op) -> ir.Value:
    """One ONNX operator of the same meaning, then the fused activation."""
    x, y = (b.real(t) for t in op.inputs[:2])
    return b.activated(b.op(_BINARY[op.code], x, y), op.options)


@imports("NOT_EQUAL")
def not_equal(b: Builder, op: Op) -> ir.Value:
    """not (x = y)."""
    return b.op("Not", b.op("Equal", b.real(op.inputs[0]), b.real(op.inputs[1])))


@imports(*_CLIPS)
def clip(b: Builder, op: Op) -> ir.Value:
    """An activation that limits."""
    return b.clip(b.real(op.inputs[0]), *_CLIPS[op.code])


@imports("SQUARE")
def square(b: Builder, op: Op) -> ir.Value:
    """x^2."""
    return b.op("Pow", b.real(op.inputs[0]), b.const(2, op.outputs[0].dtype))


@imports("SQUARED_DIFFERENCE")
def squared_difference(b: Builder, op: Op) -> ir.Value:
    """(x - y)^2."""
    d = b.op("Sub", b.real(op.inputs[0]), b.real(op.inputs[1]))
    return b.op("Mul", d, d)


@imports("RSQRT")
def rsqrt(b: Builder, op: Op) -> ir.Value:
    """1 / sqrt(x)."""
    return b.op("Reciprocal", b.op("Sqrt", b.real(op.inputs[0])))


@imports("FLOOR_DIV")
def floor_div(b: Builder, op: Op) -> ir.Value:
    """The quotient rounded down; of integers, ONNX's own quotient is cut towards zero."""
    x, y = (b.real(t) for t in op.inputs[:2])
    if op.outputs[0].dtype.kind == "f":
        return b.op("Floor", b.op("Div", x, y))
    return b.op("Div", b.op("Sub", x, b.op("Mod", x, y)), y)


@imports("FLOOR_MOD")
def floor_mod(b: Builder, op: Op) -> ir.Value:
    """The remainder with the divisor's sign; of floats, ONNX gives that with the dividend's."""
    x, y = (b.real(t) for t in op.inputs[:2])
    if op.outputs[0].dtype.kind != "f":
        return b.op("Mod", x, y)
    zero = b.const(0, np.float32)
    rest = b.op("Mod", x, y, fmod=1)
    turned = b.op("Xor", b.op("Less", y, zero), b.op("Less", rest, zero))
    wrong = b.op("And", turned, b.op("Not", b.op("Equal", rest, zero)))
    return b.op("Where", wrong, b.op("Add", rest, y), rest)


@imports("RIGHT_SHIFT")
def right_shift(b: Builder, op: Op) -> ir.Value:
    """x >> y; ONNX shifts unsigned integers only."""
    if op.outputs[0].dtype.kind != "u":
        raise RefusedError("it shifts signed integers")
    return b.op("BitShift", b.real(op.inputs[0]), b.real(op.inputs[1]), direction="RIGHT")


@imports("ATAN2")
def atan2(b: Builder, op: Op) -> ir.Value:
    """ATAN2(x, 1) is Atan(x); ONNX has no operator for the rest."""
    one = op.inputs[1]
    if one is None or one.data is None or not np.all(one.data == 1):
        raise RefusedError("its second operand is not the constant one")
    return b.op("Atan", b.real(op.inputs[0]))


@imports("LEAKY_RELU")
def leaky_relu(b: Builder, op: Op) -> ir.Value:
    """x, or alpha x below zero."""
    return b.op("LeakyRelu", b.real(op.inputs[0]), alpha=float(op.options["alpha"]))


@imports("PRELU")
def prelu(b: Builder, op: Op) -> ir.Value:
    """x, or slope x below zero."""
    return b.op("PRelu", b.real(op.inputs[0]), b.real(op.inputs[1]))


@imports("GELU")
def gelu(b: Builder, op: Op) -> ir.Value:
    """By erf or by tanh."""
    return b.op("Gelu", b.real(op.inputs[0]), approximate="tanh" if op.options["approximate"] else "none")


@imports("SOFTMAX")
def softmax(b: Builder, op: Op) -> ir.Value:
    """softmax(beta x) along the last axis."""
    x, beta = b.real(op.inputs[0]), float(op.options["beta"])
    return b.op("Softmax", x if beta == 1 else b.op("Mul", x, b.const(beta, np.float32)), axis=-1)


@imports("LOG_SOFTMAX")
def log_softmax(b: Builder, op: Op) -> ir.Value:
    """Along the last axis."""
    return b.op("LogSoftmax", b.real(op.inputs[0]), axis=-1)


@imports("L2_NORMALIZATION")
def l2_normalization(b: Builder, op: Op) -> ir.Value:
    """x / max(|x|, 1e-6) along the last axis; the bound is the kernel's."""
    x = b.real(op.inputs[0])
    norm = b.op("ReduceL2", x, b.ints([-1]), keepdims=1)
    return b.op("Div", x, b.op("Max", norm, b.const(1e-6, np.float32)))


@imports("CAST")
def cast(b: Builder, op: Op) -> ir.Value:
    """The stored numbers in another type."""
    assert op.inputs[0] is not None
    return b.op("Cast", b.stored(op.inputs[0]), to=int(ir.DataType.from_numpy(op.outputs[0].dtype)))


@imports("QUANTIZE", "DEQUANTIZE")
def requantize(b: Builder, op: Op) -> ir.Value:
    """The same numbers, stored otherwise."""
    x = op.inputs[0]
    assert x is not None
    value = b.real(x)
    if x.dtype == np.float16:
        if x.data is not None:
            return b.const(x.data.astype(np.float32), name=x.name)
        return b.op("Cast", value, to=int(ir.DataType.FLOAT))
    return value


@imports("SELECT", "SELECT_V2")
def select(b: Builder, op: Op) -> ir.Value:
    """y where the condition holds, else z; SELECT takes a condition per row too."""
    condition, y, z = op.inputs[:3]
    assert condition is not None
    assert y is not None
    chosen = b.stored(condition)
    if op.code == "SELECT" and condition.rank == 1 and y.rank > 1:
        chosen = b.reshape(chosen, (*condition.shape, *[1] * (y.rank - 1)))
    return b.op("Where", chosen, b.real(y), b.real(z))


@imports("ZEROS_LIKE")
def zeros_like(b: Builder, op: Op) -> ir.Value:
    """x's shape, all zero."""
    return b.const(np.zeros(op.outputs[0].shape, op.outputs[0].dtype))
