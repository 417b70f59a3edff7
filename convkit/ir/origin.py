"""Origin: which part of the user's model a node came from, kept through every rewrite."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import onnx_ir as ir

from convkit.diagnostics import Location

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


def place_of(node: ir.Node) -> Location:
    """Where to point for `node`: the user's source line, where it is known, and the names it came in with."""
    origin = origin_of(node)
    file, _, line = (origin.sources[-1] if origin.sources else "").rpartition(":")
    names = ", ".join(origin.nodes) or node.name or node.op_type
    return Location(file or None, int(line) if line.isdigit() else None, node=names)


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


def store_origins(model: ir.Model) -> None:
    """Write the origin of every node into its metadata, from which `annotate_origins` reads it back."""
    for graph in (model.graph, *(f.graph for f in model.functions.values())):
        for node in graph.all_nodes():
            found = {name: list(values) for name, values in asdict(origin_of(node)).items() if values}
            node.metadata_props[_KEY] = json.dumps(found, separators=(",", ":"))


def _stored(text: str) -> Origin | None:
    """The origin that `store_origins` wrote, None for what it did not."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict) or not found.keys() <= {field.name for field in fields(Origin)}:
        return None
    whole = all(isinstance(v, list) and all(isinstance(x, str) for x in v) for v in found.values())
    return Origin(**{name: tuple(values) for name, values in found.items()}) if whole else None


def _imported(node: ir.Node) -> Origin:
    props = node.metadata_props
    if (text := props.get(_KEY)) is not None and (stored := _stored(text)) is not None:
        return stored
    if not node.name:
        node.name = next((v.name for v in node.outputs if v.name), node.op_type)
    return Origin((node.name,), _modules(props), _sources(props.get("pkg.torch.onnx.stack_trace", "")))


def _modules(props: dict[str, str]) -> tuple[str, ...]:
    """The innermost module path; the class of the outermost module, which has none, for what it does itself.

    torch writes lists of scopes and of their classes, or both as a namespace `a: type/b.c: type/...`; the
    last is the node itself.
    """
    paths = _listed(props.get("pkg.torch.onnx.name_scopes"))
    classes = _listed(props.get("pkg.torch.onnx.class_hierarchy"))
    if not paths:
        parts = [part.partition(":") for part in props.get("namespace", "").split("/")]
        paths, classes = [path.strip() for path, _, _ in parts], [name.strip() for _, _, name in parts]
    inner = [path for path in paths[:-1] if path]
    if inner:
        return (inner[-1],)
    outermost = classes[0].rpartition(".")[2] if len(classes) > 1 else ""
    return (outermost,) if outermost else ()


def _listed(text: str | None) -> list[str]:
    """The strings of a Python list written as text."""
    try:
        found = ast.literal_eval(text or "[]")
    except (ValueError, SyntaxError):
        return []
    return [str(x) for x in found] if isinstance(found, list) else []


def _sources(trace: str) -> tuple[str, ...]:
    """`file:line` of the last frame of a Python stack trace that is not inside a library."""
    frames = [f"{m['file']}:{m['line']}" for m in _FRAME.finditer(trace)]
    own = [f for f in frames if "site-packages" not in f and "dist-packages" not in f]
    return tuple((own or frames)[-1:])


_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
