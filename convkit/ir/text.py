"""A model as readable text: one line per node, made for `--print-after` and golden files."""

from __future__ import annotations

import onnx_ir as ir

from convkit.ir.facts import constant, is_constant
from convkit.ir.infer import op_name
from convkit.ir.origin import origin_of

_SHOWN = 8
"""Constants of at most this many elements are written out."""


def format_model(model: ir.Model, *, origins: bool = False) -> str:
    """The graph as text: inputs, one line per node, outputs; the same model gives the same text.

    %y: f32[1,8,16,16] = Conv(%x, @w: f32[8,3,3,3], @b: f32[8]) {group=1, pads=[1,1,1,1]}
    """
    graph = model.graph
    lines = [f"graph {graph.name or ''} opset {model.opset_imports.get('')} (".replace("  ", " ")]
    lines += [f"  %{v.name}: {format_type(v)}" for v in graph.inputs]
    lines.append(") {")
    lines += [f"  {format_node(node, origins=origins)}" for node in graph]
    lines.append(f"  return {', '.join(f'%{v.name}' for v in graph.outputs)}")
    lines.append("}")
    return "\n".join(lines) + "\n"


def format_node(node: ir.Node, *, origins: bool = False) -> str:
    """One node as one line; with `origins`, where it came from as a comment."""
    outputs = ", ".join(f"%{v.name}: {format_type(v)}" for v in node.outputs)
    inputs = ", ".join(_operand(v) for v in node.inputs)
    attributes = ", ".join(f"{a.name}={_attribute(a)}" for a in sorted(node.attributes.values(), key=_name))
    line = f"{outputs} = {op_name(node)}({inputs})" + (f" {{{attributes}}}" if attributes else "")
    return f"{line}  # {_origin(node)}" if origins else line


def format_type(value: ir.Value) -> str:
    """`f32[1,3,224,224]`; `?` for what is not known."""
    kind = value.dtype.short_name() if value.dtype is not None else "?"
    dims = (
        "?" if value.shape is None else ",".join(str(d) if isinstance(d, int) else "?" for d in value.shape)
    )
    return f"{kind}[{dims}]"


def _operand(value: ir.Value | None) -> str:
    if value is None:
        return "_"
    if not is_constant(value):
        return f"%{value.name}"
    array = constant(value)
    assert array is not None
    if array.size <= _SHOWN:
        return f"{format_type(value)} {_number(array.tolist())}"
    return f"@{value.name}: {format_type(value)}"


def _number(value: object) -> str:
    if isinstance(value, list):
        return f"[{','.join(_number(v) for v in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _attribute(attribute: ir.Attr) -> str:
    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        return f"{tensor.dtype.short_name()}{list(tensor.shape.numpy())}"
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return "{...}"
    return _number(list(value) if isinstance(value, (list, tuple)) else value)


def _name(attribute: ir.Attr) -> str:
    return attribute.name


def _origin(node: ir.Node) -> str:
    origin = origin_of(node)
    parts = [", ".join(origin.nodes), ", ".join(origin.modules), ", ".join(origin.sources)]
    parts.append(", ".join(origin.rewrites))
    return " | ".join(p for p in parts if p)
