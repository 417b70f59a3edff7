"""Nodes that compute the same thing become one: common subexpressions, by value numbering in one sweep."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import onnx_ir as ir

from convkit.ir.facts import is_constant
from convkit.ir.origin import merge_origins, set_origin
from convkit.passes.base import Pass
from convkit.rewrite import RewriteStats, remove_if_dead

_RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})
_RANDOM_OR_BODY = _RANDOM | {"Multinomial", "Bernoulli", "Dropout", "If", "Loop", "Scan"}

_SMALL = 256
"""Constants of at most this many bytes are compared by value, larger ones by identity."""


@dataclass(frozen=True, kw_only=True)
class ShareEqualNodes(Pass):
    """Of nodes with the same operator, inputs and attributes the first stays. Linear in nodes."""

    def run(self, model: ir.Model) -> RewriteStats:
        graph = model.graph
        known: dict[Hashable, ir.Node] = {}
        for node in list(graph):
            if node.op_type in _RANDOM_OR_BODY:
                continue
            first = known.setdefault(_key(node), node)
            if first is node or len(first.outputs) != len(node.outputs):
                continue
            if any(v.is_graph_output() for v in node.outputs):
                continue
            set_origin(first, merge_origins([first, node]))
            for old, new in zip(node.outputs, first.outputs, strict=True):
                old.replace_all_uses_with(new)
            remove_if_dead(graph, node)
        return RewriteStats()


def _key(node: ir.Node) -> Hashable:
    attributes = tuple(_value(a) for _, a in sorted(node.attributes.items()))
    return node.domain, node.op_type, tuple(_input(v) for v in node.inputs), attributes


def _value(attribute: ir.Attr) -> Hashable:
    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        array = value.numpy()
        return attribute.name, str(array.dtype), array.shape, array.tobytes()
    return attribute.name, attribute.type, tuple(value) if isinstance(value, (list, tuple)) else value


def _input(value: ir.Value | None) -> Hashable:
    if is_constant(value):
        assert value is not None
        assert value.const_value is not None
        if value.const_value.nbytes <= _SMALL:
            array = value.const_value.numpy()
            return str(array.dtype), array.shape, array.tobytes()
    return id(value) if value is not None else None
