"""convkit: compile trained models to the files edge targets run.

The names below are the public API. Each is imported when first used, so `import convkit` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from convkit._deferred import defer

__version__ = "0.1.0"

defer("sympy")
defer("onnx_ir._symbolic_shapes")

_HOME = {
    "ConvkitError": "convkit.diagnostics",
    "Diagnostic": "convkit.diagnostics",
    "Report": "convkit.report",
    "Rewrite": "convkit.rewrite",
    "graphsurgeon_pass": "convkit.passes.graphsurgeon",
}

__all__ = [
    "ConvkitError",
    "Diagnostic",
    "Report",
    "Rewrite",
    "__version__",
    "graphsurgeon_pass",
]

if TYPE_CHECKING:
    from convkit.diagnostics import ConvkitError, Diagnostic
    from convkit.passes.graphsurgeon import graphsurgeon_pass
    from convkit.report import Report
    from convkit.rewrite import Rewrite


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'convkit' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
