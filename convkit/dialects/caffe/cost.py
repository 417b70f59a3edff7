"""What a Caffe layer costs: multiply-accumulates, by the formulas of `convkit.ir.cost`."""

from __future__ import annotations

from math import prod

from convkit.dialects.tflite.graph import Op


def macs(op: Op) -> int:
    """Multiply-accumulates of a convolution or product; 0 for every other layer."""
    if op.code not in {"Convolution", "Deconvolution", "InnerProduct"}:
        return 0
    data, filters = op.inputs[0], op.inputs[1]
    assert data is not None
    assert filters is not None
    values = data if op.code == "Deconvolution" else op.output
    return prod(values.shape) * prod(filters.shape[1:])
