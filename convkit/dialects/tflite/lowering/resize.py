"""Resize: TFLite's own resizing where it computes the same, else gathers or matrices along each axis.

`convkit.dialects.resampling` says where each element comes from.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from convkit.dialects.resampling import Axis, axes_of, clipped, linear, matrix, nearest
from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import NHWC, Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import take
from convkit.dialects.tflite.lowering.matmul import fully_connected
from convkit.dialects.tflite.lowering.window import need_float32
from convkit.ir.facts import attr, shape_of

_NEAREST_TYPES = ("float32", "uint8", "int8", "int16")


# -- what TFLite computes ------------------------------------------------------------------------

_OPTIONS = ((False, False), (False, True), (True, False))
"""(align_corners, half_pixel_centers), the lowest operator version first."""


def _tflite_scale(axis: Axis, align: bool) -> np.float32:
    if align and axis.out > 1:
        return np.float32(axis.size - 1) / np.float32(axis.out - 1)
    return np.float32(axis.size) / np.float32(axis.out)


def _tflite_nearest(axis: Axis, align: bool, half: bool) -> np.ndarray:
    """The indices RESIZE_NEAREST_NEIGHBOR reads (reference kernel, GetNearestNeighbor)."""
    x = (np.arange(axis.out, dtype=np.float32) + np.float32(0.5 if half else 0)) * _tflite_scale(axis, align)
    index = np.floor(x + np.float32(0.5)) if align else np.floor(x)
    return clipped(index, axis.size)


def _tflite_matrix(axis: Axis, align: bool, half: bool) -> np.ndarray:
    """RESIZE_BILINEAR along an axis as a matrix (reference kernel, ComputeInterpolationValues)."""
    i, scale = np.arange(axis.out, dtype=np.float32), _tflite_scale(axis, align)
    x = (i + np.float32(0.5)) * scale - np.float32(0.5) if half else i * scale
    x = np.clip(x.astype(np.float64), 0, axis.size - 1)
    return linear(x[:, None] - np.arange(axis.size))


def _same_options(node: ir.Node, axes: list[Axis], mode: str) -> dict[str, bool] | None:
    """The options with which TFLite resizes these axes as the node does, if there are any."""
    coordinates = attr(node, "coordinate_transformation_mode", "half_pixel")
    rounding = attr(node, "nearest_mode", "round_prefer_floor")
    for align, half in _OPTIONS:
        if mode == "nearest":
            same = all(
                np.array_equal(nearest(a, coordinates, rounding), _tflite_nearest(a, align, half))
                for a in axes
            )
        else:
            same = all(
                np.allclose(matrix(a, node, mode), _tflite_matrix(a, align, half), rtol=0, atol=2e-6)
                for a in axes
            )
        if same:
            return {"align_corners": align, "half_pixel_centers": half}
    return None


# -- lowering ------------------------------------------------------------------------------------


def _gather(b: Builder, x: Tensor, axis: int, index: np.ndarray) -> Tensor:
    """x with the elements `index` along `axis`, of rank 4 at most."""
    if x.rank <= 4:
        return take(b, x, axis, index)
    y = take(
        b, b.reshape(x, (math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :]))), 1, index
    )
    return b.reshape(y, (*x.shape[:axis], len(index), *x.shape[axis + 1 :]))


def _multiply(b: Builder, x: Tensor, axis: int, matrix: np.ndarray) -> Tensor:
    """The matrix (out, size) applied to x along `axis`."""
    shape = (*x.shape[:axis], len(matrix), *x.shape[axis + 1 :])
    flat = b.reshape(x, (math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])))
    y = fully_connected(b, b.transpose(flat, (0, 2, 1)), matrix.astype(np.float32))
    return b.reshape(b.transpose(y, (0, 2, 1)), shape)


def _resize_plane(b: Builder, x: Tensor, node: ir.Node, axes: list[Axis], mode: str) -> Tensor | None:
    """One of TFLite's operators, where two axes at most are resized and it computes the same."""
    shape = shape_of(node.outputs[0])
    perm = NHWC if axes[1].size == axes[1].out else (0, 1, 2, 3)
    if x.rank == 3:
        x, axes = b.reshape(x, (*x.shape[:2], 1, x.shape[2])), [*axes[:2], Axis(1, 1, 1.0), axes[2]]
    moved = [axes[p] for p in perm] if len(axes) == 4 else []
    if not moved or any(not _is_identity(axis, node, mode) for axis in (moved[0], moved[3])):
        return None
    options = _same_options(node, moved[1:3], mode)
    if options is None:
        return None
    code = "RESIZE_NEAREST_NEIGHBOR" if mode == "nearest" else "RESIZE_BILINEAR"
    size = [moved[1].out, moved[2].out]
    x = b.transpose(x, perm)
    y = b.emit(code, [x, b.const(size, np.int32, "size")], (x.shape[0], *size, x.shape[3]), **options)
    return b.reshape(b.transpose(y, np.argsort(perm).tolist()), shape)


def _is_identity(axis: Axis, node: ir.Node, mode: str) -> bool:
    return axis.size == axis.out and np.array_equal(matrix(axis, node, mode), np.eye(axis.size))


@lowers("Resize")
def resize(b: Builder, node: ir.Node) -> Tensor:
    """RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR, else GATHER or FULLY_CONNECTED along each axis."""
    x, mode = b.input(node), attr(node, "mode", "nearest")
    axes = axes_of(node)
    coordinates = attr(node, "coordinate_transformation_mode", "half_pixel")
    if coordinates == "align_corners" and any(abs(a.scale * a.size - a.out) > 1e-3 for a in axes):
        raise UnsupportedError("runtimes disagree on align_corners where the scales leave part of an element")
    outside = [(c < 0) | (c > a.size - 1) for a in axes for c in [a.coordinates(coordinates)]]
    extrapolated = coordinates == "tf_crop_and_resize" and any(o.any() for o in outside)
    if mode != "nearest" or extrapolated:
        need_float32(x)
    if not extrapolated and (mode == "linear" or (mode == "nearest" and x.dtype.name in _NEAREST_TYPES)):
        y = _resize_plane(b, x, node, axes, mode)
        if y is not None:
            return y
    for at, axis in enumerate(axes):
        if _is_identity(axis, node, mode) and not (extrapolated and outside[at].any()):
            continue
        if mode == "nearest" and not extrapolated:
            rounding = attr(node, "nearest_mode", "round_prefer_floor")
            x = _gather(b, x, at, nearest(axis, coordinates, rounding))
        else:
            weights = matrix(axis, node, mode)
            if extrapolated:
                weights[outside[at]] = 0
            x = _multiply(b, x, at, weights)
    value = attr(node, "extrapolation_value", 0.0)
    if extrapolated and value:
        filled = np.zeros((1,) * len(axes), bool)
        for at, flags in enumerate(outside):
            filled = filled | np.expand_dims(flags, [k for k in range(len(axes)) if k != at])
        x = b.binary("ADD", x, b.const(np.float32(value) * filled.astype(np.float32), hint="outside"))
    return x
