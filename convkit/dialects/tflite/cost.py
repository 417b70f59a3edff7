"""What a TFLite operator costs: multiply-accumulates and bytes moved."""

from __future__ import annotations

from math import prod

from convkit.dialects.tflite.graph import Op


def macs(op: Op) -> int:
    """Multiply-accumulates of a convolution or matrix product; 0 for every other operator.

    CONV_2D: output elements x filter h*w*i (filter is [o, h, w, i]); DEPTHWISE_CONV_2D: output
    elements x h*w; TRANSPOSE_CONV: input elements x filter o*h*w; FULLY_CONNECTED: output elements x
    filter i; BATCH_MATMUL: output elements x the contracted dimension.
    """
    shapes = [() if t is None else t.shape for t in op.inputs]
    out = prod(op.outputs[0].shape)
    match op.code:
        case "CONV_2D":
            return out * prod(shapes[1][1:])
        case "DEPTHWISE_CONV_2D":
            return out * prod(shapes[1][1:3])
        case "TRANSPOSE_CONV":  # inputs: output_shape, filter, input
            return prod(shapes[2]) * prod(shapes[1][:3])
        case "FULLY_CONNECTED":
            return out * shapes[1][-1]
        case "BATCH_MATMUL":
            return out * shapes[0][-2 if op.options.get("adj_x") else -1]
    return 0


def bytes_moved(op: Op) -> int:
    """Bytes the operator reads and writes, constants included."""
    return sum(t.nbytes for t in (*op.inputs, *op.outputs) if t is not None)
