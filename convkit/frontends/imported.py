"""What a frontend is asked and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir


@dataclass(frozen=True)
class ImportOptions:
    """How a model is to be read; every format heeds what it has a use for.

    `inputs` gives static shapes to inputs, by name, and `dtypes` their element types where the model states
    none; `freeze` gives values to inputs that are to become constants. For PyTorch: `example_inputs` as the
    module takes them, `weights` a file of its state, `translations` custom operators for the exporter.
    `trust` allows code that a model file brings along to run.
    """

    inputs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    freeze: Mapping[str, Any] = field(default_factory=dict)
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None
    weights: Path | None = None
    translations: Mapping[Any, Any] = field(default_factory=dict)
    trust: bool = False


class Runtime(Protocol):
    """Runs the model as it was given: what every artifact is measured against."""

    @property
    def description(self) -> str:
        """The runtime's name and version."""
        ...

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. `inputs` may hold names that the model does not read; raises RunError."""
        ...


@dataclass(frozen=True)
class Imported:
    """A model in ONNX's operators, not yet in normal form, every origin noted; and what it came from."""

    model: ir.Model
    format: str
    reference: Runtime
