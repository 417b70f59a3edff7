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


def _move(b: Builder, code: str, x: Tensor, shape: tuple[int, int, int, int], block: int) -> Tensor:
    """The operator on an NHWC value, its batch as more rows: the GPU delegate gets batches wrong."""
    n, h, w, c = shape
    rows = b.reshape(x, (1, x.shape[0] * x.shape[1], *x.shape[2:]))
    return b.reshape(b.emit(code, [rows], (1, n * h, w, c), block_size=block), shape)


@lowers("DepthToSpace")
def depth_to_space(b: Builder, node: ir.Node) -> Tensor:
    """DEPTH_TO_SPACE, whose channels are in DCR order; those of CRD are gathered into it first."""
    x, block = b.nhwc(b.input(node)), attr(node, "blocksize")
    shape = _result(node)
    if attr(node, "mode", "DCR") == "CRD" and shape[3] > 1:
        order = np.arange(x.shape[3], dtype=np.int32).reshape(shape[3], block * block).T.reshape(-1)
        x = b.emit("GATHER", [x, b.const(order, hint="order")], x.shape, axis=3)
    return b.nchw(_move(b, "DEPTH_TO_SPACE", x, shape, block))


@lowers("SpaceToDepth")
def space_to_depth(b: Builder, node: ir.Node) -> Tensor:
    """SPACE_TO_DEPTH; both order the channels as block row, block column, channel."""
    x = b.nhwc(b.input(node))
    return b.nchw(_move(b, "SPACE_TO_DEPTH", x, _result(node), attr(node, "blocksize")))
