"""Every node must be of an operator that ONNX or the model defines, with what that operator needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

import onnx.defs
import onnx_ir as ir

from convkit.diagnostics import ConvkitError, Diagnostic, Location, error
from convkit.ir.infer import schema_of


def graphs_of(model: ir.Model) -> Iterator[ir.Graph]:
    """Every graph of the model: the main one, the functions', and the bodies inside them."""
    for top in (model.graph, *(f.graph for f in model.functions.values())):
        yield top
        yield from top.subgraphs()


def check_operators(model: ir.Model) -> None:
    """Every operator must be one that ONNX defines, or a function of the model; others are named."""
    unknown: Counter[tuple[str, str]] = Counter()
    for graph in graphs_of(model):
        for node in graph:
            if not isinstance(node.op_type, str) or not isinstance(node.domain, str):
                raise error("bad-model", f"the operator name {node.op_type!r} is not UTF-8")
            version = model.opset_imports.get(node.domain)
            if node.op_identifier() in model.functions:
                continue
            if version is None or schema_of(node.op_type, version, node.domain) is None:
                unknown[node.domain, node.op_type] += 1
            else:
                _check_signature(node, version)
    if unknown:
        raise ConvkitError(*(_unknown(d, op, n, model) for (d, op), n in sorted(unknown.items())))


@dataclass(frozen=True)
class _Signature:
    """What a node of an operator must have."""

    attributes: dict[str, ir.AttributeType]
    required: frozenset[str]
    inputs: range


@cache
def _signature(op_type: str, version: int, domain: str) -> _Signature:
    schema = schema_of(op_type, version, domain)
    assert schema is not None
    attributes = dict(schema.attributes)
    return _Signature(
        {name: ir.AttributeType[str(a.type).rpartition(".")[2]] for name, a in attributes.items()},
        frozenset(name for name, a in attributes.items() if a.required),
        range(schema.min_input, schema.max_input + 1),
    )


def _check_signature(node: ir.Node, version: int) -> None:
    """The node has the inputs and attributes its operator demands, of the right kinds."""
    signature = _signature(node.op_type, version, node.domain)
    where = Location(node=node.name or (str(node.outputs[0].name) if node.outputs else None))
    if len(node.inputs) not in signature.inputs:
        raise error("bad-node", f"{node.op_type} cannot have {len(node.inputs)} inputs", location=where)
    for name in signature.required - node.attributes.keys():
        raise error("bad-node", f"{node.op_type} lacks its attribute {name}", location=where)
    for name, attribute in node.attributes.items():
        kind = signature.attributes.get(name)
        undecoded = attribute.type == ir.AttributeType.STRING and not isinstance(attribute.value, str)
        if not attribute.is_ref() and (undecoded or (kind is not None and attribute.type != kind)):
            raise error(
                "bad-node", f"attribute {name} of {node.op_type} is of the wrong kind", location=where
            )


def _unknown(domain: str, op: str, count: int, model: ir.Model) -> Diagnostic:
    times = f"{count} node{'s' if count > 1 else ''}"
    if domain:
        message = f"operator {op} of domain {domain} ({times}) is not part of ONNX, nor defined by the model"
        return Diagnostic(
            "unknown-domain", message, help="export the model with standard ONNX operators only"
        )
    opset = model.opset_imports[""]
    known = {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}
    close = get_close_matches(op, known, 1)
    help = f"did you mean {close[0]}?" if close and close[0] != op else None
    return Diagnostic("unknown-operator", f"{op} ({times}) is no operator of ONNX opset {opset}", help=help)
