"""Fourier transforms as products with constant matrices."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, constant_ints, lowers
from convkit.dialects.tflite.lowering.indexing import take
from convkit.dialects.tflite.lowering.matmul import fully_connected
from convkit.dialects.tflite.lowering.window import need_float32
from convkit.ir.facts import attr, input_at, shape_of

_MOST_WEIGHTS = 1 << 22
"""Elements of a transform's matrix."""


def _transform(size: int, parts: int, length: int, inverse: bool, onesided: bool) -> np.ndarray:
    """The matrix (size * parts, length' * parts') of a transform: what it does to each unit signal."""
    units = np.eye(size * parts).reshape(size * parts, size, parts)
    signal = units[..., 0] + (1j * units[..., 1] if parts == 2 else 0)
    if inverse and onesided:
        return np.asarray(np.fft.irfft(signal, length))
    spectrum = (np.fft.ifft if inverse else np.fft.fft)(signal, length)
    if onesided:
        spectrum = spectrum[:, : length // 2 + 1]
    return np.stack([spectrum.real, spectrum.imag], axis=-1).reshape(len(units), -1)


def _product(b: Builder, x: Tensor, length: int, inverse: bool, onesided: bool) -> Tensor:
    """x (rows, size, 1 or 2) transformed, as (rows, columns)."""
    rows, size, parts = x.shape
    if size * parts * length * 2 > _MOST_WEIGHTS:
        raise UnsupportedError(f"the matrix for a transform of length {length} would be too large")
    matrix = _transform(size, parts, length, inverse, onesided)
    return fully_connected(b, b.reshape(x, (rows, size * parts)), matrix.T.astype(np.float32))


@lowers("DFT")
def dft(b: Builder, node: ir.Node) -> Tensor:
    """The discrete Fourier transform along an axis; the last dimension holds real and imaginary parts."""
    x, shape = b.input(node), shape_of(node.outputs[0])
    need_float32(x)
    (axis,) = constant_ints(node, 2) if input_at(node, 2) is not None else (-2,)
    axis %= x.rank
    (length,) = constant_ints(node, 1) if input_at(node, 1) is not None else (0,)
    inverse, onesided = bool(attr(node, "inverse", 0)), bool(attr(node, "onesided", 0))
    size = x.shape[axis]
    if not length:
        length = 2 * (size - 1) if inverse and onesided else size
    perm = [*(i for i in range(x.rank) if i not in (axis, x.rank - 1)), axis, x.rank - 1]
    moved = b.transpose(x, perm)
    rows = b.reshape(moved, (prod(moved.shape[:-2]), *moved.shape[-2:]))
    y = _product(b, rows, length, inverse, onesided)
    return b.transpose(b.reshape(y, [shape[p] for p in perm]), [perm.index(i) for i in range(x.rank)])


@lowers("STFT")
def stft(b: Builder, node: ir.Node) -> Tensor:
    """Transforms of frames that start `frame_step` apart, each weighted by the window."""
    x, (step,), window = b.input(node), constant_ints(node, 1), b.inputs(node, 4)[2]
    need_float32(x, window)
    batch, frames, _, _ = shape_of(node.outputs[0])
    if input_at(node, 3) is not None:
        (length,) = constant_ints(node, 3)
    elif window is not None:
        (length,) = window.shape
    else:
        raise UnsupportedError("neither a window nor the length of a frame is given")
    places = (np.arange(frames)[:, None] * step + np.arange(length)).reshape(-1)
    x = x if x.rank == 3 else b.reshape(x, (*x.shape, 1))
    cut = b.reshape(take(b, x, 1, places), (batch * frames, length, x.shape[2]))
    if window is not None:
        cut = b.binary("MUL", cut, b.reshape(window, (1, length, 1)))
    y = _product(b, cut, length, False, bool(attr(node, "onesided", 1)))
    shape = shape_of(node.outputs[0])
    if y.shape != (batch * frames, shape[2] * 2):
        raise UnsupportedError("ONNX infers another number of frequencies than it defines")
    return b.reshape(y, shape)
