"""What a target's quantized files hold: the element types, and who shares a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class QdqScheme:
    """A quantization scheme of a target that reads ONNX with QuantizeLinear and DequantizeLinear.

    `activations` is the element type of activations, with zero point 0 where they are `symmetric`; weights
    are symmetric int8, with a scale per output channel in the operators of `per_channel` and one per tensor
    elsewhere; biases are int32 on the grid of the products, or stay in `bias` float32. Results of quantized
    operators are rounded, or with `results` False only what another quantized operator reads (the target
    fuses the rest). `operators` are quantized, () meaning all that can be.
    """

    name: str
    activations: np.dtype[Any]
    symmetric: bool = False
    per_channel: frozenset[str] = frozenset(WEIGHTED)
    bias: Literal["int32", "float32"] = "int32"
    results: bool = True
    operators: frozenset[str] = frozenset()
