"""A user's own passes: from a Python file, an entry point, or an onnx-graphsurgeon function."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx_ir as ir

from convkit.diagnostics import ConvkitError, ExitCode, Location, error
from convkit.passes.base import FunctionPass, Pass
from convkit.passes.pipeline import as_pass
from convkit.rewrite import Rewrite

ENTRY_POINT = "convkit.passes"


def load_passes(path: Path | str) -> list[Pass]:
    """The passes of a Python file: its list `PASSES`, or else every Rewrite class and Pass object in it.

    The file is executed. Raises ConvkitError "bad-pass-file" with the file and line where that fails.
    """
    path = Path(path)
    if not path.is_file():
        raise error("bad-pass-file", "there is no such file", location=Location(file=str(path)))
    name = f"convkit_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise error("bad-pass-file", "this is not a Python file (.py)", location=Location(file=str(path)))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        del sys.modules[name]
        raise _failed(path, e) from e
    return _passes_in(module, str(path))


def entry_point_passes() -> list[Pass]:
    """The passes that installed packages offer by the entry point `convkit.passes`, in the order of names."""
    found: list[Pass] = []
    for point in sorted(entry_points(group=ENTRY_POINT), key=lambda p: p.name):
        loaded = point.load()
        if isinstance(loaded, ModuleType):
            found += _passes_in(loaded, point.value)
        else:
            found += [as_pass(item) for item in (loaded if isinstance(loaded, (list, tuple)) else [loaded])]
    return found


def graphsurgeon_pass(function: Callable[[Any], Any]) -> FunctionPass:
    """A function on an `onnx_graphsurgeon.Graph` (in place, or returning a graph) as a pass.

    Needs the extra `graphsurgeon`. Names of nodes that stay keep their origin.
    """

    def run(model: ir.Model) -> ir.Model:
        try:
            import onnx_graphsurgeon as gs
        except ImportError as e:
            raise error(
                "missing-extra",
                "onnx-graphsurgeon is not installed",
                help="pip install 'convkit[graphsurgeon]'",
                exit_code=ExitCode.TOOLCHAIN,
            ) from e
        graph = gs.import_onnx(ir.serde.serialize_model(model))
        result = function(graph)
        graph = graph if result is None else result
        graph.cleanup().toposort()
        changed = ir.serde.deserialize_model(gs.export_onnx(graph))
        kept = {node.name: node for node in model.graph}
        for node in changed.graph:
            if node.name in kept:
                node.meta.update(kept[node.name].meta)
        return changed

    return FunctionPass(name=function.__name__, function=run)


def _passes_in(module: ModuleType, where: str) -> list[Pass]:
    if hasattr(module, "PASSES"):
        items = list(module.PASSES)
    else:
        items = [item for item in vars(module).values() if _is_own(item, module)]
    if not items:
        raise error(
            "bad-pass-file",
            "there is no Rewrite, no Pass and no list PASSES in it",
            location=Location(file=where),
        )
    return [as_pass(item) for item in items]


def _is_own(item: Any, module: ModuleType) -> bool:
    """Whether this is a Rewrite class written in the module, or a Pass object."""
    if isinstance(item, Pass):
        return True
    is_rewrite = isinstance(item, type) and issubclass(item, Rewrite) and not inspect.isabstract(item)
    return is_rewrite and item.__module__ == module.__name__


def _failed(path: Path, exception: Exception) -> ConvkitError:
    line = None
    if isinstance(exception, SyntaxError):
        line = exception.lineno
    else:
        frames = [f for f in traceback.extract_tb(exception.__traceback__) if f.filename == str(path)]
        line = frames[-1].lineno if frames else None
    message = (
        f"{type(exception).__name__}: {exception.msg if isinstance(exception, SyntaxError) else exception}"
    )
    return error("bad-pass-file", message, location=Location(file=str(path), line=line))
