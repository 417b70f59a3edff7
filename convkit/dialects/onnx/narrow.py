"""int64 to int32 where an ONNX model stays valid: for parsers that compute no 64-bit integers.

Constants and inputs are narrowed when every operator that reads them takes int32 in that place, and the
types that ONNX ties to it can follow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.defs import OpSchema, get_schema

_WIDE, _NARROW = TensorProto.INT64, TensorProto.INT32
_LEAST, _GREATEST = -(2**31), 2**31 - 1


def narrow_int64(model: onnx.ModelProto) -> list[str]:
    """Narrow a model in place; returns the names of the inputs that are int32 now.

    Time is linear in the places where integers are read.
    """
    graph = model.graph
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    constants = {t.name: t for t in graph.initializer if t.data_type == _WIDE}
    inputs = {v.name: v for v in graph.input if v.type.tensor_type.elem_type == _WIDE}
    ties, fixed = _ties(graph, opset, {*constants, *inputs})
    fixed |= {v.name for v in graph.output}
    fixed |= {name for name, tensor in constants.items() if not _fits(tensor, ties.ends.get(name, False))}
    kept = _spread(fixed, ties.groups)
    for name in constants.keys() - kept:
        array = numpy_helper.to_array(constants[name])
        narrow = np.clip(array, _LEAST, _GREATEST).astype(np.int32)
        constants[name].CopyFrom(numpy_helper.from_array(narrow, name))
    narrowed = sorted(inputs.keys() - kept)
    for name in narrowed:
        inputs[name].type.tensor_type.elem_type = _NARROW
    onnx.checker.check_model(model)
    return narrowed


class _Ties:
    """Which names must have one type (`groups`), and which only end slices (`ends`)."""

    def __init__(self) -> None:
        self.groups: list[set[str]] = []
        self.ends: dict[str, bool] = {}


def _ties(graph: onnx.GraphProto, opset: int, wide: set[str]) -> tuple[_Ties, set[str]]:
    """The ties among `wide`, and those of them that some operator reads as int64 only."""
    ties, fixed = _Ties(), set()
    for node in graph.node:
        read = [(index, name) for index, name in enumerate(node.input) if name in wide]
        if not read:
            continue
        schema = get_schema(node.op_type, opset, node.domain) if node.domain == "" else None
        by_type: dict[str, set[str]] = defaultdict(set)
        for index, name in read:
            end = node.op_type == "Slice" and index == 2
            ties.ends[name] = ties.ends.get(name, True) and end
            kind = None if schema is None else _kind(schema, index)
            if schema is None or kind is None:
                fixed.add(name)
            else:
                by_type[kind].add(name)
        for kind, names in by_type.items():
            assert schema is not None
            tied = {name for index, name in enumerate(node.input) if name and _type(schema, index) == kind}
            if tied - wide or any(output.type_str == kind for output in schema.outputs):
                fixed |= names
            else:
                ties.groups.append(names)
    return ties, fixed


def _type(schema: OpSchema, index: int) -> str:
    return str(schema.inputs[min(index, len(schema.inputs) - 1)].type_str)


def _kind(schema: OpSchema, index: int) -> str | None:
    """The type variable of an input that may be int32, None where it may not."""
    kind = _type(schema, index)
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return kind if "tensor(int32)" in allowed.get(kind, ()) else None


def _fits(tensor: TensorProto, ends_only: bool) -> bool:
    """Whether the numbers are those of int32, or mean "to the end" where they exceed it."""
    array = numpy_helper.to_array(tensor)
    if not array.size:
        return True
    return ends_only or bool(array.min() >= _LEAST and array.max() <= _GREATEST)


def _spread(fixed: set[str], groups: Iterable[set[str]]) -> set[str]:
    """`fixed` and all that is tied to it."""
    of: dict[str, list[set[str]]] = defaultdict(list)
    for group in groups:
        for name in group:
            of[name].append(group)
    kept, waiting = set(fixed), list(fixed)
    while waiting:
        for group in of.pop(waiting.pop(), ()):
            waiting += group - kept
            kept |= group
    return kept
