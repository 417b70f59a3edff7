"""Resize as arithmetic: where each element comes from along an axis, and with what weights.

Coordinates follow ONNX's Resize; they are computed in float32, as the runtimes do, since at ties the
rounding decides which pixel is nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from convkit.dialects.unsupported import UnsupportedError
from convkit.ir.facts import attr, constant, input_at, shape_of


@dataclass(frozen=True)
class Axis:
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


def clipped(index: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(np.clip(index, 0, size - 1), np.int32)


def nearest(axis: Axis, mode: str, rounding: str) -> np.ndarray:
    """The input index of each output element."""
    return clipped(_ROUND[rounding](axis.coordinates(mode)), axis.size)


def linear(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(1 - np.abs(x), 0))


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.asarray(np.where(x <= 1, near, np.where(x < 2, far, 0)))


def matrix(axis: Axis, node: ir.Node, mode: str) -> np.ndarray:
    """The interpolation along an axis as a matrix (out, size), in float64."""
    where = axis.coordinates(attr(node, "coordinate_transformation_mode", "half_pixel")).astype(np.float64)
    if mode == "nearest":
        index = clipped(_ROUND[attr(node, "nearest_mode", "round_prefer_floor")](where), axis.size)
        return np.asarray(index[:, None] == np.arange(axis.size), np.float64)
    antialias = bool(attr(node, "antialias", 0))
    # A shrinking antialiased filter is stretched over the elements that fall into one of the output.
    shrink = min(axis.scale, 1.0) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) / shrink
    taps = np.arange(math.floor(-reach), math.ceil(reach) + 1) + np.floor(where)[:, None]
    distance = (taps - where[:, None]) * shrink
    a = attr(node, "cubic_coeff_a", -0.75)
    weights = linear(distance) if mode == "linear" else _cubic(distance, a)
    outside = bool(attr(node, "exclude_outside", 0))
    if outside:
        weights = np.where((taps >= 0) & (taps < axis.size), weights, 0)
    if antialias or outside:
        weights /= np.sum(weights, axis=1, keepdims=True)
    found = np.zeros((axis.out, axis.size))
    inside = np.clip(taps, 0, axis.size - 1).astype(np.int64)
    np.add.at(found, (np.arange(axis.out)[:, None], inside), weights)
    return found


def axes_of(node: ir.Node) -> list[Axis]:
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
    return [Axis(n, o, s, r) for n, o, s, r in zip(sizes, outs, scales, rois)]
