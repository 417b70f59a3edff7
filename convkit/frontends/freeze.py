"""Freeze inputs: a value the user knows before the model runs becomes a constant of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.diagnostics import error


def freeze_inputs(graph: ir.Graph, values: Mapping[str, Any]) -> None:
    """Turn the named inputs of `graph` into constants, in the element type the model declares.

    Raises ConvkitError "unknown-input" for a name the model does not have, and "input-value" for a value
    that does not fit the declared type or shape.
    """
    inputs = {value.name: value for value in graph.inputs}
    for name, given in values.items():
        if name not in inputs:
            listed = ", ".join(str(n) for n in inputs)
            raise error("unknown-input", f"the model has no input {name!r}", help=f"its inputs are: {listed}")
        value = inputs[name]
        array = _fitted(value, given)
        graph.inputs.remove(value)
        value.shape = ir.Shape(array.shape)
        value.const_value = ir.Tensor(array, name=name)
        graph.register_initializer(value)


def _fitted(value: ir.Value, given: Any) -> np.ndarray:
    if value.dtype is None:
        raise error("input-value", f"input {value.name!r} declares no element type, so it cannot be frozen")
    asked = np.asarray(given)
    array = asked.astype(value.dtype.numpy())
    if not np.array_equal(array, asked):
        raise error("input-value", f"{given} is no {value.dtype}, the element type of input {value.name!r}")
    declared = value.shape
    if declared is None:
        return array
    sizes = [d if isinstance(d, int) and d > 0 else None for d in declared]
    if array.ndim == 0 and None not in sizes and all(size == 1 for size in sizes):
        array = array.reshape([1] * len(sizes))
    if array.ndim != len(sizes) or any(
        size is not None and size != found for size, found in zip(sizes, array.shape, strict=True)
    ):
        raise error(
            "input-value", f"input {value.name!r} has shape {declared}, the value {list(array.shape)}"
        )
    return array
