"""Transposed convolution as a resize and a convolution, to be fine-tuned."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, constant, shape_of
from convkit.passes.legalize.convtranspose import phases, plan_axis
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match


@register
class ConvTransposeToResize(Rewrite):
    """Enlarge by bilinear interpolation, then convolve 3x3: no checkerboard, but another function.

    Starting weights: the transposed kernel's taps, summed by the input pixel that they read and averaged
    over the phases. Constant images then come out alike, away from borders.
    Source: Odena et al., Deconvolution and Checkerboard Artifacts, Distill 2016, doi:10.23915/distill.00003.
    """

    id = "CK-APPROX-010"
    name = "convtranspose-to-resize"
    law = "ConvTranspose(x, w, stride s) ~ Conv(Resize(x, s), w')"
    exactness = Exactness.RETRAIN

    def pattern(self, op: Any, x: Any, w: Any, b: Any = None) -> Any:
        return op.ConvTranspose(x, op.const(w), b)

    def check(self, match: Match) -> Facts | NoMatch:
        x, out = shape_of(match["x"]), shape_of(match.root.outputs[0])
        strides = attr(match.root, "strides", (1,) * (len(x) - 2))
        if len(x) != 4:
            return NoMatch("the input is no image", match.root)
        if out[2:] != tuple(n * s for n, s in zip(x[2:], strides, strict=True)):
            return NoMatch("the output is not the input enlarged by the strides", match.root)
        if max(strides) == 1:
            return NoMatch("nothing is enlarged", match.root)
        return {"strides": strides}

    def rewrite(self, rw: Rewriter, match: Match, *, strides: tuple[int, ...]) -> ir.Value:
        x, w = match["x"], constant(match["w"])
        assert w is not None
        node, space = match.root, shape_of(match["x"])[2:]
        pads = attr(node, "pads", (0, 0, 0, 0))
        axes = [
            plan_axis(
                space[i],
                w.shape[2 + i],
                strides[i],
                attr(node, "dilations", (1, 1))[i],
                (pads[i], pads[2 + i]),
                attr(node, "output_padding", (0, 0))[i],
                0,
            )
            for i in range(2)
        ]
        split = phases(node, axes, w.astype(np.float64)).mean(axis=2)  # g, o, i, *kernel
        taps = split.reshape(-1, *split.shape[2:])
        kernel = np.zeros((*taps.shape[:2], 3, 3))
        for y in range(axes[0].size):
            for z in range(axes[1].size):
                row, column = (
                    int(np.clip(j - a.pads[0], -1, 1)) + 1 for j, a in zip((y, z), axes, strict=True)
                )
                kernel[:, :, row, column] += taps[:, :, y, z]
        scales = rw.const(np.array([1, 1, *strides], np.float32), "scales")
        large = rw.Resize(x, None, scales, mode="linear", coordinate_transformation_mode="half_pixel")
        weights = rw.const(kernel.astype(w.dtype), "weight")
        group = attr(node, "group", 1)
        return rw.op("Conv", large, weights, match.get("b"), pads=[1, 1, 1, 1], group=group)
