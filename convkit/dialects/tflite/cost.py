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
    if op.code not in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"):
        return 0
    first, second = op.inputs[0], op.inputs[1]
    assert first is not None and second is not None
    out = prod(op.outputs[0].shape)
    if op.code == "CONV_2D":
        return out * prod(second.shape[1:])
    if op.code == "DEPTHWISE_CONV_2D":
        return out * prod(second.shape[1:3])
    if op.code == "TRANSPOSE_CONV":
        image = op.inputs[2]  # output_shape, filter, input
        assert image is not None
        return prod(image.shape) * prod(second.shape[:3])
    if op.code == "FULLY_CONNECTED":
        return out * second.shape[-1]
    return out * first.shape[-2 if op.options.get("adj_x") else -1]


def bytes_moved(op: Op) -> int:
    """Bytes the operator reads and writes, constants included."""
    return sum(t.nbytes for t in (*op.inputs, *op.outputs) if t is not None)
