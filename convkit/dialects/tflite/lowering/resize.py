"""Resize: TFLite's own resizing where it computes the same, else gathers or matrices along each axis.

Coordinates follow ONNX's Resize; they are computed in float32, as the runtimes do, since at ties the
rounding decides which pixel is nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import NHWC, Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import take
from convkit.dialects.tflite.lowering.matmul import fully_connected
from convkit.dialects.tflite.lowering.window import need_float32
from convkit.ir.facts import attr, constant, input_at, shape_of

_NEAREST_TYPES = ("float32", "uint8", "int8", "int16")


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized: `size` elements to `out`, `scale` times as many."""

    size: int
    out: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)

    def coordinates(self, mode: str) -> np.ndarray:
        """Where in the input each output element lies (float32)."""
        f = np.float32
        i, scale = np.arange(self.out, dtype=f), f(self.scale)
        if mode == "asymmetric":
            return i / scale
        if mode == "align_corners":
            return i * f(self.size - 1) / f(self.out - 1) if self.out > 1 else i * f(0)
        if mode == "tf_crop_and_resize":
            (start, end), last = map(f, self.roi), f(self.size - 1)
            if self.out == 1:
                return f(0.5) * (start + end) * last + i
            return start * last + i * (end - start) * last / f(self.out - 1)
        if mode == "pytorch_half_pixel" and self.out == 1:
            return i * f(0)
        x = (i + f(0.5)) / scale - f(0.5)
        if mode == "half_pixel_symmetric":
            x += f(self.size / 2) * (1 - f(self.out) / (scale * f(self.size)))
        elif mode not in ("half_pixel", "pytorch_half_pixel"):
            raise UnsupportedError(f"coordinate transformation {mode!r} is unknown")
        return x


_ROUND: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.asarray(np.ceil(x - np.float32(0.5))),
    "round_prefer_ceil": lambda x: np.asarray(np.floor(x + np.float32(0.5))),
    "floor": lambda x: np.asarray(np.floor(x)),
    "ceil": lambda x: np.asarray(np.ceil(x)),
}


def _clipped(index: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(np.clip(index, 0, size - 1), np.int32)


def _nearest(axis: _Axis, mode: str, rounding: str) -> np.ndarray:
    """The input index of each output element."""
    return _clipped(_ROUND[rounding](axis.coordinates(mode)), axis.size)


def _linear(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(1 - np.abs(x), 0))


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.asarray(np.where(x <= 1, near, np.where(x < 2, far, 0)))


def _matrix(axis: _Axis, node: ir.Node, mode: str) -> np.ndarray:
    """The interpolation along an axis as a matrix (out, size), in float64."""
    where = axis.coordinates(attr(node, "coordinate_transformation_mode", "half_pixel")).astype(np.float64)
    if mode == "nearest":
        index = _clipped(_ROUND[attr(node, "nearest_mode", "round_prefer_floor")](where), axis.size)
        return np.asarray(index[:, None] == np.arange(axis.size), np.float64)
    antialias = bool(attr(node, "antialias", 0))
    # A shrinking antialiased filter is stretched over the elements that fall into one of the output.
    shrink = min(axis.scale, 1.0) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) / shrink
    taps = np.arange(math.floor(-reach), math.ceil(reach) + 1) + np.floor(where)[:, None]
    distance = (taps - where[:, None]) * shrink
    a = attr(node, "cubic_coeff_a", -0.75)
    weights = _linear(distance) if mode == "linear" else _cubic(distance, a)
    outside = bool(attr(node, "exclude_outside", 0))
    if outside:
        weights = np.where((taps >= 0) & (taps < axis.size), weights, 0)
    if antialias or outside:
        weights /= np.sum(weights, axis=1, keepdims=True)
    matrix = np.zeros((axis.out, axis.size))
    inside = np.clip(taps, 0, axis.size - 1).astype(np.int64)
    np.add.at(matrix, (np.arange(axis.out)[:, None], inside), weights)
    return matrix


# -- what TFLite computes ------------------------------------------------------------------------

_OPTIONS = ((False, False), (False, True), (True, False))
"""(align_corners, half_pixel_centers), the lowest operator version first."""


def _tflite_scale(axis: _Axis, align: bool) -> np.float32:
    if align and axis.out > 1:
        return np.float32(axis.size - 1) / np.float32(axis.out - 1)
    return np.float32(axis.size) / np.float32(axis.out)


def _tflite_nearest(axis: _Axis, align: bool, half: bool) -> np.ndarray:
    """The indices RESIZE_NEAREST_NEIGHBOR reads (reference kernel, GetNearestNeighbor)."""
    x = (np.arange(axis.out, dtype=np.float32) + np.float32(0.5 if half else 0)) * _tflite_scale(axis, align)
    index = np.floor(x + np.float32(0.5)) if align else np.floor(x)
    return _clipped(index, axis.size)


def _tflite_matrix(axis: _Axis, align: bool, half: bool) -> np.ndarray:
    """RESIZE_BILINEAR along an axis as a matrix (reference kernel, ComputeInterpolationValues)."""
    i, scale = np.arange(axis.out, dtype=np.float32), _tflite_scale(axis, align)
    x = (i + np.float32(0.5)) * scale - np.float32(0.5) if half else i * scale
    x = np.clip(x.astype(np.float64), 0, axis.size - 1)
    return _linear(x[:, None] - np.arange(axis.size))


def _same_options(node: ir.Node, axes: list[_Axis], mode: str) -> dict[str, bool] | None:
    """The options with which TFLite resizes these axes as the node does, if there are any."""
    coordinates = attr(node, "coordinate_transformation_mode", "half_pixel")
    rounding = attr(node, "nearest_mode", "round_prefer_floor")
    for align, half in _OPTIONS:
        if mode == "nearest":
            same = all(
                np.array_equal(_nearest(a, coordinates, rounding), _tflite_nearest(a, align, half))
                for a in axes
            )
        else:
            same = all(
                np.allclose(_matrix(a, node, mode), _tflite_matrix(a, align, half), rtol=0, atol=2e-6)
                for a in axes
            )
        if same:
            return {"align_corners": align, "half_pixel_centers": half}
    return None


# -- lowering ------------------------------------------------------------------------------------


def _axes_of(node: ir.Node) -> list[_Axis]:
    """All axes of the input, with the scales the node states or those that its sizes give."""
    assert node.inputs[0] is not None
    sizes, outs = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    rank = len(sizes)
    named = [a % rank for a in attr(node, "axes", range(rank))]
    scales = [o / n for o, n in zip(outs, sizes)]
    given = constant(input_at(node, 2))
    policy = attr(node, "keep_aspect_ratio_policy", "stretch")
    if given is not None and given.size:
        for a, scale in zip(named, given):
            scales[a] = float(scale)
    elif policy != "stretch":
        wanted = constant(input_at(node, 3))
        if wanted is None:
            raise UnsupportedError("its sizes are not constant")
        pick = min if policy == "not_larger" else max
        common = pick(float(s) / sizes[a] for a, s in zip(named, wanted))
        for a in named:
            scales[a] = common
    rois = [(0.0, 1.0)] * rank
    if attr(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        roi = constant(input_at(node, 1))
        if roi is None:
            raise UnsupportedError("its region of interest is not constant")
        half = roi.size // 2
        for k, a in enumerate(named):
            rois[a] = (float(roi[k]), float(roi[half + k]))
    return [_Axis(n, o, s, r) for n, o, s, r in zip(sizes, outs, scales, rois)]


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


def _resize_plane(b: Builder, x: Tensor, node: ir.Node, axes: list[_Axis], mode: str) -> Tensor | None:
    """One of TFLite's operators, where two axes at most are resized and it computes the same."""
    shape = shape_of(node.outputs[0])
    perm = NHWC if axes[1].size == axes[1].out else (0, 1, 2, 3)
    if x.rank == 3:
        x, axes = b.reshape(x, (*x.shape[:2], 1, x.shape[2])), [*axes[:2], _Axis(1, 1, 1.0), axes[2]]
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


def _is_identity(axis: _Axis, node: ir.Node, mode: str) -> bool:
    return axis.size == axis.out and np.array_equal(_matrix(axis, node, mode), np.eye(axis.size))


@lowers("Resize")
def resize(b: Builder, node: ir.Node) -> Tensor:
    """RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR, else GATHER or FULLY_CONNECTED along each axis."""
    x, mode = b.input(node), attr(node, "mode", "nearest")
    axes = _axes_of(node)
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
            x = _gather(b, x, at, _nearest(axis, coordinates, rounding))
        else:
            matrix = _matrix(axis, node, mode)
            if extrapolated:
                matrix[outside[at]] = 0
            x = _multiply(b, x, at, matrix)
    value = attr(node, "extrapolation_value", 0.0)
    if extrapolated and value:
        filled = np.zeros((1,) * len(axes), bool)
        for at, flags in enumerate(outside):
            filled = filled | np.expand_dims(flags, [k for k in range(len(axes)) if k != at])
        x = b.binary("ADD", x, b.const(np.float32(value) * filled.astype(np.float32), hint="outside"))
    return x
