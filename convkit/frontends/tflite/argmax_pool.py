"""MediaPipe's pooling that remembers where each maximum was, and the unpooling that puts it back there.

Source: google-ai-edge/mediapipe, mediapipe/util/tflite/operations/max_pool_argmax.cc and max_unpooling.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.reader import CUSTOM
from convkit.frontends.tflite.builder import Builder, RefusedError, imports

_SHIFT = 0.1
"""What the kernel adds to a place, so that rounding down finds it again."""


def _block(op: Op, whole: Tensor | None) -> int:
    """The side of the windows, which must be square and cover `whole` side by side."""
    raw = op.options["custom"]
    if len(raw) < 24:
        raise RefusedError("its options are cut short")
    _, stride_w, stride_h, width, height, activation = struct.unpack_from("<6i", raw)
    if not stride_w == stride_h == width == height or width < 2 or activation:
        raise RefusedError(f"its windows are {height}x{width} at steps of {stride_h}x{stride_w}")
    if whole is None or whole.rank != 4 or whole.shape[1] % height or whole.shape[2] % width:
        raise RefusedError("its windows reach over the edge")
    return int(width)


@imports(CUSTOM + "MaxPoolingWithArgmax2D")
def argmax_pool(b: Builder, op: Op) -> Sequence[ir.Value]:
    """The maximum of each window, and its place there, row by row, plus 0.1; of equal ones the first."""
    side = _block(op, op.inputs[0])
    x = b.nchw(op.inputs[0])
    pooled = b.op("MaxPool", x, kernel_shape=[side] * 2, strides=[side] * 2)
    parts = b.ops(
        "Split",
        b.op("SpaceToDepth", x, blocksize=side),
        outputs=side * side,
        axis=1,
        num_outputs=side * side,
    )
    place = b.const(side * side - 1, np.float32)
    for number in reversed(range(side * side - 1)):
        place = b.op("Where", b.op("Equal", parts[number], pooled), b.const(number, np.float32), place)
    return b.nhwc(pooled), b.nhwc(b.op("Add", place, b.const(_SHIFT, np.float32)))


@imports(CUSTOM + "MaxUnpooling2D")
def unpool(b: Builder, op: Op) -> ir.Value:
    """Each number at its place in a window of zeros."""
    side = _block(op, op.outputs[0])
    x, place = b.nchw(op.inputs[0]), b.op("Floor", b.nchw(op.inputs[1]))
    zero = b.const(0, np.float32)
    parts = [
        b.op("Where", b.op("Equal", place, b.const(number, np.float32)), x, zero)
        for number in range(side * side)
    ]
    return b.nhwc(b.op("DepthToSpace", b.op("Concat", *parts, axis=1), blocksize=side, mode="DCR"))
