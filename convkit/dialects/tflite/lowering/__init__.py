"""The registry of TFLite lowerings; importing this package registers them all."""

import importlib
import pkgutil

from convkit.dialects.tflite.lowering.builder import (
    NCHW,
    NHWC,
    Builder,
    UnsupportedError,
    lower,
    lowered_operators,
    lowers,
)

__all__ = ["NCHW", "NHWC", "Builder", "UnsupportedError", "lower", "lowered_operators", "lowers"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
