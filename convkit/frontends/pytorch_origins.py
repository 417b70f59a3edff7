"""Where in the user's code a node comes from, where the exporter's own optimizer has lost it."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

_TRACE = "pkg.torch.onnx.stack_trace"
_PATHS, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"


def note_calls(model: ir.Model, program: Any) -> None:
    """Give nodes without a stack trace that of the call they spell out, as the exporter writes it.

    What the optimizer makes it names after the call it replaces: `split` becomes `split_split_0`.
    """
    calls = {node.name: node for node in program.graph.nodes if node.op == "call_function"}
    for node in model.graph.all_nodes():
        if _TRACE in node.metadata_props:
            continue
        names = [value.name or "" for value in node.outputs]
        call = next((calls[name] for made in names for name in _beginnings(made) if name in calls), None)
        if call is None:
            continue
        scopes = [
            (str(path), _named(kind)) for path, kind in (call.meta.get("nn_module_stack") or {}).values()
        ]
        node.metadata_props[_TRACE] = call.meta.get("stack_trace") or ""
        node.metadata_props[_PATHS] = str([*(path for path, _ in scopes), call.name])
        node.metadata_props[_CLASSES] = str([*(kind for _, kind in scopes), str(call.target)])


def _beginnings(name: str) -> list[str]:
    """A name and what is left of it as its last words go."""
    words = name.split("_")
    return ["_".join(words[:count]) for count in range(len(words), 0, -1)]


def _named(kind: Any) -> str:
    return kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
