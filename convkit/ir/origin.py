"""Origin: which part of the user's model a node came from, kept through every rewrite."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

_KEY = "convkit.origin"


@dataclass(frozen=True)
class Origin:
    """Imported node names, framework module paths, `file:line` sources, and rewrite ids applied."""

    nodes: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()

    def union(self, *others: Origin) -> Origin:
        """Merge, keeping the first-seen order and dropping repeats."""
        every = (self, *others)
        return Origin(
            *(
                tuple(dict.fromkeys(x for o in every for x in getattr(o, field)))
                for field in ("nodes", "modules", "sources", "rewrites")
            )
        )

    def through(self, rewrite_id: str) -> Origin:
        """The origin of what rewrite `rewrite_id` made out of nodes with this origin."""
        return self.union(Origin(rewrites=(rewrite_id,)))


def origin_of(node: ir.Node) -> Origin:
    """The origin of `node`; a node that was never annotated stands for itself."""
    found = node.meta.get(_KEY)
    return found if isinstance(found, Origin) else Origin(nodes=(node.name,) if node.name else ())


def has_origin(node: ir.Node) -> bool:
    """Whether `node` was annotated."""
    return isinstance(node.meta.get(_KEY), Origin)


def set_origin(node: ir.Node, origin: Origin) -> None:
    """Attach `origin` to `node`."""
    node.meta[_KEY] = origin


def merge_origins(nodes: Iterable[ir.Node]) -> Origin:
    """The union of the origins of `nodes`."""
    return Origin().union(*(origin_of(node) for node in nodes))


def annotate_origins(model: ir.Model) -> None:
    """Give every node of `model` that has none the origin it was imported with.

    A node without a name is called after its first output, which every ONNX file has.
    """
    for graph in (model.graph, *(f.graph for f in model.functions.values())):
        for node in graph.all_nodes():
            if _KEY not in node.meta:
                set_origin(node, _imported(node))


def _imported(node: ir.Node) -> Origin:
    props = node.metadata_props
    if not node.name:
        node.name = next((v.name for v in node.outputs if v.name), node.op_type)
    return Origin((node.name,), _modules(props), _sources(props.get("pkg.torch.onnx.stack_trace", "")))


def _modules(props: dict[str, str]) -> tuple[str, ...]:
    """The innermost module path: torch writes a list of scopes, or `a: type/b.c: type/...` as namespace."""
    scopes = props.get("pkg.torch.onnx.name_scopes")
    if scopes:
        try:
            found = ast.literal_eval(scopes)
        except (ValueError, SyntaxError):
            found = []
        paths = [p for p in found[:-1] if isinstance(p, str) and p] if isinstance(found, list) else []
        return (paths[-1],) if paths else ()
    parts = [p.split(":")[0].strip() for p in props.get("namespace", "").split("/")[:-1]]
    parts = [p for p in parts if p]
    return (parts[-1],) if parts else ()


def _sources(trace: str) -> tuple[str, ...]:
    """`file:line` of the last frame of a Python stack trace that is not inside a library."""
    frames = [f"{m['file']}:{m['line']}" for m in _FRAME.finditer(trace)]
    own = [f for f in frames if "site-packages" not in f and "dist-packages" not in f]
    return tuple((own or frames)[-1:])


_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
