"""How each operator's axes correspond, and how the operator is written for permuted tensors.

An operator's axes carry labels 0, 1, ...: axes of its tensors with one label are the same axis. An
operator that computes the same whatever the order of its labels can run on tensors stored in any
order, if its attributes and constants follow. The labels of most operators are the axes of the
tensor with the most of them (its widest one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.storage import (
    Perm,
    Shape,
    carried,
    flattened_axes,
    identity,
    settle,
    stored,
    wide_axes,
)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ELEMENTWISE = _names(
    """ABS CAST CEIL COS DEQUANTIZE ELU EXP FAKE_QUANT FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGICAL_NOT
    LOGISTIC NEG QUANTIZE RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SIGN SIN SQRT SQUARE TANH
    ZEROS_LIKE"""
)
_BROADCASTING = _names(
    """ADD ADD_N ATAN2 DIV EQUAL FLOOR_DIV FLOOR_MOD GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND
    LOGICAL_OR MAXIMUM MINIMUM MUL NOT_EQUAL POW PRELU SELECT_V2 SQUARED_DIFFERENCE SUB"""
)
_LAST_AXIS = _names("FULLY_CONNECTED L2_NORMALIZATION LOG_SOFTMAX SOFTMAX TOPK_V2")
_REDUCING = _names("MEAN REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD SUM")
_AXIS_OPTION = _names("CONCATENATION GATHER PACK UNPACK")
# The input that names axes by number, and the inputs that hold one entry (or row) for each axis.
_AXIS_INPUT = {
    **dict.fromkeys(sorted(_REDUCING | {"ARG_MAX", "ARG_MIN", "CUMSUM", "REVERSE_V2"}), 1),
    "SPLIT": 0,
    "SPLIT_V": 2,
}
_ROW_INPUTS: dict[str, tuple[int, ...]] = {
    "MIRROR_PAD": (1,),
    "PAD": (1,),
    "PADV2": (1,),
    "SLICE": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    "TILE": (1,),
}
_OTHER_INPUTS: dict[str, tuple[int, ...]] = {
    "FULLY_CONNECTED": (1, 2),
    "GATHER": (1,),
    "PADV2": (2,),
    "SPLIT_V": (1,),
    "TOPK_V2": (1,),
}
_BIT_PER_AXIS = ("begin_mask", "end_mask", "shrink_axis_mask")
_KNOWN = _ELEMENTWISE | _BROADCASTING | _LAST_AXIS | _AXIS_OPTION | _AXIS_INPUT.keys() | _ROW_INPUTS.keys()

Mode = tuple[Perm, ...]
"""How an operator (or a part of one) runs: the order in which each of its slots is stored."""


class Axes(Protocol):
    """What orders a group of an operator's slots (inputs first, then outputs) can take together."""

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots."""
        ...

    def follow(self, slot: int, perm: Perm) -> Mode | None:
        """The mode in which slot number `slot` of `slots` is stored by `perm`, or None."""
        ...


@dataclass(frozen=True)
class LabelledAxes:
    """Slots whose axes correspond by label; the last `pinned` labels stay last."""

    slots: tuple[int, ...]
    labels: tuple[Perm, ...]
    shapes: tuple[Shape, ...]
    pinned: int = 0

    @property
    def widest(self) -> int:
        """The index in `slots` of one that has all labels."""
        return max(range(len(self.labels)), key=lambda k: len(self.labels[k]))

    def follow(self, slot: int, perm: Perm) -> Mode | None:
        """See `Axes`."""
        labels, shape = self.labels[slot], self.shapes[slot]
        for choice in (perm, settle(wide_axes(perm, shape), shape)):
            order = list(range(len(self.labels[self.widest])))
            for label, axis in zip(labels, choice, strict=True):
                order[label] = labels[axis]
            if all(order[-k] == len(order) - k for k in range(1, self.pinned + 1)):
                return tuple(tuple(lab.index(x) for x in order if x in lab) for lab in self.labels)
        return None


@dataclass(frozen=True)
class ReshapeAxes:
    """The input and output of a RESHAPE, whose axes correspond in groups."""

    source: Shape
    target: Shape
    slots: tuple[int, ...] = (0, 2)

    def follow(self, slot: int, perm: Perm) -> Mode | None:
        """See `Axes`."""
        here, there = (self.source, self.target) if slot == 0 else (self.target, self.source)
        other = carried(perm, here, there)
        if other is None:
            return None
        return (perm, other) if slot == 0 else (other, perm)


@dataclass(frozen=True)
class FlattenAxes:
    """A RESHAPE that makes one last axis of several, for readers that take its elements in any order."""

    plain: ReshapeAxes

    @property
    def slots(self) -> tuple[int, ...]:
        """See `Axes`."""
        return self.plain.slots

    def follow(self, slot: int, perm: Perm) -> Mode | None:
        """See `Axes`."""
        mode = self.plain.follow(slot, perm)
        if mode is None and slot == 0 and self.elements(perm) is not None:
            return perm, identity(len(self.plain.target))
        return mode

    def elements(self, perm: Perm) -> np.ndarray | None:
        """Which element of the last axis stands at each place when the input is stored by `perm`.

        None if `perm` moves more than the elements of that axis.
        """
        source = self.plain.source
        flat = flattened_axes(source, self.plain.target)
        wide = wide_axes(perm, source)
        rest = [axis for axis in wide_axes(identity(len(source)), source) if axis not in flat]
        if not flat or list(wide[: len(rest)]) != rest:
            return None
        sizes = [source[axis] for axis in flat]
        places = np.arange(np.prod(sizes)).reshape(sizes)
        return places.transpose([flat.index(axis) for axis in wide[len(rest) :]]).reshape(-1)


@dataclass(frozen=True)
class MatrixAxes:
    """One operand of a BATCH_MATMUL, which may be stored with its last two axes exchanged."""

    slots: tuple[int, ...]
    shape: Shape

    def follow(self, slot: int, perm: Perm) -> Mode | None:
        """See `Axes`."""
        straight = identity(len(self.shape))
        for order in (straight, exchanged(len(self.shape))):
            if wide_axes(perm, self.shape) == wide_axes(order, self.shape):
                return (order,)
        return None


@dataclass(frozen=True)
class FixedAxes:
    """Slots that are always stored as they are."""

    slots: tuple[int, ...]

    def follow(self, slot: int, perm: Perm) -> Mode | None:
        """See `Axes`."""
        return None


def exchanged(rank: int) -> Perm:
    """The order that exchanges the last two axes."""
    return (*range(rank - 2), rank - 1, rank - 2)


def slot_tensors(op: Op) -> list[Tensor | None]:
    """The tensors of an operator by slot."""
    return [*op.inputs, *op.outputs]


def axes_of(op: Op, readers: Sequence[Op]) -> list[Axes]:
    """The groups of slots of `op` that move together; each runtime tensor is in one.

    `readers` are the operators that read its outputs.
    """
    tensors = slot_tensors(op)
    runtime = tuple(k for k, t in enumerate(tensors) if t is not None and not t.is_constant)
    if op.code == "RESHAPE" and _is_plain_reshape(op):
        source, target = op.inputs[0], op.output
        assert source is not None
        plain = ReshapeAxes(source.shape, target.shape, (0, len(op.inputs)))
        return [FlattenAxes(plain) if readers and all(map(_has_free_features, readers)) else plain]
    if op.code == "BATCH_MATMUL":
        operands = [MatrixAxes((k,), t.shape) for k in runtime if k < 2 and (t := tensors[k]) is not None]
        return [*operands, FixedAxes((len(op.inputs),))]
    labelled = _labelled(op)
    if labelled is None:
        return [FixedAxes(runtime)]
    others = tuple(k for k in runtime if k not in labelled.slots)
    return [labelled, FixedAxes(others)] if others else [labelled]


def _has_free_features(op: Op) -> bool:
    """Whether the columns of the operator's weights can follow any order of its input's last axis."""
    weights = op.inputs[1] if op.code == "FULLY_CONNECTED" else None
    return weights is not None and weights.is_constant and weights.rank == 2 and not weights.quantization


def with_features(op: Op, elements: np.ndarray) -> Tensor:
    """The weights of a FULLY_CONNECTED whose input's last axis is in the order `elements`."""
    weights = op.inputs[1]
    assert weights is not None
    assert weights.data is not None
    name = f"{weights.name}_reordered"
    return Tensor(name, weights.shape, weights.dtype, np.ascontiguousarray(weights.data[:, elements]))


def _is_plain_reshape(op: Op) -> bool:
    source = op.inputs[0]
    per_axis = any(
        t is not None and t.quantization is not None and np.size(t.quantization.scale) > 1
        for t in (source, op.output)
    )
    return source is not None and not source.is_constant and not per_axis


def _labelled(op: Op) -> LabelledAxes | None:
    """The corresponding axes of an operator that can run in other orders, None if it cannot."""
    if op.code not in _KNOWN or not _is_regular(op):
        return None
    tensors = slot_tensors(op)
    attributes = {*_ROW_INPUTS.get(op.code, ()), *_OTHER_INPUTS.get(op.code, ())}
    if op.code in _AXIS_INPUT:
        attributes.add(_AXIS_INPUT[op.code])
    slots = tuple(k for k, t in enumerate(tensors) if t is not None and k not in attributes)
    shapes = tuple(t.shape for k in slots if (t := tensors[k]) is not None)
    count = max(len(shape) for shape in shapes)
    every = identity(count)
    if op.code in _BROADCASTING:
        labels = tuple(every[count - len(shape) :] for shape in shapes)
    else:
        gone = _vanishing(op, count)
        kept = tuple(axis for axis in every if axis not in gone)
        labels = tuple(every if len(shape) == count else kept for shape in shapes)
    if any(len(lab) != len(shape) for lab, shape in zip(labels, shapes, strict=True)):
        return None
    return LabelledAxes(slots, labels, shapes, pinned=1 if op.code in _LAST_AXIS else 0)


def _is_regular(op: Op) -> bool:
    """Whether the attributes that name axes are known now, and are of the kinds handled here."""
    named = (*_ROW_INPUTS.get(op.code, ()), *((_AXIS_INPUT[op.code],) if op.code in _AXIS_INPUT else ()))
    if any((t := op.inputs[k]) is None or not t.is_constant for k in named):
        return False
    options = op.options
    if op.code == "STRIDED_SLICE":
        whole = all(len(_values(op, k)) == _rank(op) for k in _ROW_INPUTS["STRIDED_SLICE"])
        return whole and not any(options.get(o) for o in ("ellipsis_mask", "new_axis_mask", "offset"))
    if op.code == "GATHER":
        indices = op.inputs[1]
        return indices is not None and indices.rank <= 1 and not options.get("batch_dims")
    if op.code == "FULLY_CONNECTED":
        return bool(options.get("keep_num_dims")) and op.output.rank == _rank(op)
    return True


def _vanishing(op: Op, count: int) -> set[int]:
    """The axes that the operator's narrower tensors lack."""
    options = op.options
    if op.code in _AXIS_OPTION:
        return {options.get("axis", 0) % count}
    if op.code in _REDUCING or op.code in ("ARG_MAX", "ARG_MIN"):
        return {int(axis) % count for axis in _values(op, 1)}
    return {axis for axis in range(count) if options.get("shrink_axis_mask", 0) >> axis & 1}


def _rank(op: Op) -> int:
    source = op.inputs[0]
    return 0 if source is None else source.rank


def _values(op: Op, slot: int) -> np.ndarray:
    tensor = op.inputs[slot]
    assert tensor is not None
    assert tensor.data is not None
    return tensor.data.reshape(-1)


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
    if op.code in _AXIS_OPTION:
        options["axis"] = place[options.get("axis", 0) % len(order)]
    for slot in _ROW_INPUTS.get(op.code, ()):
        inputs[slot] = _with_data(inputs[slot], lambda data: data[list(order)], order)
    if op.code in _AXIS_INPUT:
        slot = _AXIS_INPUT[op.code]
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
    if op.code not in _BROADCASTING:
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
    return op.code in _BROADCASTING
