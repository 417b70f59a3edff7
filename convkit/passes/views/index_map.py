"""Index maps: what Reshape, Transpose and Slice do to positions, as one small algebra.

A chain of these operators is a *view*: element i of the result (counted row-major) is one element
of the source. Written as mixed-radix digits, i = (i1, ..., ik) lies at offset + sum(ij * stride_j).
A Reshape does not change the map at all; a Transpose reorders its digits; a Slice shrinks one and
moves the offset. Digits of size 1 vanish and neighbours that travel together merge, so equal chains
have equal views, and the number of digits is the true rank of the movement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

Digit = tuple[int, int]
"""(size, stride): how many steps, and how many elements of the source one step is."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A strided map from row-major positions of a value to positions in its source.

    `digits` are major first, without ones and maximally merged; `offset` is where position 0 lies.
    """

    digits: tuple[Digit, ...]
    offset: int = 0

    @property
    def size(self) -> int:
        """Number of elements of the result."""
        return prod(n for n, _ in self.digits)

    def positions(self) -> list[int]:
        """Where each element lies in the source, row-major: the map written out."""
        ranges = [range(0, n * s, s) for n, s in self.digits]
        return [self.offset + sum(index) for index in product(*ranges)]


def make_view(digits: Iterable[Digit], offset: int = 0) -> View:
    """The view in normal form."""
    return View(merge_digits(digits), offset)


def identity(shape: Sequence[int]) -> View:
    """The view of a value of this shape on itself."""
    return make_view([(prod(shape), 1)])


def merge_digits(digits: Iterable[Digit]) -> tuple[Digit, ...]:
    """Drop ones, and join neighbours that count on: (a, b * s), (b, s) = (a * b, s)."""
    merged: list[Digit] = []
    for n, s in digits:
        if n == 1:
            continue
        if merged and merged[-1][1] == n * s:
            merged[-1] = (merged[-1][0] * n, s)
        else:
            merged.append((n, s))
    return tuple(merged)


def split_digits(digits: Sequence[Digit], shape: Sequence[int]) -> list[tuple[Digit, ...]] | None:
    """The digits of each dimension of `shape`, or None where a dimension cuts through a digit."""
    rest = list(reversed(digits))
    groups: list[tuple[Digit, ...]] = []
    for size in shape:
        need, group = size, []
        while need > 1:
            if not rest:
                return None
            n, s = rest.pop()
            if need % n == 0:
                group.append((n, s))
                need //= n
            elif n % need == 0:
                minor = n // need
                group.append((need, s * minor))
                rest.append((minor, s))
                need = 1
            else:
                return None
        groups.append(tuple(group))
    return groups


def transpose(view: View, shape: Sequence[int], perm: Sequence[int]) -> View | None:
    """The view after a Transpose of a value of `shape`; None if it is no longer strided."""
    groups = split_digits(view.digits, shape)
    if groups is None:
        return None
    return make_view((d for axis in perm for d in groups[axis]), view.offset)


def take(view: View, shape: Sequence[int], axis: int, start: int, count: int, step: int = 1) -> View | None:
    """The view after taking `count` elements from `start` on by `step` (> 0) along `axis`."""
    groups = split_digits(view.digits, shape)
    if groups is None:
        return None
    taken = _take(merge_digits(groups[axis]), start, count, step)
    if taken is None:
        return None
    kept, moved = taken
    digits = [d for i, group in enumerate(groups) for d in (kept if i == axis else group)]
    return make_view(digits, view.offset + moved)


def _take(digits: tuple[Digit, ...], start: int, count: int, step: int) -> tuple[list[Digit], int] | None:
    """A range of one dimension that may have several digits: new digits and the offset's move."""
    if not digits:
        return [], 0
    (n, s), rest = digits[0], digits[1:]
    if not rest:
        return [(count, s * step)], start * s
    inner = prod(m for m, _ in rest)
    last = start + (count - 1) * step
    if start // inner == last // inner:
        found = _take(rest, start % inner, count, step)
        return None if found is None else (found[0], found[1] + start // inner * s)
    if step == 1:
        if start % inner or count % inner:
            return None
        return [(count // inner, s), *rest], start // inner * s
    if start < step and inner % step == 0 and count * step == n * inner:
        found = _take(rest, start, inner // step, step)
        return None if found is None else ([(n, s), *found[0]], found[1])
    return None


def pick(view: View, shape: Sequence[int], axis: int, indices: Sequence[int]) -> View | None:
    """The view after gathering `indices` along `axis`; None unless they count in mixed radix."""
    groups = split_digits(view.digits, shape)
    picked = counting(indices)
    own = merge_digits(groups[axis]) if groups is not None else ()
    if groups is None or picked is None or len(own) > 1:
        return None
    stride = own[0][1] if own else 0
    groups[axis] = tuple((n, s * stride) for n, s in picked)
    return make_view((d for group in groups for d in group), view.offset + indices[0] * stride)


def stack(views: Sequence[View]) -> tuple[View, tuple[Digit, ...]] | None:
    """Views that differ only by their offsets, counting in mixed radix: the first, and the digits to add.

    The digits are major first: view number i lies at the i-th combination of them.
    """
    first = views[0]
    digits = counting([v.offset for v in views])
    if digits is None or any(v.digits != first.digits for v in views):
        return None
    return first, digits


def counting(places: Sequence[int]) -> tuple[Digit, ...] | None:
    """The digits by which `places` count from the first one on, major first; None if there are none."""
    moves = [p - places[0] for p in places]
    digits: list[Digit] = []
    block = 1
    while block < len(moves):
        step, count = moves[block], 1
        while count * block < len(moves) and moves[count * block] == count * step:
            count += 1
        if step < 1 or len(moves) % (block * count):
            return None
        digits.insert(0, (count, step))
        block *= count
    return tuple(digits) if View(tuple(digits)).positions() == moves else None


def strides_of(shape: Sequence[int]) -> Shape:
    """Row-major strides in elements."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)


def cut_at_axes(digits: Iterable[Digit], shape: Sequence[int]) -> list[Digit] | None:
    """Digits cut so that each moves along one axis of the source `shape`; None if one cannot be."""
    return _cut_at(digits, sorted(s for n, s in zip(shape, strides_of(shape), strict=True) if n > 1))


def relative(view: View, base: View) -> View | None:
    """`view` as a view of the value that is `base`; None unless both pick the same elements."""
    edges = sorted({e for n, s in (*view.digits, *base.digits) for e in (s, n * s)})
    ours, theirs = (_cut_at(v.digits, edges) for v in (view, base))
    if ours is None or theirs is None or sorted(ours) != sorted(theirs) or view.offset != base.offset:
        return None
    places = dict(zip(theirs, strides_of([n for n, _ in theirs]), strict=True))
    return make_view((n, places[n, s]) for n, s in ours)


def _cut_at(digits: Iterable[Digit], edges: Sequence[int]) -> list[Digit] | None:
    """Digits cut at every stride in `edges` that lies inside them; None if one does not divide."""
    cut: list[Digit] = []
    for n, s in digits:
        size = n
        for edge in reversed(edges):
            if not s < edge <= (size - 1) * s:
                continue
            minor, remainder = divmod(edge, s)
            if remainder or size % minor:
                return None
            cut.append((size // minor, edge))
            size = minor
        cut.append((size, s))
    return cut
