"""Defer a slow import of a dependency until it is used.

onnx_ir imports sympy, half a second of start-up, for arithmetic on symbolic dimensions; a model with
static shapes never does any.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """Stands for a module in `sys.modules` until an attribute of it is asked for."""

    def __getattr__(self, attribute: str) -> Any:
        name = self.__dict__["__name__"]
        if sys.modules.get(name) is self:
            del sys.modules[name]
        module = importlib.import_module(name)
        self.__dict__.update(module.__dict__)
        return getattr(module, attribute)


def defer(name: str) -> None:
    """Let `import name` cost nothing until the module is used; nothing if it is loaded already."""
    if name not in sys.modules:
        sys.modules[name] = _Deferred(name)
