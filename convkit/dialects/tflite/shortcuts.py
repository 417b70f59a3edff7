"""Rules of `simplify` that see through the operator that made an input: what two undo, or one can do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convkit.dialects.tflite.axes import ELEMENTWISE
from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.movement import reshape_op
from convkit.dialects.tflite.sweep import Rule, Sweep

_RESHAPE = frozenset({"RESHAPE"})
_INTEGERS = "iu"
_ROUNDING = frozenset({"ROUND", "FLOOR", "CEIL"})
_KEEPS_WHOLE = {"ADD": np.add, "MAXIMUM": np.maximum, "MINIMUM": np.minimum}


def relu_of_maximum(op: Op, sweep: Sweep) -> Op | None:
    """MAXIMUM(x, 0) = RELU(x)."""
    if op.code != "MAXIMUM" or op.output.dtype != np.float32 or op.output.quantization is not None:
        return None
    for x, bound in (op.inputs, op.inputs[::-1]):
        if x is None or bound is None or bound.data is None or np.any(bound.data):
            continue
        if x.shape == op.output.shape and not x.is_constant:
            return replace(op, code="RELU", inputs=[x], options={})
    return None


def cast_and_back(op: Op, sweep: Sweep) -> Tensor | None:
    """An integer in a type that holds all of its own, and back, is what it was."""
    before = sweep.maker(op.inputs[0]) if op.code == "CAST" else None
    if before is None or before.code != "CAST":
        return None
    source, between = before.inputs[0], before.output.dtype
    assert source is not None
    kept = source.dtype.kind in _INTEGERS and between.kind in _INTEGERS
    if not kept or op.output.dtype != source.dtype or not np.can_cast(source.dtype, between):
        return None
    return source


def cast_of_whole_numbers(op: Op, sweep: Sweep) -> Tensor | None:
    """A whole number in a float, in the range of an integer type, is the same after a CAST there and back."""
    before = sweep.maker(op.inputs[0]) if op.code == "CAST" else None
    if before is None or before.code != "CAST" or op.output.dtype != np.float32:
        return None
    source, between = before.inputs[0], before.output.dtype
    if source is None or source.dtype != np.float32 or between.kind not in _INTEGERS or between.itemsize > 2:
        return None
    found, limits = _whole(source, sweep), np.iinfo(between)
    return source if found is not None and found[0] >= limits.min and found[1] <= limits.max else None


def _whole(tensor: Tensor | None, sweep: Sweep) -> tuple[float, float] | None:
    """The range of a value that is known to be whole numbers, None where it is not."""
    made = sweep.maker(tensor)
    if made is None or made.options.get("fused_activation_function", "NONE") != "NONE":
        return None
    if made.code in _ROUNDING:
        return -np.inf, np.inf
    if made.code == "RELU":
        inner = _whole(made.inputs[0], sweep)
        return inner and (max(inner[0], 0.0), max(inner[1], 0.0))
    combine = _KEEPS_WHOLE.get(made.code)
    constant = made.inputs[1] if combine is not None else None
    if combine is None or constant is None or constant.data is None or not constant.data.size:
        return None
    inner = _whole(made.inputs[0], sweep)
    if inner is None or np.any(constant.data != np.round(constant.data)):
        return None
    low, high = (combine(end, c) for end, c in zip(inner, (constant.data.min(), constant.data.max())))
    return float(low), float(high)


def slice_of_slice(op: Op, sweep: Sweep) -> Op | None:
    """SLICE(SLICE(x, a), b) = SLICE(x, a + b)."""
    inner = sweep.maker(op.inputs[0]) if op.code == "SLICE" else None
    if inner is None or inner.code != "SLICE":
        return None
    first, second = _begin(inner), _begin(op)
    if first is None or second is None:
        return None
    return _slice(op, inner.inputs[0], first + second, inner)


def slice_of_concatenation(op: Op, sweep: Sweep) -> Op | None:
    """A SLICE that lies within one part of a CONCATENATION is a SLICE of that part."""
    joined = sweep.maker(op.inputs[0]) if op.code == "SLICE" else None
    if joined is None or joined.code != "CONCATENATION":
        return None
    begin = _begin(op)
    if begin is None or joined.options.get("fused_activation_function", "NONE") != "NONE":
        return None
    axis = int(joined.options.get("axis", 0)) % joined.output.rank
    start, end = int(begin[axis]), int(begin[axis]) + op.output.shape[axis]
    offset = 0
    for part in joined.inputs:
        if part is None or part.quantization is not None:
            return None
        if offset <= start and end <= offset + part.shape[axis]:
            begin[axis] -= offset
            return None if part.is_constant else _slice(op, part, begin, joined)
        offset += part.shape[axis]
    return None


def whole_slice(op: Op, sweep: Sweep) -> Tensor | None:
    """A SLICE of everything is what it reads."""
    source = op.inputs[0] if op.code == "SLICE" else None
    if source is None or source.is_constant or source.shape != op.output.shape:
        return None
    return source


def slice_before_reshape(op: Op, sweep: Sweep) -> list[Op] | None:
    """SLICE(RESHAPE(x)) = RESHAPE(SLICE(x)) where the RESHAPE only moves axes of size 1, to reach a joint."""
    before = sweep.maker(op.inputs[0]) if op.code == "SLICE" else None
    x = before.inputs[0] if before is not None and before.code == "RESHAPE" else None
    joined = sweep.maker(x)
    if before is None or x is None or joined is None or joined.code != "CONCATENATION":
        return None
    begin = _begin(op)
    wide = [axis for axis, size in enumerate(before.output.shape) if size != 1]
    if begin is None or [before.output.shape[a] for a in wide] != [size for size in x.shape if size != 1]:
        return None
    bounds = iter([(int(begin[axis]), op.output.shape[axis]) for axis in wide])
    first, size = zip(*(next(bounds) if n != 1 else (0, 1) for n in x.shape), strict=True)
    part = Tensor(f"{op.output.name}/part", size, op.output.dtype, quantization=op.output.quantization)
    cut = _slice(replace(op, outputs=[part]), x, np.asarray(first, np.int32), before)
    return [cut, reshape_op(part, op.output, op.origin)]


def elementwise_before_reshape(op: Op, sweep: Sweep) -> list[Op] | None:
    """RELU(RESHAPE(x)) = RESHAPE(RELU(x)), and so for what else takes each number alone.

    The operator comes beside what made x, which may take it as its activation; the RESHAPE comes beside the
    next one.
    """
    if op.code not in ELEMENTWISE or len(op.inputs) != 1 or op.output.quantization is not None:
        return None
    before = sweep.sole_maker(op.inputs[0], _RESHAPE)
    x = before.inputs[0] if before is not None else None
    if before is None or x is None or x.is_constant or x.quantization is not None:
        return None
    step = Tensor(f"{op.output.name}/before", x.shape, op.output.dtype)
    return [replace(op, inputs=[x], outputs=[step]), reshape_op(step, op.output, before.origin)]


def _begin(op: Op) -> np.ndarray | None:
    """Where a SLICE of constant bounds begins, as integers of its own."""
    begin = op.inputs[1]
    return None if begin is None or begin.data is None else begin.data.reshape(-1).astype(np.int32)


def _slice(op: Op, source: Tensor | None, begin: np.ndarray, through: Op) -> Op:
    size = np.asarray(op.output.shape, np.int32)
    bounds = [
        Tensor(f"{op.output.name}_{what}", array.shape, array.dtype, array)
        for what, array in (("begin", begin.astype(np.int32)), ("size", size))
    ]
    return replace(op, inputs=[source, *bounds], origin=through.origin.union(op.origin))


SHORTCUTS: tuple[Rule, ...] = (
    relu_of_maximum,
    cast_and_back,
    cast_of_whole_numbers,
    slice_of_slice,
    slice_of_concatenation,
    slice_before_reshape,
    whole_slice,
    elementwise_before_reshape,
)
