"""Sliding windows: what Conv and the poolings share (strides, dilations, padding, spatial rank)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError
from convkit.ir.facts import attr, shape_of


@dataclass(frozen=True)
class Window:
    """A window over two or three spatial dimensions; 1-D is 2-D with a height of one."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    """Padding in front."""
    end: tuple[int, ...]
    """Padding behind, as the model states it."""
    size: tuple[int, ...]
    """Spatial input size."""
    out: tuple[int, ...]
    """Spatial output size."""

    @property
    def extent(self) -> tuple[int, ...]:
        """Input elements from the first to the last one a window reads."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations))

    @property
    def read_end(self) -> tuple[int, ...]:
        """Padding behind that the last window really reads; negative where input is left over."""
        parts = zip(self.out, self.strides, self.extent, self.size, self.begin)
        return tuple((o - 1) * s + e - n - b for o, s, e, n, b in parts)

    @property
    def padding(self) -> str | None:
        """TFLite's name for exactly this padding ("VALID" or "SAME"), None if it has none."""
        if not any(self.begin) and all(e <= 0 for e in self.read_end):
            return "VALID"
        parts = zip(self.out, self.strides, self.size, self.begin, self.read_end)
        same = all(o == -(-n // s) and b == max(b + e, 0) // 2 for o, s, n, b, e in parts)
        return "SAME" if same else None

    def options(self, dilated: bool = True) -> dict[str, int]:
        """The stride and dilation options of a TFLite operator."""
        axes = "dhw"[-len(self.kernel) :]
        found = {f"stride_{a}": s for a, s in zip(axes, self.strides)}
        if dilated:
            found |= {f"dilation_{a}_factor": d for a, d in zip(axes, self.dilations)}
        return found


def window_of(node: ir.Node, kernel: Sequence[int]) -> Window:
    """The window of a Conv or pooling node of 1 to 3 spatial dimensions."""
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    n = len(kernel)
    pads = attr(node, "pads", (0,) * 2 * n)
    strides = attr(node, "strides", (1,) * n)
    dilations = attr(node, "dilations", (1,) * n)
    one, zero = ((1,), (0,)) if n == 1 else ((), ())
    return Window(
        one + tuple(kernel),
        one + strides,
        one + dilations,
        zero + pads[:n],
        zero + pads[n:],
        one + shape_of(source)[2:],
        one + shape_of(result)[2:],
    )


def need_float32(*tensors: Tensor | None) -> None:
    """Refuse element types that TFLite's float kernels do not compute in."""
    for tensor in tensors:
        if tensor is not None and tensor.dtype != np.float32:
            raise UnsupportedError(f"TFLite computes it in float32 only, {tensor.name!r} is {tensor.dtype}")


def channels_last(b: Builder, x: Tensor) -> Tensor:
    """x (N, C, spatial...) with its channels last; a single spatial dimension becomes two."""
    if x.rank == 3:
        x = b.reshape(x, (*x.shape[:2], 1, x.shape[2]))
    return b.transpose(x, (0, *range(2, x.rank), 1))


def channels_first(b: Builder, y: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of channels_last; `shape` is the shape of the ONNX value."""
    return b.reshape(b.transpose(y, (0, y.rank - 1, *range(1, y.rank - 1))), shape)


def pad_spatial(
    b: Builder, x: Tensor, begin: Sequence[int], end: Sequence[int], value: float | None = None
) -> Tensor:
    """x, channels last, padded in its spatial dimensions with zero or `value`."""
    pairs = [(0, 0), *zip(begin, end), (0, 0)]
    if not any(p for pair in pairs for p in pair):
        return x
    shape = [d + sum(pair) for d, pair in zip(x.shape, pairs)]
    pads = b.const(np.array(pairs, np.int32), hint="paddings")
    if value is None:
        return b.emit("PAD", [x, pads], shape)
    return b.emit("PADV2", [x, pads, b.scalar_like(x, value)], shape)


def pad_for(b: Builder, x: Tensor, window: Window, value: float | None = None) -> tuple[Tensor, str]:
    """x, channels last, and the padding option that together give the window's padding."""
    if window.padding is not None:
        return x, window.padding
    return pad_spatial(b, x, window.begin, [max(e, 0) for e in window.read_end], value), "VALID"
