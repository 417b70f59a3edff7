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
    "CompileResult": "convkit.compiler",
    "ConvkitError": "convkit.diagnostics",
    "Diagnostic": "convkit.diagnostics",
    "Exactness": "convkit.rewrite",
    "Pass": "convkit.passes",
    "Report": "convkit.report",
    "Rewrite": "convkit.rewrite",
    "Target": "convkit.targets",
    "check": "convkit.api",
    "compile": "convkit.api",
    "diff": "convkit.api",
    "graphsurgeon_pass": "convkit.passes",
    "load": "convkit.api",
    "load_target": "convkit.targets",
}

__all__ = [
    "CompileResult",
    "ConvkitError",
    "Diagnostic",
    "Exactness",
    "Pass",
    "Report",
    "Rewrite",
    "Target",
    "__version__",
    "check",
    "compile",
    "diff",
    "graphsurgeon_pass",
    "load",
    "load_target",
]

if TYPE_CHECKING:
    from convkit.api import check, compile, diff, load
    from convkit.compiler import CompileResult
    from convkit.diagnostics import ConvkitError, Diagnostic
    from convkit.passes import Pass, graphsurgeon_pass
    from convkit.report import Report
    from convkit.rewrite import Exactness, Rewrite
    from convkit.targets import Target, load_target


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'convkit' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
