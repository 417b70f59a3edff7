"""What an operator costs, whatever its dialect: no name is shared between them."""

from __future__ import annotations

from convkit.dialects.caffe.cost import macs as caffe_macs
from convkit.dialects.onnx.cost import macs as onnx_macs
from convkit.dialects.tflite.cost import bytes_moved
from convkit.dialects.tflite.cost import macs as tflite_macs
from convkit.dialects.tflite.graph import Op

__all__ = ["bytes_moved", "macs"]


def macs(op: Op) -> int:
    """Multiply-accumulates of an operator."""
    return tflite_macs(op) or onnx_macs(op) or caffe_macs(op)
