"""Lowerings for one purpose, beside the registered ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.lowering.builder import Builder


@dataclass(frozen=True)
class Special:
    """Lowerings to try before the registered ones (they may give None), and what to do with the operators
    that a node became."""

    lowerings: Mapping[tuple[str, str], Callable[[Builder, ir.Node], Tensor | None]]
    after: Callable[[ir.Node, list[Op]], None]
