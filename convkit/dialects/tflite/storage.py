"""Axis permutations: the orders in which a tensor's axes may be stored.

A permutation `p` stores a value so that axis `i` of what is stored is axis `p[i]` of the value,
as in `numpy.transpose(value, p)`. Axes of size 1 occupy no room: two orders that differ only in
where those stand hold the same bytes, and a RESHAPE turns one into the other.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from convkit.dialects.tflite.graph import Tensor

Perm = tuple[int, ...]
Shape = tuple[int, ...]
Form = tuple[Perm, Shape]
"""What a stored value is: the order of its axes larger than 1, and its shape."""


@cache
def identity(rank: int) -> Perm:
    """The order that stores every axis where it is."""
    return tuple(range(rank))


@cache
def inverse(perm: Perm) -> Perm:
    """The order that undoes `perm`."""
    places = [0] * len(perm)
    for place, axis in enumerate(perm):
        places[axis] = place
    return tuple(places)


@cache
def compose(outer: Perm, inner: Perm) -> Perm:
    """The order that results from storing by `outer` and storing the result by `inner`."""
    return tuple(outer[axis] for axis in inner)


def moved(shape: Shape, perm: Perm) -> Shape:
    """The shape of a value of `shape` stored by `perm`."""
    return tuple(shape[axis] for axis in perm)


def wide_axes(perm: Perm, shape: Shape) -> Perm:
    """The axes of size other than 1, in stored order: all that decides where bytes lie."""
    return tuple(axis for axis in perm if shape[axis] != 1)


@cache
def form(perm: Perm, shape: Shape) -> Form:
    """What a value of `shape` is when stored by `perm`; equal forms are one and the same tensor."""
    return wide_axes(perm, shape), moved(shape, perm)


@cache
def settle(wide: Perm, shape: Shape) -> Perm:
    """The order with `wide` as its wide axes in which every axis of size 1 keeps its own place."""
    axes = iter(wide)
    return tuple(axis if size == 1 else next(axes) for axis, size in enumerate(shape))


def lead(wide: Perm, shape: Shape) -> Perm:
    """The order with `wide` as its wide axes in which the axes of size 1 come first."""
    return (*(axis for axis, size in enumerate(shape) if size == 1), *wide)


@cache
def carried(perm: Perm, source: Shape, target: Shape) -> Perm | None:
    """The order of the result when a value stored by `perm` is reshaped from `source` to `target`.

    None where no order is right: the bytes of the reshaped value are the same only if `perm`
    moves whole groups of axes that the reshape keeps together.
    """
    groups = _groups(source, target)
    if groups is None:
        return None
    wide = list(wide_axes(perm, source))
    by_first = {before[0]: (before, after) for before, after in groups}
    result: list[int] = []
    while wide:
        group = by_first.get(wide[0])
        if group is None or wide[: len(group[0])] != group[0]:
            return None
        del wide[: len(group[0])]
        result += group[1]
    return settle(tuple(result), target)


def flattened_axes(source: Shape, target: Shape) -> list[int]:
    """The wide axes of `source` that a reshape to `target` makes its last axis; none if it does not."""
    groups = _groups(source, target)
    if not groups or groups[-1][1] != [len(target) - 1]:
        return []
    return groups[-1][0]


def _groups(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]] | None:
    """The smallest runs of wide axes of `source` and `target` that hold the same elements."""
    if 0 in source:
        return None
    left = [axis for axis, size in enumerate(source) if size != 1]
    right = [axis for axis, size in enumerate(target) if size != 1]
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(left):
        before, after = [left[i]], [right[j]]
        have, want = source[left[i]], target[right[j]]
        i, j = i + 1, j + 1
        while have != want:
            if have < want:
                before.append(left[i])
                have, i = have * source[left[i]], i + 1
            else:
                after.append(right[j])
                want, j = want * target[right[j]], j + 1
        groups.append((before, after))
    return groups


def stored(tensor: Tensor, perm: Perm, name: str | None = None) -> Tensor:
    """`tensor` with its shape, data and quantized axis stored by `perm`."""
    quantization = tensor.quantization
    if quantization is not None and np.size(quantization.scale) > 1:
        quantization = replace(quantization, axis=perm.index(quantization.axis))
    data = tensor.data
    if data is not None:
        data = np.ascontiguousarray(data.reshape(tensor.shape).transpose(perm))
    return Tensor(name or tensor.name, moved(tensor.shape, perm), tensor.dtype, data, quantization)
