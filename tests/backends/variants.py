"""The targets that the matrix compiles for, with each backend: one entry for each way it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """A target with compile options, and the models that it refuses: the diagnostic's code by model."""

    backend: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """For the test's name: the target and what makes it differ."""
        words = (f"{key}={value}" for key, value in self.options.items() if key != "calibration")
        return " ".join([self.target, *words])


_NCNN = {"lstm": "toolchain-refused", "quantized": "toolchain-refused"}

VARIANTS = (
    Variant("ncnn", "ncnn", refused=_NCNN),
    Variant("ncnn", "ncnn", {"precision": "fp16"}, refused=_NCNN),
)
