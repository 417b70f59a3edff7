"""Write a planned graph in integers: operators on their grids, conversions only where grids differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convkit.dialects.tflite.graph import Graph, Op, Quantization, Tensor
from convkit.ir.origin import Origin
from convkit.quantize.grid import (
    FLOAT32,
    INT8,
    INT16,
    INT32,
    INT64,
    constant_on,
    fit_bias,
    same_grid,
    weight_grid,
)
from convkit.quantize.operators import TFLITE, WEIGHTED
from convkit.quantize.plan import Grids, Plan

_DEAD_CHANNEL = 2.0**-8  # of an output step: how finely a bias is stored where all weights are zero


class _Builder:
    """The quantized graph so far: which forms of each float tensor exist."""

    def __init__(self, grids: Grids, per_channel: bool) -> None:
        self.grids, self.per_channel = grids, per_channel
        self.ops: list[Op] = []
        self._forms: dict[int, list[Tensor]] = {}
        self._names: dict[str, int] = {}

    def know(self, tensor: Tensor, form: Tensor) -> Tensor:
        """Note the form in which a tensor of the float graph is made."""
        self._forms.setdefault(id(tensor), []).append(form)
        return form

    def name(self, base: str) -> str:
        """A name that no other tensor has."""
        count = self._names[base] = self._names.get(base, 0) + 1
        return base if count == 1 else f"{base}_{count}"

    def as_float(self, tensor: Tensor, origin: Origin) -> Tensor:
        """The tensor in float32."""
        if tensor.data is not None:
            return tensor
        forms = self._forms[id(tensor)]
        found = next((f for f in forms if f.quantization is None), None)
        if found is None:
            found = self.know(tensor, Tensor(self.name(tensor.name), tensor.shape, FLOAT32))
            self.ops.append(Op("DEQUANTIZE", [forms[0]], [found], origin=origin))
        return found

    def as_integer(self, tensor: Tensor, to: Quantization, dtype: np.dtype[Any], origin: Origin) -> Tensor:
        """The tensor on a grid."""
        forms = self._forms.setdefault(id(tensor), [])
        for form in forms:
            if form.dtype == dtype and form.quantization is not None and same_grid(form.quantization, to):
                return form
        name = self.name(f"{tensor.name}/{dtype.name}")
        if tensor.data is not None:
            return self.know(tensor, constant_on(name, tensor.data, to, dtype))
        made = self.know(tensor, Tensor(name, tensor.shape, dtype, quantization=to))
        self.ops.append(Op("QUANTIZE", [forms[0]], [made], origin=origin))
        return made

    def quantize(self, op: Op, dtype: np.dtype[Any]) -> None:
        """Append an operator in integers."""
        inputs = list(op.inputs)
        for at, tensor in enumerate(op.inputs):
            if tensor is not None and TFLITE.is_activation(op, at):
                inputs[at] = self.as_integer(tensor, self.grids.wanted(op, tensor, dtype), dtype, op.origin)
        outputs = []
        for tensor in op.outputs:
            if tensor.dtype != FLOAT32:
                outputs.append(self.know(tensor, tensor))
                continue
            grid = self.grids.wanted(op, tensor, dtype)
            made = Tensor(self.name(f"{tensor.name}/{dtype.name}"), tensor.shape, dtype, quantization=grid)
            outputs.append(self.know(tensor, made))
        if op.code in WEIGHTED:
            self._quantize_weights(op, inputs, outputs[0])
        options = dict(op.options)
        if op.code in ("ADD", "SUB") and dtype == INT16:
            options["pot_scale_int16"] = False
        self.ops.append(replace(op, inputs=inputs, outputs=outputs, options=options))

    def _quantize_weights(self, op: Op, inputs: list[Tensor | None], output: Tensor) -> None:
        roles = WEIGHTED[op.code]
        x, filters = inputs[roles.activation], op.inputs[roles.filters]
        assert x is not None
        assert x.quantization is not None
        assert output.quantization is not None
        assert filters is not None
        assert filters.data is not None
        step = float(x.quantization.scale[0])
        grid = weight_grid(
            filters.data,
            roles.channel if self.per_channel else None,
            float(output.quantization.scale[0]) * _DEAD_CHANNEL / step,
        )
        bias = op.inputs[roles.bias] if roles.bias < len(op.inputs) else None
        if bias is not None and bias.data is not None:
            grid = fit_bias(grid, bias.data, step)
            scale = (grid.scale.astype(np.float64) * step).astype(np.float32)
            to = Quantization(scale, grid.zero_point, 0)
            wide = INT32 if x.dtype == INT8 else INT64
            steps = np.rint(bias.data.astype(np.float64) / scale)
            name = self.name(f"{bias.name}/bias")
            inputs[roles.bias] = Tensor(name, bias.shape, wide, steps.astype(wide), to)
        name = self.name(f"{filters.name}/int8")
        inputs[roles.filters] = constant_on(name, filters.data, grid, INT8)

    def keep(self, op: Op) -> None:
        """Append an operator in float."""
        inputs: list[Tensor | None] = []
        for tensor in op.inputs:
            known = tensor is not None and id(tensor) in self._forms
            inputs.append(self.as_float(tensor, op.origin) if tensor is not None and known else tensor)
        outputs = [self.know(t, t) for t in op.outputs]
        self.ops.append(replace(op, inputs=inputs, outputs=outputs))


def quantize_graph(
    planned: Plan,
    grids: Grids,
    *,
    io: np.dtype[Any] | None = None,
    per_channel: bool = True,
) -> Graph:
    """The quantized graph of a plan; the float graph stays as it is.

    `io` is the element type of the interface's float tensors: None keeps float32 with QUANTIZE and
    DEQUANTIZE at the border. An interface tensor that no quantized operator touches stays float32.
    """
    graph = planned.graph
    build = _Builder(grids, per_channel)
    inputs = []
    for tensor in graph.inputs:
        home = None if io is None else grids.home.get((id(tensor), io))
        stored = tensor if home is None or io is None else replace(tensor, dtype=io, quantization=home)
        build.name(tensor.name)
        inputs.append(build.know(tensor, stored))
    for op in graph.ops:
        dtype = planned.width(op)
        if dtype is None:
            build.keep(op)
        else:
            build.quantize(op, dtype)
    outputs = []
    for tensor in graph.outputs:
        home = None if io is None else grids.home.get((id(tensor), io))
        if tensor.data is not None or tensor.dtype != FLOAT32:
            outputs.append(tensor)
        elif home is None or io is None:
            outputs.append(build.as_float(tensor, Origin()))
        else:
            outputs.append(build.as_integer(tensor, home, io, Origin()))
    return replace(graph, inputs=inputs, outputs=outputs, ops=build.ops)
