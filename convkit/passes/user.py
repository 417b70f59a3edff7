"""A user's own passes: from a Python file, an entry point, or an onnx-graphsurgeon function."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx_ir as ir

from convkit.diagnostics import ExitCode, Location, did_you_mean, error
from convkit.passes.base import FunctionPass, Pass, user_code
from convkit.passes.pipeline import as_pass
from convkit.rewrite import Rewrite

ENTRY_POINT = "convkit.passes"
"""The group: a name, and the module (or list of passes) that it stands for."""


def load_passes(source: Path | str) -> list[Pass]:
    """The passes of a Python file, or of the entry point of that name: its list `PASSES`, or else every
    Rewrite class and Pass object in it.

    The file is executed. Raises ConvkitError: "no-such-passes", "user-code-failed" with the file and line
    where that fails, "bad-pass-file" where there is no pass in it.
    """
    installed = {point.name: point for point in entry_points(group=ENTRY_POINT)}
    text = str(source)
    if text in installed:
        with user_code(f"importing {installed[text].value}"):
            return _passes_in(installed[text].load(), text)
    if not Path(source).is_file():
        raise error(
            "no-such-passes",
            f"there is no such file, nor an installed entry point {text!r}",
            location=Location(file=text),
            help=did_you_mean(text, installed),
        )
    return _passes_in(_import_file(Path(source)), text)


def _import_file(path: Path) -> ModuleType:
    name = f"convkit_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise error("bad-pass-file", "this is not a Python file (.py)", location=Location(file=str(path)))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is being executed
    try:
        with user_code("importing it"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _passes_in(loaded: Any, where: str) -> list[Pass]:
    if not isinstance(loaded, ModuleType):
        items = list(loaded) if isinstance(loaded, (list, tuple)) else [loaded]
    elif hasattr(loaded, "PASSES"):
        items = list(loaded.PASSES)
    else:
        items = [item for item in vars(loaded).values() if _is_own(item, loaded)]
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


def graphsurgeon_pass(function: Callable[[Any], Any]) -> FunctionPass:
    """A function on an `onnx_graphsurgeon.Graph` (in place, or returning a graph) as a pass.

    Needs the extra `graphsurgeon`. Inputs and outputs must stay, since the result is verified against
    the imported model. Names of nodes that stay keep their origin.
    """
    name = function.__name__.replace("_", "-")

    def run(model: ir.Model) -> ir.Model:
        try:
            import onnx_graphsurgeon as gs
        except ImportError as e:
            raise error(
                "missing-extra",
                f"pass {name!r} needs onnx-graphsurgeon, which is not installed",
                help="pip install 'convkit[graphsurgeon]'",
                exit_code=ExitCode.TOOLCHAIN,
            ) from e
        graph = gs.import_onnx(ir.serde.serialize_model(model))
        result = function(graph)
        graph = graph if result is None else result
        graph.cleanup().toposort()
        changed = ir.serde.deserialize_model(gs.export_onnx(graph))
        before, after = _interface(model), _interface(changed)
        if before != after:
            raise error(
                "interface-changed",
                f"pass {name!r} changed the model's interface from {before} to {after}",
                help="change inputs and outputs before compiling, so that the result can be verified",
            )
        kept = {node.name: node for node in model.graph}
        for node in changed.graph:
            if node.name in kept:
                node.meta.update(kept[node.name].meta)
        return changed

    return FunctionPass(name=name, function=run)


def _interface(model: ir.Model) -> str:
    sides = (model.graph.inputs, model.graph.outputs)
    return " -> ".join("(" + ", ".join(str(v.name) for v in side) + ")" for side in sides)
