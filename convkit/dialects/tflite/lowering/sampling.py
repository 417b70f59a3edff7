"""Images sampled at computed places: gathers of whole pixels, weighted by how near they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.activations import shifted
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError
from convkit.dialects.tflite.lowering.functions import polynomial

Taps = Sequence[tuple[Tensor, Tensor]]
"""Whole coordinates along one axis, and what weight each has (both of one shape)."""

_COUNTED = 2**24
"""Up to here float32 holds every integer."""

_A = -0.75
_CUBIC_NEAR = (1.0, 0.0, -(_A + 3), _A + 2)
_CUBIC_FAR = (-4 * _A, 8 * _A, -5 * _A, _A)


def limited(b: Builder, x: Tensor, high: int) -> Tensor:
    """x between zero and `high`."""
    return b.binary("MINIMUM", b.binary("MAXIMUM", x, b.scalar_like(x, 0)), b.scalar_like(x, high))


def _inside(b: Builder, at: Tensor, size: int) -> Tensor:
    """One where a pixel coordinate (a whole number) lies in the image, else zero."""
    beyond = b.unary("ABS", b.binary("SUB", at, limited(b, at, size - 1)))
    return b.binary("SUB", b.scalar_like(at, 1), limited(b, beyond, 1))


def _mirrored(b: Builder, at: Tensor, size: int, aligned: bool) -> Tensor:
    """A pixel coordinate reflected into the image: at the centres of its outer pixels, or at their edges."""
    period = 2 * (size - 1) if aligned else 2 * size
    if not period:
        return b.binary("MUL", at, b.scalar_like(at, 0))
    once = b.binary("FLOOR_MOD", at, b.scalar_like(at, period))
    back = b.binary("SUB", b.scalar_like(at, period - (not aligned)), once)
    return b.binary("MINIMUM", once, back)


@dataclass(frozen=True)
class Picture:
    """Images (batch, spatial..., channels) to be sampled at P places each.

    `padding` says what lies outside: "zeros", "border" or "reflection" (`aligned`: at pixel centres).
    `first`, int32 and broadcastable to (batch, P), is the row where each place's image begins.
    """

    rows: Tensor
    size: tuple[int, ...]
    first: Tensor | None
    padding: str = "zeros"
    aligned: bool = False

    def pixels(self, b: Builder, at: Sequence[Tensor]) -> Tensor:
        """The pixels at whole coordinates, one (N, P) per spatial axis: (N P, channels)."""
        if self.padding == "reflection":
            at = [_mirrored(b, x, n, self.aligned) for x, n in zip(at, self.size, strict=True)]
        held = [limited(b, x, n - 1) for x, n in zip(at, self.size, strict=True)]
        index = held[0]
        for x, n in zip(held[1:], self.size[1:], strict=True):
            index = b.binary("ADD", b.binary("MUL", index, b.scalar_like(index, n)), x)
        flat = b.cast(index, np.int32)
        if self.first is not None:
            flat = b.binary("ADD", flat, self.first)
        count = prod(flat.shape)
        found = b.emit("GATHER", [self.rows, b.reshape(flat, (count,))], (count, self.rows.shape[1]), axis=0)
        if self.padding != "zeros":
            return found
        inside = _inside(b, at[0], self.size[0])
        for x, n in zip(at[1:], self.size[1:], strict=True):
            inside = b.binary("MUL", inside, _inside(b, x, n))
        return b.binary("MUL", found, b.reshape(inside, (count, 1)))

    def weighted(self, b: Builder, taps: Sequence[Taps]) -> Tensor:
        """The sum of the pixels at all combinations of taps along the axes: (N P, channels)."""
        total: Tensor | None = None
        for combination in product(*taps):
            weight = combination[0][1]
            for _, factor in combination[1:]:
                weight = b.binary("MUL", weight, factor)
            pixels = self.pixels(b, [at for at, _ in combination])
            term = b.binary("MUL", pixels, b.reshape(weight, (prod(weight.shape), 1)))
            total = term if total is None else b.binary("ADD", total, term)
        assert total is not None
        return total


def picture(b: Builder, images: Tensor, padding: str = "zeros", aligned: bool = False) -> Picture:
    """Images (N, C, spatial...), each of which is sampled at places of its own."""
    n, c, *size = images.shape
    if prod(size) >= _COUNTED:
        raise UnsupportedError("its image has more pixels than float32 counts")
    rows = b.reshape(b.transpose(images, (0, *range(2, images.rank), 1)), (n * prod(size), c))
    starts = np.arange(n, dtype=np.int32)[:, None] * prod(size)
    return Picture(rows, tuple(size), b.const(starts, hint="first") if n > 1 else None, padding, aligned)


def linear_taps(b: Builder, x: Tensor) -> Taps:
    """The two pixels around x."""
    near = b.unary("FLOOR", x)
    part = b.binary("SUB", x, near)
    return [(near, b.binary("SUB", b.scalar_like(part, 1), part)), (shifted(b, near, 1), part)]


def cubic_taps(b: Builder, x: Tensor) -> Taps:
    """The four pixels around x, weighted by cubic convolution."""
    near = b.unary("FLOOR", x)
    part = b.binary("SUB", x, near)
    rest = b.binary("SUB", b.scalar_like(part, 1), part)
    return [
        (shifted(b, near, -1), polynomial(b, shifted(b, part, 1), _CUBIC_FAR)),
        (near, polynomial(b, part, _CUBIC_NEAR)),
        (shifted(b, near, 1), polynomial(b, rest, _CUBIC_NEAR)),
        (shifted(b, near, 2), polynomial(b, shifted(b, rest, 1), _CUBIC_FAR)),
    ]
