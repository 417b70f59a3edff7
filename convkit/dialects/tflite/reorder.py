"""Constants and attributes of an operator that runs on tensors stored in another order (see `axes`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from convkit.dialects.tflite.axes import (
    AXIS_INPUT,
    AXIS_OPTION,
    BROADCASTING,
    ROW_INPUTS,
    LabelledAxes,
    Mode,
)
from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.storage import Perm, Shape, identity, stored

_BIT_PER_AXIS = ("begin_mask", "end_mask", "shrink_axis_mask")


def reordered(op: Op, axes: LabelledAxes, mode: Mode) -> tuple[list[Tensor | None], dict[str, Any]]:
    """The constant inputs and the options of `op` when it runs in `mode`.

    Runtime inputs are left as they were: the caller puts them in.
    """
    order = mode[axes.widest]
    place = {axis: position for position, axis in enumerate(order)}
    inputs = list(op.inputs)
    for slot, labels in zip(axes.slots, axes.labels, strict=True):
        if slot < len(inputs) and (tensor := inputs[slot]) is not None and tensor.is_constant:
            inputs[slot] = _reordered_constant(op, tensor, labels, order)
    options = dict(op.options)
    if op.code in AXIS_OPTION:
        options["axis"] = place[options.get("axis", 0) % len(order)]
    for slot in ROW_INPUTS.get(op.code, ()):
        inputs[slot] = _with_data(inputs[slot], lambda data: data[list(order)], order)
    if op.code in AXIS_INPUT:
        slot = AXIS_INPUT[op.code]
        inputs[slot] = _with_data(inputs[slot], lambda data: _renumbered(data, place), order)
    for name in _BIT_PER_AXIS:
        if options.get(name):
            options[name] = sum(1 << place[axis] for axis in order if options[name] >> axis & 1)
    return inputs, options


def _renumbered(data: np.ndarray, place: dict[int, int]) -> np.ndarray:
    numbers = sorted(place[int(axis) % len(place)] for axis in data.reshape(-1))
    return np.asarray(numbers, data.dtype).reshape(data.shape)


def _with_data(tensor: Tensor | None, change: Any, order: Perm) -> Tensor:
    assert tensor is not None
    assert tensor.data is not None
    data = change(tensor.data)
    if np.array_equal(data, tensor.data):
        return tensor
    return Tensor(named(tensor.name, order), data.shape, tensor.dtype, data, tensor.quantization)


def _reordered_constant(op: Op, tensor: Tensor, labels: Perm, order: Perm) -> Tensor:
    perm = tuple(labels.index(x) for x in order if x in labels)
    name = named(tensor.name, order)
    result = stored(tensor, perm, name)
    if op.code not in BROADCASTING:
        return result
    if tensor.rank == 0:
        return tensor
    sizes = dict(zip(labels, tensor.shape, strict=True))
    shape = tuple(sizes.get(label, 1) for label in order)
    # One wide axis, the last, is a vector; anything else is spelled out, since delegates read
    # tensors of rank 2 and 3 in ways of their own.
    if any(t is not None and not t.is_constant and t.rank == len(order) for t in op.inputs):
        lowest = 1 if set(shape[:-1]) <= {1} else tensor.rank if op.code == "PRELU" else len(order)
        while len(shape) > lowest and shape[0] == 1:
            shape = shape[1:]
    if shape == tensor.shape and perm == identity(tensor.rank):
        return tensor
    assert result.data is not None
    return Tensor(name, shape, tensor.dtype, result.data.reshape(shape), result.quantization)


def broadcast_shape(axes: LabelledAxes, slot: int, order: Perm) -> Shape:
    """The shape that slot number `slot` of `axes` must have to broadcast when labels stand in `order`."""
    sizes = dict(zip(axes.labels[slot], axes.shapes[slot], strict=True))
    return tuple(sizes.get(label, 1) for label in order)


def named(name: str, perm: Perm) -> str:
    """The name of a tensor that is `name` stored by `perm`."""
    return f"{name}_{''.join(map(str, perm))}"


def is_broadcasting(op: Op) -> bool:
    """Whether tensors of lower rank are aligned with the last axes of the others."""
    return op.code in BROADCASTING


def with_features(op: Op, elements: np.ndarray) -> Tensor:
    """The weights of a FULLY_CONNECTED whose input's last axis is in the order `elements`."""
    weights = op.inputs[1]
    assert weights is not None
    assert weights.data is not None
    name = f"{weights.name}_reordered"
    return Tensor(name, weights.shape, weights.dtype, np.ascontiguousarray(weights.data[:, elements]))
