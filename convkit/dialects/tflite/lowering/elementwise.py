"""Elementwise operators."""

from __future__ import annotations

import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, lowers

_UNARY = {
    "Relu": "RELU",
    "Sigmoid": "LOGISTIC",
    "Tanh": "TANH",
    "Exp": "EXP",
    "Log": "LOG",
    "Sqrt": "SQRT",
    "Neg": "NEG",
    "Abs": "ABS",
    "Floor": "FLOOR",
    "Ceil": "CEIL",
    "Sin": "SIN",
    "Cos": "COS",
}
_BINARY = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV"}


@lowers(*_UNARY)
def unary(b: Builder, node: ir.Node) -> Tensor:
    """y = f(x)."""
    return b.unary(_UNARY[node.op_type], b.input(node))


@lowers(*_BINARY)
def binary(b: Builder, node: ir.Node) -> Tensor:
    """y = f(a, b) with broadcasting."""
    return b.binary(_BINARY[node.op_type], b.input(node, 0), b.input(node, 1))
