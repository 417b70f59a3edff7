"""Rules of `simplify` that bring operators on data together: SLICEs into SPLITs, RESHAPEs to RESHAPEs."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from convkit.dialects.tflite.apart import parts_meet
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.movement import is_runtime_transpose, reshape_op, transpose_op, transposition
from convkit.dialects.tflite.storage import Shape, carried, inverse, moved, settle, wide_axes
from convkit.dialects.tflite.sweep import Sweep

_RESHAPE = frozenset({"RESHAPE"})
_TRANSPOSE = frozenset({"TRANSPOSE"})
_DENSE = frozenset({"FULLY_CONNECTED"})
_MAX_RANK = 4  # what delegates read


def reshape_before_transpose(op: Op, sweep: Sweep) -> list[Op] | None:
    """RESHAPE(TRANSPOSE(RESHAPE(x))) = TRANSPOSE(RESHAPE(x)) where the groups of axes permit."""
    turn = sweep.sole_maker(op.inputs[0], _TRANSPOSE) if op.code == "RESHAPE" else None
    if turn is None or not is_runtime_transpose(turn):
        return None
    middle, perm = transposition(turn)
    before = sweep.sole_maker(middle, _RESHAPE)
    order = carried(inverse(perm), turn.output.shape, op.output.shape)
    if before is None or before.inputs[0] is None or order is None or len(order) > _MAX_RANK:
        return None
    shape = moved(op.output.shape, order)
    origin = before.origin.union(turn.origin, op.origin)
    step = _like(op.output, shape)
    return [
        reshape_op(before.inputs[0], step, origin),
        transpose_op(step, inverse(order), op.output, origin),
    ]


def settle_transpose(op: Op, sweep: Sweep) -> list[Op] | None:
    """RESHAPE(TRANSPOSE(x)) moves axes of size 1 in the RESHAPE alone: the batch stays in front."""
    turn = sweep.sole_maker(op.inputs[0], _TRANSPOSE) if op.code == "RESHAPE" else None
    if turn is None or not is_runtime_transpose(turn):
        return None
    source, perm = transposition(turn)
    settled = settle(wide_axes(perm, source.shape), source.shape)
    if settled == perm:
        return None
    step = _like(op.output, moved(source.shape, settled))
    return [transpose_op(source, settled, step, turn.origin), reshape_op(step, op.output, op.origin)]


def reshape_before_dense(op: Op, sweep: Sweep) -> list[Op] | None:
    """RESHAPE(FULLY_CONNECTED(RESHAPE(x))) = FULLY_CONNECTED(RESHAPE(x)) if the last axis stays."""
    dense = sweep.sole_maker(op.inputs[0], _DENSE) if op.code == "RESHAPE" else None
    before = sweep.sole_maker(dense.inputs[0], _RESHAPE) if dense is not None else None
    if dense is None or before is None or before.inputs[0] is None or dense.inputs[1] is None:
        return None
    shape, features = op.output.shape, dense.inputs[1].shape[-1]
    if not 2 <= len(shape) <= _MAX_RANK or shape[-1] != dense.output.shape[-1]:
        return None
    if before.output.shape[-1] != features:
        return None
    step = _like(op.output, (*shape[:-1], features))
    options = dense.options | {"keep_num_dims": len(shape) > 2}
    return [
        reshape_op(before.inputs[0], step, before.origin.union(op.origin)),
        replace(
            dense,
            inputs=[step, *dense.inputs[1:]],
            outputs=[op.output],
            options=options,
            origin=dense.origin.union(op.origin),
        ),
    ]


def _like(tensor: Tensor, shape: Shape) -> Tensor:
    """A new step on the way to `tensor`."""
    return Tensor(f"{tensor.name}/reshaped", shape, tensor.dtype, quantization=tensor.quantization)


def split_slices(graph: Graph) -> Graph:
    """SLICEs that cut all of a value into equal parts along one axis become one SPLIT; see `apart`."""
    readers = graph.consumers()
    parts: dict[tuple[int, int], list[tuple[int, Op]]] = {}
    for op in graph.ops:
        cut = _cut(op)
        if cut is not None:
            axis, begin = cut
            parts.setdefault((id(op.inputs[0]), axis), []).append((begin, op))
    first: dict[int, Op] = {}
    dropped: set[int] = set()
    for (_, axis), found in parts.items():
        source, size = found[0][1].inputs[0], found[0][1].output.shape[axis]
        assert source is not None
        ordered = [op for _, op in sorted(found, key=lambda part: part[0])]
        whole = [begin for begin, _ in sorted(found, key=lambda part: part[0])]
        equal = all(op.output.shape[axis] == size for op in ordered)
        if len(ordered) < 2 or not equal or whole != list(range(0, source.shape[axis], size)):
            continue
        if not parts_meet([op.output for op in ordered], readers):
            first[id(found[0][1])] = _split(source, axis, ordered)
            dropped.update(id(op) for _, op in found[1:])
    ops = [first.get(id(op), op) for op in graph.ops if id(op) not in dropped]
    return replace(graph, ops=ops) if first else graph


def _cut(op: Op) -> tuple[int, int] | None:
    """The axis along which a SLICE of a runtime float cuts and where it begins, None if not one axis."""
    source = op.inputs[0] if op.code == "SLICE" else None
    if source is None or source.is_constant or source.dtype != np.float32:
        return None
    begin = op.inputs[1]
    axes = [k for k, (a, b) in enumerate(zip(source.shape, op.output.shape, strict=True)) if a != b]
    if len(axes) != 1 or begin is None or begin.data is None:
        return None
    return axes[0], int(begin.data.reshape(-1)[axes[0]])


def _split(source: Tensor, axis: int, slices: list[Op]) -> Op:
    number = np.asarray(axis, np.int32)
    constant = Tensor(f"{slices[0].output.name}_axis", (), number.dtype, number)
    origin = slices[0].origin.union(*(op.origin for op in slices[1:]))
    outputs = [op.output for op in slices]
    return Op("SPLIT", [constant, source], outputs, {"num_splits": len(slices)}, origin)


def reshape_before_split(graph: Graph) -> Graph:
    """RESHAPEs of all the parts of a SPLIT become one RESHAPE of the whole."""
    readers = graph.consumers()
    results = {id(t) for t in graph.outputs}
    changed: dict[int, list[Op]] = {}
    dropped: set[int] = set()
    for op in graph.ops:
        if op.code != "SPLIT" or any(id(t) in results for t in op.outputs):
            continue
        after = [reader for t in op.outputs for reader in readers.get(id(t), ())]
        codes = {reader.code for reader in after}
        shapes = {reader.output.shape for reader in after if codes == _RESHAPE}
        if len(after) != len(op.outputs) or len(shapes) != 1:
            continue
        moved_split = _reshaped_split(op, after)
        if moved_split is not None:
            changed[id(op)] = moved_split
            dropped.update(id(reader) for reader in after)
    ops = [new for op in graph.ops if id(op) not in dropped for new in changed.get(id(op), [op])]
    return replace(graph, ops=ops) if changed else graph


def _reshaped_split(op: Op, after: list[Op]) -> list[Op] | None:
    """A RESHAPE and the SPLIT after it, which makes what the RESHAPEs `after` the SPLIT `op` made."""
    constant, source = op.inputs
    assert constant is not None
    assert constant.data is not None
    assert source is not None
    axis, part, target = int(constant.data.reshape(-1)[0]), op.outputs[0].shape, after[0].output.shape
    # Each part is a run of neighbours for every index of the axes ahead of the one that is cut.
    ahead = prod(part[: axis % len(part)])
    places = [k for k in range(len(target)) if prod(target[:k]) == ahead]
    if not places or prod(part) == 0 or len(target) > _MAX_RANK:
        return None
    place = places[-1]
    whole = (*target[:place], target[place] * len(op.outputs), *target[place + 1 :])
    step = _like(after[0].output, whole)
    number = np.asarray(place, np.int32)
    axis_input = Tensor(f"{step.name}_axis", (), number.dtype, number)
    outputs = [reader.output for reader in after]
    return [
        reshape_op(source, step, op.origin.union(*(reader.origin for reader in after))),
        replace(op, inputs=[axis_input, step], outputs=outputs),
    ]
