"""Schemes that quantize weights alone: dynamic range (activations are quantized on the run), weight-only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.quantize.grid import FLOAT32, INT8, constant_on, weight_grid
from convkit.quantize.operators import WEIGHTED

_HYBRID: dict[str, dict[str, Any]] = {
    "CONV_2D": {},
    "FULLY_CONNECTED": {"asymmetric_quantize_inputs": True},
}
"""Operators whose kernel quantizes float activations as it goes, with the options it needs. That of
DEPTHWISE_CONV_2D is several times slower than the float kernel, for few weights."""

_SMALL = 1024
"""Elements below which weights stay in float: nothing is gained but an operator."""


def quantize_weights(graph: Graph, dynamic: bool, dtype: np.dtype[Any] = INT8) -> Graph:
    """The graph with large constant weights in int8 or int4, per output channel; activations stay float32.

    With `dynamic` operators that can read them so do; all other weights (and all of them without) are
    behind a DEQUANTIZE, which delegates fold.
    """
    ops: list[Op] = []
    forms: dict[tuple[int, bool], Tensor] = {}
    for op in graph.ops:
        at = _weights_of(op)
        if at is None:
            ops.append(op)
            continue
        tensor = op.inputs[at]
        assert tensor is not None
        assert tensor.data is not None
        hybrid = dynamic and op.code in _HYBRID and not _grouped(op)
        if (id(tensor), True) not in forms:
            axis = WEIGHTED[op.code].channel if op.code in WEIGHTED else None
            grid = weight_grid(tensor.data, axis, dtype=dtype)
            name = f"{tensor.name}/{dtype.name}"
            forms[id(tensor), True] = constant_on(name, tensor.data, grid, dtype)
        stored = forms[id(tensor), True]
        if not hybrid and (id(tensor), False) not in forms:
            forms[id(tensor), False] = Tensor(tensor.name, tensor.shape, FLOAT32)
            ops.append(Op("DEQUANTIZE", [stored], [forms[id(tensor), False]], origin=op.origin))
        inputs = list(op.inputs)
        inputs[at] = stored if hybrid else forms[id(tensor), False]
        ops.append(replace(op, inputs=inputs, options=op.options | (_HYBRID[op.code] if hybrid else {})))
    return replace(graph, ops=ops)


def _weights_of(op: Op) -> int | None:
    """The input that holds an operator's weights, if they are worth quantizing."""
    candidates: tuple[int, ...] = (0, 1) if op.code == "BATCH_MATMUL" else ()
    if op.code in WEIGHTED:
        candidates = (WEIGHTED[op.code].filters,)
    for at in candidates:
        tensor = op.inputs[at]
        if tensor is not None and tensor.data is not None and tensor.dtype == FLOAT32:
            return at if tensor.data.size >= _SMALL else None
    return None


def _grouped(op: Op) -> bool:
    x, w = op.inputs[:2]
    return op.code == "CONV_2D" and x is not None and w is not None and x.shape[-1] != w.shape[-1]
