"""What a judged ONNX operator costs: multiply-accumulates, by the formulas of `convkit.ir.cost`."""

from __future__ import annotations

from math import prod

from convkit.dialects.tflite.graph import Op


def macs(op: Op) -> int:
    """Multiply-accumulates of a convolution or matrix product; 0 for every other operator."""
    shapes = [() if t is None else t.shape for t in op.inputs]
    match op.code:
        case "Conv":
            return prod(op.outputs[0].shape) * prod(shapes[1][1:])
        case "ConvTranspose":
            return prod(shapes[0]) * prod(shapes[1][1:])
        case "MatMul":
            return prod(op.outputs[0].shape) * shapes[0][-1]
        case "Gemm":
            return prod(op.outputs[0].shape) * shapes[0][0 if op.options.get("transA") else 1]
    return 0
