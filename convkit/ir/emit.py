"""What an expansion of one node into normal-form nodes is written with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

Results = Sequence[ir.Value]


class Emit(Protocol):
    """Puts nodes of the normal opset in the place of the node being expanded.

    Each call brings its node to normal form at once: it may come back folded, or as nothing but its input.
    """

    def op(self, op_type: str, *inputs: ir.Value | None, outputs: int = 1, **attributes: Any) -> ir.Value:
        """Emit one node and return its first output."""
        ...

    def ops(self, op_type: str, *inputs: ir.Value | None, outputs: int, **attributes: Any) -> Results:
        """Emit one node and return all its outputs."""
        ...

    def const(self, array: np.ndarray) -> ir.Value:
        """A constant value."""
        ...

    def ints(self, values: Sequence[int]) -> ir.Value:
        """A constant int64 vector."""
        ...
