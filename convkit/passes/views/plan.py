"""Plans: the fewest operators of rank at most 4 that carry out a view of a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.passes.views.block_steps import MAX_RANK, permutation_steps
from convkit.passes.views.index_map import (
    Digit,
    Shape,
    View,
    cut_at_axes,
    make_view,
    merge_digits,
    split_digits,
    strides_of,
)
from convkit.rewrite import Rewriter

_MAX_DIGITS = 10
_MAX_INDICES = 1 << 14


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a plan: what it does and the shape that it gives.

    `detail` is the permutation of a Transpose, (starts, steps) of a Slice, (axis, indices) of a Gather,
    (block size, mode) of SpaceToDepth and DepthToSpace.
    """

    op: str
    shape: Shape
    detail: tuple[Any, ...] = ()


Plan = tuple[Step, ...]


@lru_cache(maxsize=4096)  # alike layers ask for the same plans
def plan_view(source: Shape, view: View, target: Shape) -> Plan | None:
    """The shortest plan from a value of shape `source` to `view` of it with shape `target`, or None.

    Every value in between has rank <= MAX_RANK. With as many operators, a Slice is preferred to a Gather
    and a Transpose to both.
    """
    if not view.size:
        return None
    if keeps_all(view, source):
        plans = [
            _permute(source, view, target),
            _own_gather(source, view, target),
            _blocks(source, view, target),
        ]
    else:
        plans = [f(source, view, target) for f in (_own_slice, _own_gather, _boxed_slice)]
    found = [p for p in plans if p is not None]
    return min(found, key=len) if found else _own_gathers(source, view, target)


def keeps_all(view: View, source: Shape) -> bool:
    """Whether a view holds every element of its source exactly once."""
    return merge_digits(sorted(view.digits, key=lambda d: -d[1])) == merge_digits([(prod(source), 1)])


def emit_plan(rw: Rewriter, x: ir.Value, plan: Plan) -> ir.Value:
    """Build the operators of a plan."""
    for step in plan:
        if step.op == "Reshape":
            x = rw.op("Reshape", x, rw.ints(step.shape))
        elif step.op == "Transpose":
            x = rw.op("Transpose", x, perm=list(step.detail))
        elif step.op == "Slice":
            x = _emit_slice(rw, x, step)
        elif step.op == "SpaceToDepth":
            x = rw.op("SpaceToDepth", x, blocksize=step.detail[0])
        elif step.op == "DepthToSpace":
            x = rw.op("DepthToSpace", x, blocksize=step.detail[0], mode=step.detail[1])
        else:
            axis, indices = step.detail
            x = rw.op("Gather", x, rw.ints(indices), axis=axis)
    return x


def _emit_slice(rw: Rewriter, x: ir.Value, step: Step) -> ir.Value:
    starts, steps = (np.array(d, np.int64) for d in step.detail)
    before, after = np.array(x.shape, np.int64), np.array(step.shape, np.int64)
    axes = np.flatnonzero((before != after) | (steps != 1)).astype(np.int64)
    ends = starts + (after - 1) * steps + 1
    return rw.op("Slice", x, *(rw.const(a) for a in (starts[axes], ends[axes], axes, steps[axes])))


def _reshape(source: Shape, target: Shape) -> Plan:
    return () if source == target else (Step("Reshape", target),)


def _own_slice(source: Shape, view: View, target: Shape) -> Plan | None:
    """A Slice along the source's own axes, then whatever permutation is left."""
    digits = cut_at_axes(view.digits, source)
    if digits is None:
        return None
    axis_of = _axes_of(digits, source)
    starts, counts, steps = [], [], []
    for axis, (size, stride) in enumerate(zip(source, strides_of(source), strict=True)):
        own = sorted((d for d, a in zip(digits, axis_of, strict=True) if a == axis), key=lambda d: -d[1])
        merged = merge_digits(own)
        if len(merged) > 1:
            return None
        count, step = merged[0] if merged else (1, stride)
        start = view.offset // stride % size
        if step % stride or start + (count - 1) * (step // stride) >= size:
            return None
        starts.append(start)
        counts.append(count)
        steps.append(step // stride)
    sliced = tuple(counts)
    if sliced == source or len(source) > MAX_RANK:
        return None
    old, new = strides_of(source), strides_of(sliced)
    rest = make_view(
        (n, s // (old[a] * steps[a]) * new[a]) for (n, s), a in zip(digits, axis_of, strict=True)
    )
    after = _permute(sliced, rest, target)
    return None if after is None else (Step("Slice", sliced, (tuple(starts), tuple(steps))), *after)


def _own_gathers(source: Shape, view: View, target: Shape) -> Plan | None:
    """A Gather along each of the source's own axes that is not kept whole, then the permutation left.

    It repeats elements where windows overlap.
    """
    digits = cut_at_axes(view.digits, source)
    if digits is None or len(source) > MAX_RANK:
        return None
    axis_of, shape, strides = _axes_of(digits, source), list(source), strides_of(source)
    plan: list[Step] = []
    for axis, (size, stride) in enumerate(zip(source, strides, strict=True)):
        own = [d for d, a in zip(digits, axis_of, strict=True) if a == axis]
        start = view.offset // stride % size
        if any(s % stride for _, s in own) or start + sum((n - 1) * s // stride for n, s in own) >= size:
            return None
        if merge_digits(own) == merge_digits([(size, stride)]):
            continue
        indices = tuple(start + p // stride for p in View(tuple(own)).positions())
        if len(indices) > _MAX_INDICES:
            return None
        shape[axis] = len(indices)
        plan.append(Step("Gather", tuple(shape), (axis, indices)))
    place = list(strides_of(shape))
    rest: list[Digit] = []
    for (n, _), axis in reversed(list(zip(digits, axis_of, strict=True))):
        rest.append((n, place[axis]))
        place[axis] *= n
    after = _permute(tuple(shape), make_view(reversed(rest)), target)
    return None if after is None else (*plan, *after)


def _axes_of(digits: Sequence[Digit], source: Shape) -> list[int]:
    """The axis of `source` along which each digit moves."""
    strides = strides_of(source)
    axes = [a for a in range(len(source)) if source[a] > 1]
    return [next(a for a in axes if strides[a] <= s) for _, s in digits]


def _own_gather(source: Shape, view: View, target: Shape) -> Plan | None:
    """A Gather along one axis, where every other axis stays whole and in its place."""
    if len(source) > MAX_RANK:
        return None
    for axis, (size, stride) in enumerate(zip(source, strides_of(source), strict=True)):
        major, minor = prod(source[:axis]), stride
        if size == 1 or view.size % (major * minor):
            continue
        count = view.size // (major * minor)
        groups = split_digits(view.digits, (major, count, minor))
        if groups is None or count > _MAX_INDICES:
            continue
        whole = (merge_digits(groups[0]), merge_digits(groups[2]))
        if whole != (merge_digits([(major, size * stride)]), merge_digits([(minor, 1)])):
            continue
        if any(s % stride for _, s in groups[1]) or view.offset % stride:
            continue
        indices = tuple(p // stride for p in View(groups[1], view.offset).positions())
        if max(indices) >= size:
            continue
        shape = (*source[:axis], count, *source[axis + 1 :])
        return (Step("Gather", shape, (axis, indices)), *_reshape(shape, target))
    return None


def _boxed_slice(source: Shape, view: View, target: Shape) -> Plan | None:
    """Reshape so that every digit is an axis of its own, Slice there, then permute."""
    ordered = sorted(view.digits, key=lambda d: -d[1])
    sizes, counts, starts = [], [], []
    outer = prod(source)
    for n, s in ordered:
        if outer % s or outer // s < n:
            return None
        sizes.append(outer // s)
        counts.append(n)
        starts.append(view.offset // s % (outer // s))
        outer = s
    if outer > 1:
        sizes.append(outer)
        counts.append(1)
        starts.append(view.offset % outer)
    if any(start + n > size for start, n, size in zip(starts, counts, sizes, strict=True)):
        return None
    boxes = _join_whole(sizes, counts, starts)
    if len(boxes) > MAX_RANK:
        return None
    box, sliced, begin = (tuple(column) for column in zip(*boxes, strict=True))
    new = strides_of(counts)
    rest = make_view((d[0], new[ordered.index(d)]) for d in view.digits)
    after = _permute(sliced, rest, target)
    if after is None:
        return None
    return (*_reshape(source, box), Step("Slice", sliced, (begin, (1,) * len(box))), *after)


def _join_whole(sizes: list[int], counts: list[int], starts: list[int]) -> list[tuple[int, int, int]]:
    """Join an axis that is kept whole to the one before it, as (size, count, start)."""
    boxes: list[tuple[int, int, int]] = []
    for size, count, start in zip(sizes, counts, starts, strict=True):
        if boxes and count == size:
            a, b, c = boxes[-1]
            boxes[-1] = (a * size, b * size, c * size)
        else:
            boxes.append((size, count, start))
    return boxes


def _permute(source: Shape, view: View, target: Shape) -> Plan | None:
    """Transposes and Reshapes for a view that keeps every element."""
    ordered = sorted(view.digits, key=lambda d: -d[1])
    perm = tuple(ordered.index(d) for d in view.digits)
    if perm == tuple(range(len(perm))):
        return _reshape(source, target)
    direct = _one_transpose(source, view, target)
    if direct is not None:
        return direct
    if len(perm) > _MAX_DIGITS:
        return None
    plan: list[Step] = []
    shape, sizes = source, [n for n, _ in ordered]
    for groups in permutation_steps(perm):
        parts = [sizes[a:b] for a, b in groups]
        box = tuple(prod(p) for p in parts)
        order = _sorted_to(groups)
        plan += _reshape(shape, tuple(box[i] for i in sorted(range(len(box)), key=lambda i: groups[i])))
        shape = box
        plan.append(Step("Transpose", box, order))
        sizes = [n for part in parts for n in part]
    return (*plan, *_reshape(shape, target))


def _blocks(source: Shape, view: View, target: Shape) -> Plan | None:
    """SpaceToDepth or DepthToSpace between NCHW shapes, with the channels put in order where they differ."""
    if len(source) != 4 or len(target) != 4 or source[0] != target[0]:
        return None
    down = source[2] > target[2]
    large, small = (source, target) if down else (target, source)
    block = large[2] // small[2]
    if block < 2 or (small[2] * block, small[3] * block) != large[2:] or small[1] != large[1] * block**2:
        return None
    return (_space_to_depth if down else _depth_to_space)(source, view, target, block)


def _space_to_depth(source: Shape, view: View, target: Shape, block: int) -> Plan | None:
    _, channels, height, width = source
    whole = make_view([(source[0], channels * height * width)]).digits
    groups = split_digits(view.digits, target)
    if groups is None or merge_digits(groups[0]) != whole:
        return None
    if groups[2] != _digit(target[2], block * width) or groups[3] != _digit(target[3], block):
        return None
    order = []
    for place in View(groups[1]).positions():
        channel, inside = divmod(place, height * width)
        row, column = divmod(inside, width)
        order.append((row * block + column) * channels + channel)
    return (Step("SpaceToDepth", target, (block,)), *_reorder_channels(target, order))


def _depth_to_space(source: Shape, view: View, target: Shape, block: int) -> Plan | None:
    _, depth, height, width = source
    area, channels = height * width, target[1]
    groups = split_digits(view.digits, (target[0], channels, height, block, width, block))
    if groups is None or merge_digits(groups[0]) != make_view([(source[0], depth * area)]).digits:
        return None
    if groups[2] != _digit(height, width) or groups[4] != _digit(width, 1):
        return None
    places = View((*groups[3], *groups[5], *groups[1])).positions()
    if any(p % area for p in places):
        return None
    order = [p // area for p in places]
    in_rows = [(c * block * block + k) for k in range(block * block) for c in range(channels)]
    if order == in_rows:
        return (Step("DepthToSpace", target, (block, "CRD")),)
    return (*_reorder_channels(source, order), Step("DepthToSpace", target, (block, "DCR")))


def _digit(size: int, stride: int) -> tuple[Digit, ...]:
    return merge_digits([(size, stride)])


def _reorder_channels(shape: Shape, order: Sequence[int]) -> Plan:
    if list(order) == list(range(len(order))):
        return ()
    return (Step("Gather", shape, (1, tuple(order))),)


def _sorted_to(groups: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The permutation that brings groups from position order to the order given."""
    order = sorted(groups)
    return tuple(order.index(g) for g in groups)


def _one_transpose(source: Shape, view: View, target: Shape) -> Plan | None:
    """One Transpose, of the source's own shape or to the target's own shape where that saves a Reshape."""
    plans: list[Plan] = []
    if len(source) <= MAX_RANK and (found := _transpose_of(source, view, target)) is not None:
        plans.append(found)
    if len(target) <= MAX_RANK and (groups := split_digits(view.digits, target)) is not None:
        kept = [i for i, n in enumerate(target) if n > 1]
        if all(len(merge_digits(groups[i])) == 1 for i in kept):
            order = sorted(kept, key=lambda i: -groups[i][0][1])
            back = {axis: place for place, axis in zip(kept, order, strict=True)}
            before = list(target)
            for place, axis in zip(kept, order, strict=True):
                before[place] = target[axis]
            perm = tuple(back.get(i, i) for i in range(len(target)))
            plans.append((*_reshape(source, tuple(before)), Step("Transpose", target, perm)))
    return min(plans, key=len) if plans else None


def _transpose_of(source: Shape, view: View, target: Shape) -> Plan | None:
    """A Transpose of the source as it is, and a Reshape if the target needs one."""
    digits = cut_at_axes(view.digits, source)
    if digits is None:
        return None
    axes = _axes_of(digits, source)
    if len(set(axes)) != len(axes) or any(n != source[a] for (n, _), a in zip(digits, axes, strict=True)):
        return None
    ones = [a for a, n in enumerate(source) if n == 1]
    if sum(n == 1 for n in target) == len(ones) and [n for n in target if n > 1] == [n for n, _ in digits]:
        moving, still = iter(axes), iter(ones)
        perm = tuple(next(moving) if n > 1 else next(still) for n in target)
    else:
        moving = iter(axes)
        perm = tuple(a if n == 1 else next(moving) for a, n in enumerate(source))
    shape = tuple(source[a] for a in perm)
    return (Step("Transpose", shape, perm), *_reshape(shape, target))
