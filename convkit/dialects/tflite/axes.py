"""How each operator's axes correspond, and how the operator is written for permuted tensors.

An operator's axes carry labels 0, 1, ...: axes of its tensors with one label are the same axis. An
operator that computes the same whatever the order of its labels can run on tensors stored in any
order, if its attributes and constants follow. The labels of most operators are the axes of the
tensor with the most of them (its widest one).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.storage import (
    Perm,
    Shape,
    carried,
    flattened_axes,
    identity,
    lead,
    settle,
    wide_axes,
)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names(
    """ABS CAST CEIL COS DEQUANTIZE ELU EXP FAKE_QUANT FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGICAL_NOT
    LOGISTIC NEG QUANTIZE RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SIGN SIN SQRT SQUARE TANH
    ZEROS_LIKE"""
)
BROADCASTING = _names(
    """ADD ADD_N ATAN2 DIV EQUAL FLOOR_DIV FLOOR_MOD GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND
    LOGICAL_OR MAXIMUM MINIMUM MUL NOT_EQUAL POW PRELU SELECT_V2 SQUARED_DIFFERENCE SUB"""
)
_LAST_AXIS = _names("FULLY_CONNECTED L2_NORMALIZATION LOG_SOFTMAX SOFTMAX TOPK_V2")
_PADDING = _names("MIRROR_PAD PAD PADV2")
_REDUCING = _names("MEAN REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD SUM")
AXIS_OPTION = _names("CONCATENATION GATHER PACK UNPACK")
# The input that names axes by number, and the inputs that hold one entry (or row) for each axis.
AXIS_INPUT = {
    **dict.fromkeys(sorted(_REDUCING | {"ARG_MAX", "ARG_MIN", "CUMSUM", "REVERSE_V2"}), 1),
    "SPLIT": 0,
    "SPLIT_V": 2,
}
ROW_INPUTS: dict[str, tuple[int, ...]] = {
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
_KNOWN = ELEMENTWISE | BROADCASTING | _LAST_AXIS | AXIS_OPTION | AXIS_INPUT.keys() | ROW_INPUTS.keys()

Mode = tuple[Perm, ...]
"""How an operator (or a part of one) runs: the order in which each of its slots is stored."""


class Axes(Protocol):
    """What orders a group of an operator's slots (inputs first, then outputs) can take together."""

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots."""
        ...

    def follow(self, slot: int, perm: Perm, now: Mode) -> Mode | None:
        """The mode in which slot number `slot` of `slots` is stored by `perm`, or None.

        `now` is the mode it leaves: what `perm` does not decide stays as it is.
        """
        ...


@dataclass(frozen=True)
class LabelledAxes:
    """Slots whose axes correspond by label.

    The last `pinned` labels stay last. No label of `guarded` comes to stand first: delegates take
    the first axis for the batch, and compute some things wrongly along it.
    """

    slots: tuple[int, ...]
    labels: tuple[Perm, ...]
    shapes: tuple[Shape, ...]
    pinned: int = 0
    guarded: frozenset[int] = frozenset()

    @property
    def widest(self) -> int:
        """The index in `slots` of one that has all labels."""
        return max(range(len(self.labels)), key=lambda k: len(self.labels[k]))

    def follow(self, slot: int, perm: Perm, now: Mode) -> Mode | None:
        """See `Axes`."""
        labels, shape = self.labels[slot], self.shapes[slot]
        wide = wide_axes(perm, shape)
        for choice in (perm, settle(wide, shape), lead(wide, shape)):
            order = list(now[self.widest])
            places = [place for place, label in enumerate(order) if label in labels]
            for place, axis in zip(places, choice, strict=True):
                order[place] = labels[axis]
            if order and order[0] != 0 and order[0] in self.guarded:
                continue
            if all(order[-k] == len(order) - k for k in range(1, self.pinned + 1)):
                return tuple(tuple(lab.index(x) for x in order if x in lab) for lab in self.labels)
        return None


@dataclass(frozen=True)
class ReshapeAxes:
    """The input and output of a RESHAPE, whose axes correspond in groups."""

    source: Shape
    target: Shape
    slots: tuple[int, ...] = (0, 2)

    def follow(self, slot: int, perm: Perm, now: Mode) -> Mode | None:
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

    def follow(self, slot: int, perm: Perm, now: Mode) -> Mode | None:
        """See `Axes`."""
        mode = self.plain.follow(slot, perm, now)
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

    def follow(self, slot: int, perm: Perm, now: Mode) -> Mode | None:
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

    def follow(self, slot: int, perm: Perm, now: Mode) -> Mode | None:
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
    attributes = {*ROW_INPUTS.get(op.code, ()), *_OTHER_INPUTS.get(op.code, ())}
    if op.code in AXIS_INPUT:
        attributes.add(AXIS_INPUT[op.code])
    slots = tuple(k for k, t in enumerate(tensors) if t is not None and k not in attributes)
    shapes = tuple(t.shape for k in slots if (t := tensors[k]) is not None)
    count = max(len(shape) for shape in shapes)
    every = identity(count)
    if op.code in BROADCASTING:
        labels = tuple(every[count - len(shape) :] for shape in shapes)
    else:
        gone = _named_axes(op, count)
        kept = tuple(axis for axis in every if axis not in gone)
        labels = tuple(every if len(shape) == count else kept for shape in shapes)
    if any(len(lab) != len(shape) for lab, shape in zip(labels, shapes, strict=True)):
        return None
    guarded = frozenset(_guarded(op, slots, labels))
    return LabelledAxes(slots, labels, shapes, 1 if op.code in _LAST_AXIS else 0, guarded)


def _guarded(op: Op, slots: Sequence[int], labels: Sequence[Perm]) -> Iterator[int]:
    """The labels along which the operator pads, accumulates or has a constant that varies."""
    if op.code == "CUMSUM":
        yield from _named_axes(op, _rank(op))
    elif op.code in _PADDING:
        yield from (axis for axis, row in enumerate(_values(op, 1).reshape(-1, 2)) if row.any())
    elif op.code in BROADCASTING:
        for slot, names in zip(slots, labels, strict=True):
            tensor = op.inputs[slot] if slot < len(op.inputs) else None
            if tensor is not None and tensor.is_constant:
                yield from (name for name, size in zip(names, tensor.shape, strict=True) if size != 1)


def _is_regular(op: Op) -> bool:
    """Whether the attributes that name axes are known now, and are of the kinds handled here."""
    named = (*ROW_INPUTS.get(op.code, ()), *((AXIS_INPUT[op.code],) if op.code in AXIS_INPUT else ()))
    if any((t := op.inputs[k]) is None or not t.is_constant for k in named):
        return False
    options = op.options
    if op.code == "STRIDED_SLICE":
        whole = all(len(_values(op, k)) == _rank(op) for k in ROW_INPUTS["STRIDED_SLICE"])
        return whole and not any(options.get(o) for o in ("ellipsis_mask", "new_axis_mask", "offset"))
    if op.code == "GATHER":
        indices = op.inputs[1]
        return indices is not None and indices.rank <= 1 and not options.get("batch_dims")
    if op.code == "FULLY_CONNECTED":
        return bool(options.get("keep_num_dims")) and op.output.rank == _rank(op)
    return True


def _named_axes(op: Op, count: int) -> set[int]:
    """The axes that the operator names, which its narrower tensors lack."""
    options = op.options
    if op.code in AXIS_OPTION:
        return {options.get("axis", 0) % count}
    if op.code in _REDUCING or op.code in ("ARG_MAX", "ARG_MIN", "CUMSUM"):
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
