"""The registry of Caffe lowerings; importing this package registers them all."""

import importlib
import pkgutil

from convkit.dialects.caffe.lowering.builder import lower, lowered_operators, refuse_custom

__all__ = ["lower", "lowered_operators", "refuse_custom"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
