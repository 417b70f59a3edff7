"""Variables, which a file keeps from one run to the next: inputs and outputs of the imported model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.frontends.tflite.builder import Builder, RefusedError, imports


def _name(graph: Graph, handle: Tensor | None) -> str:
    """The name of the variable behind a handle."""
    for op in graph.ops:
        if op.code == "VAR_HANDLE" and op.outputs[0] is handle:
            name = op.options.get("shared_name") or ""
            return (name.decode() if isinstance(name, bytes) else str(name)) or "variable"
    raise RefusedError("its variable is not made by VAR_HANDLE")


def _initial(b: Builder) -> dict[str, Tensor]:
    """What CALL_ONCE assigns to each variable before the first run."""
    found: dict[str, Tensor] = {}
    for once in (op for op in b.graphs[0].ops if op.code == "CALL_ONCE"):
        inner = b.graphs[int(once.options["init_subgraph_index"])]
        for op in inner.ops:
            value = op.inputs[1] if op.code == "ASSIGN_VARIABLE" else None
            if value is not None:
                found[_name(inner, op.inputs[0])] = value
    return found


def _real(tensor: Tensor) -> np.ndarray:
    """The numbers of a constant."""
    assert tensor.data is not None
    if tensor.quantization is None or tensor.dtype.kind == "f":
        return tensor.data.astype(np.float32)
    if tensor.quantization.scale.size != 1:
        raise RefusedError("its first value is quantized by channel")
    shifted = tensor.data.astype(np.float32) - np.float32(tensor.quantization.zero_point.reshape(-1)[0])
    return shifted * np.float32(tensor.quantization.scale.reshape(-1)[0])


@imports("VAR_HANDLE")
def var_handle(b: Builder, op: Op) -> Sequence[ir.Value]:
    """Nothing is computed: what reads the handle asks for its name."""
    return []


@imports("CALL_ONCE")
def call_once(b: Builder, op: Op) -> Sequence[ir.Value]:
    """First values of variables; a graph that does more before the first run is refused."""
    index = int(op.options["init_subgraph_index"])
    if not 0 < index < len(b.graphs):
        raise RefusedError("its graph is missing")
    inner = b.graphs[index]
    others = sorted({o.code for o in inner.ops} - {"VAR_HANDLE", "ASSIGN_VARIABLE"})
    if others:
        raise RefusedError(f"what is done before the first run has {others[0]}")
    if any(
        o.code == "ASSIGN_VARIABLE" and (o.inputs[1] is None or o.inputs[1].data is None) for o in inner.ops
    ):
        raise RefusedError("the first value of a variable is computed")
    return []


@imports("READ_VARIABLE")
def read_variable(b: Builder, op: Op) -> ir.Value:
    """The value of the run before, or what was assigned since."""
    name = _name(b.graphs[0], op.inputs[0])
    first = _initial(b).get(name)
    return b.state(name, op.outputs[0].shape, None if first is None else _real(first))


@imports("ASSIGN_VARIABLE")
def assign_variable(b: Builder, op: Op) -> Sequence[ir.Value]:
    """The value for the next run, and for who reads it from here on."""
    name, value = _name(b.graphs[0], op.inputs[0]), op.inputs[1]
    assert value is not None
    first = _initial(b).get(name)
    b.state(name, value.shape, None if first is None else _real(first))
    b.states[name].last = b.real(value)
    return []
