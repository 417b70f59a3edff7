"""Depth to space and back, in the spelling of readers that know PyTorch's pixel shuffle alone.

A target's rule file names in its `pipeline` the spelling that it reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, shape_of
from convkit.passes.fuse.channel_order import producing_conv, reorder
from convkit.rewrite import Exactness, Facts, NoMatch, Rewrite, Rewriter, register
from convkit.rewrite.pattern import Match

_DENSE = 64  # channels above which a convolution that only moves numbers costs too much


@register
class DepthToSpaceColumnRow(Rewrite):
    """Depth to space as a pixel shuffle: column-row-depth order, by the convolution before it.

    The inverse of `pixel-shuffle-order`. Channel p * C + c becomes channel c * r^2 + p.
    """

    id = "CK-LEGAL-085"
    name = "depth-to-space-as-pixel-shuffle"
    law = "DepthToSpace(Conv(x, w), DCR) = DepthToSpace(Conv(x, w'), CRD)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any) -> Any:
        return op.DepthToSpace(x)

    def check(self, match: Match) -> Facts | NoMatch:
        if attr(match.root, "mode", "DCR") != "DCR":
            return NoMatch("it is in that order", match.root)
        found = producing_conv(match["x"])
        return found if isinstance(found, NoMatch) else {"chain": found}

    def rewrite(self, rw: Rewriter, match: Match, *, chain: list[ir.Node]) -> ir.Value:
        block = attr(match.root, "blocksize")
        order = np.arange(shape_of(match["x"])[1]).reshape(block * block, -1).T.reshape(-1)
        return rw.op("DepthToSpace", reorder(rw, chain, order), blocksize=block, mode="CRD")


@register
class SpaceToDepthIntoConv(Rewrite):
    """Space to depth as the convolution that picks each number by a one."""

    id = "CK-LEGAL-086"
    name = "space-to-depth-to-conv"
    law = "SpaceToDepth(x, r) = Conv(x, one-hot r x r, stride r)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any) -> Any:
        return op.SpaceToDepth(x)

    def check(self, match: Match) -> Facts | NoMatch:
        x = match["x"]
        if x.dtype != ir.DataType.FLOAT:
            return NoMatch("it moves no float32", match.root)
        if shape_of(x)[1] > _DENSE:
            return NoMatch(f"more than {_DENSE} channels", match.root)
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        block, channels = attr(match.root, "blocksize"), shape_of(match["x"])[1]
        picks = np.eye(block * block * channels, dtype=np.float32)
        weights = picks.reshape(-1, block, block, channels).transpose(0, 3, 1, 2)
        w = rw.const(np.ascontiguousarray(weights), "weight")
        size = [block, block]
        return rw.op(
            "Conv", match["x"], w, kernel_shape=size, strides=size, pads=[0] * 4, dilations=[1, 1], group=1
        )
