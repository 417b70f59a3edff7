"""What a target's quantized files hold: the element types, and who shares a scale."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from convkit.targets.syntax import SourceText

SCHEMES = ("int8", "int16x8", "dynamic", "w8", "w4", "fp16")
"""Quantization schemes by the names that users give."""

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ACTIVATIONS = ("INT8", "UINT8", "INT16", "UINT16")


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
    per_channel: frozenset[str] = frozenset(_WEIGHTED)
    bias: Literal["int32", "float32"] = "int32"
    results: bool = True
    operators: frozenset[str] = frozenset()

    @property
    def described(self) -> str:
        """The scheme in words."""
        zero = "zero point 0" if self.symmetric else "zero points"
        channels = (
            f"per channel in {', '.join(sorted(self.per_channel))}" if self.per_channel else "per tensor"
        )
        return f"{self.activations} activations with {zero}, int8 weights {channels}, {self.bias} biases"


def read_scheme(source: SourceText, tree: Any, operators: Collection[str]) -> QdqScheme:
    """The scheme of a `scheme` statement; raises a `rules-...` ConvkitError with the place in the file."""
    said = {part.data: list(part.children) for part in tree.children[1:] if part is not None}

    def one(token: Any, choices: Collection[str], what: str) -> str:
        if str(token) not in choices:
            raise source.unknown(token, what, choices)
        return str(token)

    def codes(tokens: list[Any]) -> frozenset[str]:
        return frozenset(one(t, operators, "the operator") for t in tokens if t is not None)

    kind, zero = said["activations"]
    stored, granularity, *channels = said["weights"]
    one(stored, ("INT8",), "the type of weights")
    per_channel = one(granularity, ("per_channel", "per_tensor"), "the granularity") == "per_channel"
    bias = one(said["bias"][0], ("INT32", "FLOAT32"), "the type of biases") if "bias" in said else "INT32"
    rounds = one(said["rounds"][0], ("results", "operands"), "what is rounded") if "rounds" in said else ""
    return QdqScheme(
        name=one(tree.children[0], ("int8", "int16x8"), "the scheme"),
        activations=np.dtype(one(kind, _ACTIVATIONS, "the type of activations").lower()),
        symmetric=one(zero, ("symmetric", "asymmetric"), "the zero point") == "symmetric",
        per_channel=(codes(channels) or frozenset(_WEIGHTED)) if per_channel else frozenset(),
        bias="float32" if bias == "FLOAT32" else "int32",
        results=rounds != "operands",
        operators=codes(said.get("only", [])),
    )
