"""Passes on the ONNX normal form: what is built in, and a user's own.

Imported when first used, so that the command line starts without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "FunctionPass": "convkit.passes.base",
    "Pass": "convkit.passes.base",
    "PassManager": "convkit.passes.pipeline",
    "RewritePass": "convkit.passes.base",
    "as_pass": "convkit.passes.pipeline",
    "default_pipeline": "convkit.passes.pipeline",
    "graphsurgeon_pass": "convkit.passes.user",
    "load_passes": "convkit.passes.user",
}

__all__ = [
    "FunctionPass",
    "Pass",
    "PassManager",
    "RewritePass",
    "as_pass",
    "default_pipeline",
    "graphsurgeon_pass",
    "load_passes",
]

if TYPE_CHECKING:
    from convkit.passes.base import FunctionPass, Pass, RewritePass
    from convkit.passes.pipeline import PassManager, as_pass, default_pipeline
    from convkit.passes.user import graphsurgeon_pass, load_passes


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
