"""What quantization asks of each operator: where its weights are, and which grids it ties or fixes.

Source: the TFLite 8-bit quantization specification, and the checks of the kernels themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convkit.dialects.tflite.graph import Op, Quantization, Tensor
from convkit.dialects.tflite.kernels import quantized_dtypes
from convkit.quantize.grid import FLOAT32, INT8, grid


@dataclass(frozen=True)
class Weighted:
    """Positions of activation, filters and bias among the inputs, and the filters' channel axes.

    `channel` is the output channel, `depth` the input channel; of a depthwise filter they are one.
    """

    activation: int
    filters: int
    bias: int
    channel: int
    depth: int


WEIGHTED = {
    "CONV_2D": Weighted(0, 1, 2, 0, 3),
    "DEPTHWISE_CONV_2D": Weighted(0, 1, 2, 3, 3),
    "FULLY_CONNECTED": Weighted(0, 1, 2, 0, 1),
    "TRANSPOSE_CONV": Weighted(2, 1, 3, 0, 3),
}

MOVEMENT = frozenset(
    {
        "CONCATENATION",
        "DEPTH_TO_SPACE",
        "GATHER",
        "GATHER_ND",
        "MIRROR_PAD",
        "PACK",
        "PAD",
        "PADV2",
        "RESHAPE",
        "REVERSE_V2",
        "SELECT_V2",
        "SLICE",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "SPLIT_V",
        "STRIDED_SLICE",
        "TILE",
        "TRANSPOSE",
        "UNPACK",
    }
)
"""Operators that only move numbers: they follow what makes their inputs."""

TIED = MOVEMENT | {
    "AVERAGE_POOL_2D",
    "MAXIMUM",
    "MAX_POOL_2D",
    "MINIMUM",
    "REDUCE_MAX",
    "REDUCE_MIN",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
}
"""Operators whose inputs and outputs share one grid."""

SELECTING = frozenset({"MAXIMUM", "MINIMUM"})
"""Tied operators whose constants may saturate: what lies beyond the outputs' range is not selected."""

_FIXED_8 = {
    "SOFTMAX": (1 / 256, -128),
    "LOGISTIC": (1 / 256, -128),
    "TANH": (1 / 128, 0),
    "L2_NORMALIZATION": (1 / 128, 0),
    "LOG_SOFTMAX": (16 / 256, 127),
}
_FIXED_16 = dict.fromkeys(("SOFTMAX", "LOGISTIC", "TANH"), (1 / 32768, 0))


def fixed_grid(code: str, dtype: np.dtype[Any]) -> Quantization | None:
    """The only grid that an operator's output may have, where the kernel knows one only."""
    found = (_FIXED_8 if dtype == INT8 else _FIXED_16).get(code)
    return None if found is None else grid(*found)


_LARGEST = 1e30
"""Constants from here on, infinite ones among them, have no grid."""


def is_activation(op: Op, at: int) -> bool:
    """Whether input `at` is quantized as an activation is: float, and no filters or bias."""
    tensor = op.inputs[at]
    if tensor is None or tensor.dtype != FLOAT32:
        return False
    roles = WEIGHTED.get(op.code)
    return roles is None or at == roles.activation


def activations(op: Op) -> list[Tensor]:
    """The float inputs that are quantized as activations, constants among them."""
    return [t for at, t in enumerate(op.inputs) if t is not None and is_activation(op, at)]


def results(op: Op) -> list[Tensor]:
    """The float outputs."""
    return [t for t in op.outputs if t.dtype == FLOAT32]


def has_kernel(op: Op, dtype: np.dtype[Any]) -> bool:
    """Whether the operator, as it stands, has a kernel for activations of `dtype`."""
    read = activations(op)
    if dtype not in quantized_dtypes(op.code) or not (read or results(op)):
        return False
    if any(t.data is not None and t.data.size and not np.abs(t.data).max() < _LARGEST for t in read):
        return False
    roles = WEIGHTED.get(op.code)
    if roles is None:
        return True
    constants = [op.inputs[at] for at in (roles.filters, roles.bias) if at < len(op.inputs)]
    return all(t is None or (t.is_constant and t.dtype == FLOAT32) for t in constants)
