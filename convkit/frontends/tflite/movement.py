"""Shapes and places: reshape, slice, pad, gather, join, split, repeat, and what reports a shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.frontends.tflite.builder import Builder, RefusedError, imports
from convkit.ir.facts import note_indices_not_negative

_END = np.iinfo(np.int64).max


def numbers(tensor: Tensor | None, what: str) -> list[int]:
    """The integers of a constant; RefusedError names `what` where it is computed."""
    if tensor is None or tensor.data is None:
        raise RefusedError(f"its {what} is computed by the model")
    return [int(n) for n in tensor.data.reshape(-1)]


def _data(op: Op, position: int = 0) -> Tensor:
    x = op.inputs[position]
    assert x is not None
    return x


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < max(rank, 1):
        raise RefusedError(f"its axis is {axis}, of {rank}")
    return axis % rank if rank else 0


@imports("RESHAPE")
def reshape(b: Builder, op: Op) -> ir.Value:
    """To the shape of the second input, else of the options, else of the output."""
    wanted = op.inputs[1] if len(op.inputs) > 1 else None
    if wanted is not None and wanted.rank == 1:
        return b.op("Reshape", b.real(op.inputs[0]), b.index(wanted), allowzero=1)
    return b.op("Reshape", b.real(op.inputs[0]), b.ints(op.options["new_shape"] or op.outputs[0].shape))


@imports("SQUEEZE")
def squeeze(b: Builder, op: Op) -> ir.Value:
    """The named axes, or all of size one, go."""
    axes = op.options["squeeze_dims"]
    return b.op("Squeeze", b.real(op.inputs[0]), b.ints(axes) if axes else None)


@imports("EXPAND_DIMS")
def expand_dims(b: Builder, op: Op) -> ir.Value:
    """A new axis of size one."""
    return b.op("Unsqueeze", b.real(op.inputs[0]), b.ints(numbers(op.inputs[1], "axis")))


@imports("TRANSPOSE")
def transpose(b: Builder, op: Op) -> ir.Value:
    """The axes in another order."""
    order = numbers(op.inputs[1], "order")
    if sorted(order) != list(range(_data(op).rank)):
        raise RefusedError(f"its order {order} is no permutation")
    return b.op("Transpose", b.real(op.inputs[0]), perm=order)


@imports("CONCATENATION")
def concatenation(b: Builder, op: Op) -> ir.Value:
    """Side by side along an axis."""
    rank = op.outputs[0].rank
    y = b.op("Concat", *(b.real(t) for t in op.inputs), axis=_axis(int(op.options["axis"]), rank))
    return b.activated(y, op.options)


@imports("PACK")
def pack(b: Builder, op: Op) -> ir.Value:
    """Side by side along a new axis."""
    axis = _axis(int(op.options["axis"]), op.outputs[0].rank)
    parts = [b.op("Unsqueeze", b.real(t), b.ints([axis])) for t in op.inputs]
    return b.op("Concat", *parts, axis=axis)


@imports("UNPACK")
def unpack(b: Builder, op: Op) -> list[ir.Value]:
    """One output for each place along an axis, which goes."""
    axis = _axis(int(op.options["axis"]), _data(op).rank)
    parts = _parts(b, b.real(op.inputs[0]), [1] * len(op.outputs), axis)
    return [b.op("Squeeze", part, b.ints([axis])) for part in parts]


def _parts(b: Builder, value: ir.Value, sizes: Sequence[int], axis: int) -> Sequence[ir.Value]:
    return b.ops("Split", value, b.ints(sizes), outputs=len(sizes), axis=axis)


@imports("SPLIT")
def split(b: Builder, op: Op) -> Sequence[ir.Value]:
    """Equal parts."""
    x = _data(op, 1)
    axis = _axis(numbers(op.inputs[0], "axis")[0], x.rank)
    count = len(op.outputs)
    if x.shape[axis] % count:
        raise RefusedError(f"an axis of {x.shape[axis]} has no {count} equal parts")
    return _parts(b, b.real(x), [x.shape[axis] // count] * count, axis)


@imports("SPLIT_V")
def split_v(b: Builder, op: Op) -> Sequence[ir.Value]:
    """Parts of given sizes; one of them may be the rest (-1)."""
    x, sizes = _data(op), numbers(op.inputs[1], "sizes")
    axis = _axis(numbers(op.inputs[2], "axis")[0], x.rank)
    rest = x.shape[axis] - sum(s for s in sizes if s >= 0)
    return _parts(b, b.real(x), [rest if s < 0 else s for s in sizes], axis)


@imports("SLICE")
def slice_(b: Builder, op: Op) -> ir.Value:
    """From `begin`, `size` elements, or all that follow (-1)."""
    begin, size = op.inputs[1], op.inputs[2]
    assert begin is not None
    if begin.data is None or size is None or size.data is None:
        ends = b.op("Add", b.index(begin), b.index(size))
        if size is None or size.data is None or np.any(size.data < 0):
            raise RefusedError("its size is computed by the model")
        return b.op("Slice", b.real(op.inputs[0]), b.index(begin), ends)
    first, count = numbers(begin, "begin"), numbers(size, "size")
    ends_at = [_END if n < 0 else f + n for f, n in zip(first, count, strict=True)]
    return b.op("Slice", b.real(op.inputs[0]), b.ints(first), b.ints(ends_at), b.ints(range(len(first))))


@imports("STRIDED_SLICE")
def strided_slice(b: Builder, op: Op) -> ir.Value:
    """Slice, then the axes that an index stands for go and new ones come."""
    options = op.options
    x = _data(op)
    if options["offset"]:
        raise RefusedError("its ends are offsets")
    begins, ends, steps = (numbers(t, what) for t, what in zip(op.inputs[1:4], ("begin", "end", "strides")))
    begins, ends, steps, new, ellipsis = _expanded(options, x.rank, begins, ends, steps)
    first: list[int] = []
    last: list[int] = []
    drop: list[int] = []
    axis = 0
    for i, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        if i in new:
            continue
        size = x.shape[axis]
        shrinks = bool(options["shrink_axis_mask"] >> i & 1) and i not in ellipsis
        open_begin = bool(options["begin_mask"] >> i & 1) or i in ellipsis
        open_end = bool(options["end_mask"] >> i & 1) or i in ellipsis
        if shrinks:
            index = 0 if open_begin else begin + size if begin < 0 else begin
            if not 0 <= index < size:
                raise RefusedError(f"its index {begin} is outside an axis of {size}")
            first, last, drop = [*first, index], [*last, index + 1], [*drop, axis]
        else:
            first.append((0 if step > 0 else _END) if open_begin else begin)
            last.append((_END if step > 0 else -_END) if open_end else end)
        axis += 1
    used = [
        1 if axis_ in drop else s for axis_, s in enumerate(s for i, s in enumerate(steps) if i not in new)
    ]
    y = b.op("Slice", b.real(x), b.ints(first), b.ints(last), b.ints(range(len(first))), b.ints(used))
    if drop:
        y = b.op("Squeeze", y, b.ints(drop))
    places, kept = [], 0
    for i in range(len(begins)):
        if i in new:
            places.append(kept)
        kept += i in new or not (options["shrink_axis_mask"] >> i & 1)
    return b.op("Unsqueeze", y, b.ints(places)) if places else y


def _expanded(
    options: dict[str, Any], rank: int, begins: list[int], ends: list[int], steps: list[int]
) -> tuple[list[int], list[int], list[int], set[int], set[int]]:
    """The bounds with an ellipsis spelled out; which entries are new axes, which the ellipsis stands for.

    An ellipsis beside other masks behind it would shift them, so it is taken at the end only.
    """
    if any(s == 0 for s in steps):
        raise RefusedError("its stride is zero")
    count = len(begins)
    new = {i for i in range(count) if options["new_axis_mask"] >> i & 1}
    found = [i for i in range(count) if options["ellipsis_mask"] >> i & 1]
    if not found:
        if count - len(new) > rank:
            raise RefusedError(f"it has bounds for {count - len(new)} axes, of {rank}")
        return begins, ends, steps, new, set()
    if len(found) > 1 or found[0] != count - 1 or found[0] in new:
        raise RefusedError("it has an ellipsis that is not last")
    extra = rank - (count - 1 - len(new))
    if extra < 1:
        return begins[:-1], ends[:-1], steps[:-1], new, set()
    more = extra - 1
    return (
        begins + [0] * more, ends + [0] * more, steps[:-1] + [1] * extra, new,
        set(range(found[0], found[0] + extra)),
    )  # fmt: skip


@imports("PAD", "PADV2")
def pad(b: Builder, op: Op) -> ir.Value:
    """A constant around; zero where none is given."""
    edges = np.asarray(numbers(op.inputs[1], "padding")).reshape(-1, 2)
    value = b.real(op.inputs[2]) if op.code == "PADV2" else None
    if value is not None:
        value = b.reshape(value, ())
    return b.op("Pad", b.real(op.inputs[0]), b.ints(edges.T.reshape(-1).tolist()), value)


@imports("MIRROR_PAD")
def mirror_pad(b: Builder, op: Op) -> ir.Value:
    """The inside mirrored at the edge; SYMMETRIC repeats the edge itself, by indices."""
    x = _data(op)
    edges = np.asarray(numbers(op.inputs[1], "padding")).reshape(-1, 2)
    if op.options["mode"] == "REFLECT":
        return b.op("Pad", b.real(x), b.ints(edges.T.reshape(-1).tolist()), mode="reflect")
    y = b.real(x)
    for axis, (before, after) in enumerate(edges.tolist()):
        if before or after:
            index = np.pad(np.arange(x.shape[axis]), (before, after), mode="symmetric")
            y = b.op("Gather", y, b.ints(index.tolist()), axis=axis)
    return y


def _picked(value: ir.Value) -> ir.Value:
    """What a Gather or GatherND gives, noted: TFLite's indices are never negative."""
    node = value.producer()
    assert node is not None
    note_indices_not_negative(node)
    return value


@imports("GATHER")
def gather(b: Builder, op: Op) -> ir.Value:
    """Places along an axis; for each index of the leading axes others, where there are batch dimensions."""
    x, indices = _data(op), _data(op, 1)
    axis, batch = _axis(int(op.options["axis"]), x.rank), int(op.options["batch_dims"])
    batch += indices.rank if batch < 0 else 0
    if not batch:
        return _picked(b.op("Gather", b.real(x), b.index(indices), axis=axis))
    if not batch <= axis:
        raise RefusedError(f"its axis {axis} is one of its {batch} batch dimensions")
    between, after = range(batch, axis), range(axis + 1, x.rank)
    tuples = b.op("Unsqueeze", b.index(indices), b.ints([-1]))
    moved = b.transpose(b.real(x), [*range(batch), axis, *between, *after])
    y = _picked(b.op("GatherND", moved, tuples, batch_dims=batch))
    ends = indices.rank, indices.rank + len(between)
    rank = indices.rank + len(between) + len(after)
    return b.transpose(y, [*range(batch), *range(*ends), *range(batch, ends[0]), *range(ends[1], rank)])


@imports("GATHER_ND")
def gather_nd(b: Builder, op: Op) -> ir.Value:
    """Places by tuples of indices."""
    return _picked(b.op("GatherND", b.real(op.inputs[0]), b.index(op.inputs[1])))


@imports("SCATTER_ND")
def scatter_nd(b: Builder, op: Op) -> ir.Value:
    """Updates added into zeros of a shape."""
    updates = _data(op, 1)
    zeros = b.const(np.zeros(numbers(op.inputs[2], "shape"), updates.dtype))
    return b.op("ScatterND", zeros, b.index(op.inputs[0]), b.real(updates), reduction="add")


@imports("TILE")
def tile(b: Builder, op: Op) -> ir.Value:
    """Repeated."""
    return b.op("Tile", b.real(op.inputs[0]), b.index(op.inputs[1]))


@imports("BROADCAST_TO")
def broadcast_to(b: Builder, op: Op) -> ir.Value:
    """Spread to a shape."""
    return b.op("Expand", b.real(op.inputs[0]), b.index(op.inputs[1]))


@imports("FILL")
def fill(b: Builder, op: Op) -> ir.Value:
    """One value in a shape."""
    return b.op("Expand", b.real(op.inputs[1]), b.index(op.inputs[0]))


@imports("SHAPE")
def shape(b: Builder, op: Op) -> ir.Value:
    """The sizes of the axes."""
    found = b.op("Shape", b.stored(_data(op)))
    return b.op("Cast", found, to=int(ir.DataType.from_numpy(op.outputs[0].dtype)))


@imports("RANK")
def rank(b: Builder, op: Op) -> ir.Value:
    """The number of axes."""
    return b.const(_data(op).rank, op.outputs[0].dtype)


@imports("RANGE")
def range_(b: Builder, op: Op) -> ir.Value:
    """start, start + delta, ..."""
    start, limit, delta = (b.reshape(b.real(t), ()) for t in op.inputs[:3])
    return b.op("Range", start, limit, delta)


@imports("ONE_HOT")
def one_hot(b: Builder, op: Op) -> ir.Value:
    """`on` at the index, `off` elsewhere."""
    on, off = (b.reshape(b.real(t), (1,)) for t in op.inputs[2:4])
    depth = b.ints(numbers(op.inputs[1], "depth"))
    values = b.op("Concat", off, on, axis=0)
    return b.op("OneHot", b.index(op.inputs[0]), depth, values, axis=int(op.options["axis"]))


@imports("REVERSE_V2")
def reverse(b: Builder, op: Op) -> ir.Value:
    """Axes run backwards."""
    axes = numbers(op.inputs[1], "axes")
    count = len(axes)
    bounds = b.ints([-1] * count), b.ints([-_END] * count), b.ints(axes), b.ints([-1] * count)
    return b.op("Slice", b.real(op.inputs[0]), *bounds)


@imports("REVERSE_SEQUENCE")
def reverse_sequence(b: Builder, op: Op) -> ir.Value:
    """The first elements of each sequence run backwards."""
    options = op.options
    axes = {"time_axis": int(options["seq_dim"]), "batch_axis": int(options["batch_dim"])}
    return b.op("ReverseSequence", b.real(op.inputs[0]), b.index(op.inputs[1]), **axes)
