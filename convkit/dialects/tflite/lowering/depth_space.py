"""DepthToSpace and SpaceToDepth."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, lowers
from convkit.ir.facts import attr, shape_of


def _result(node: ir.Node) -> tuple[int, int, int, int]:
    """The shape of the result, channels last."""
    n, c, h, w = shape_of(node.outputs[0])
    return n, h, w, c


@lowers("DepthToSpace")
def depth_to_space(b: Builder, node: ir.Node) -> Tensor:
    """DEPTH_TO_SPACE, whose channels are in DCR order; those of CRD are gathered into it first."""
    x, block = b.nhwc(b.input(node)), attr(node, "blocksize")
    n, h, w, c = _result(node)
    if attr(node, "mode", "DCR") == "CRD" and c > 1:
        order = np.arange(c * block * block, dtype=np.int32).reshape(c, block * block).T.reshape(-1)
        x = b.emit("GATHER", [x, b.const(order, hint="order")], x.shape, axis=3)
    return b.nchw(b.emit("DEPTH_TO_SPACE", [x], (n, h, w, c), block_size=block))


@lowers("SpaceToDepth")
def space_to_depth(b: Builder, node: ir.Node) -> Tensor:
    """SPACE_TO_DEPTH; both order the channels as block row, block column, channel."""
    x = b.nhwc(b.input(node))
    return b.nchw(b.emit("SPACE_TO_DEPTH", [x], _result(node), block_size=attr(node, "blocksize")))
