"""What the GPU accelerator computes from our lowerings is right, where it computes some spellings wrong.

It takes, and gets wrong: grouped convolutions whose groups do not fill slices of four channels, BATCH_MATMUL
that broadcasts, PAD merged into AVERAGE_POOL_2D, TRANSPOSE_CONV with SAME where a forward convolution of the
same size would be padded otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from convkit.dialects.tflite.lowering import lower
from convkit.dialects.tflite.versions import assign_versions
from convkit.dialects.tflite.writer import serialize
from convkit.verify.litert_gpu import GpuQuestion, ask_many, availability
from tests.helpers import Arrays, assert_close, normal, one_node, run_onnx

_RNG = np.random.default_rng(0)


def _case(op_type: str, *shapes: tuple[int, ...], weights: tuple[int, ...] = (), **attributes: Any) -> Any:
    inputs = {f"x{i}": normal(_RNG, *shape) for i, shape in enumerate(shapes)}
    constants = {"w": normal(_RNG, *weights)} if weights else {}
    return one_node(op_type, inputs, constants, **attributes), inputs


def _convolution(channels: int, outputs: int, group: int, **attributes: Any) -> Any:
    weights = (outputs, channels // group, 3, 3)
    return _case("Conv", (1, channels, 7, 8), weights=weights, group=group, pads=[1] * 4, **attributes)


def _transposed(kernel: int, stride: int, size: int) -> Any:
    begin = max(kernel - stride, 0) // 2
    pads = [begin] * 2 + [max(kernel - stride, 0) - begin] * 2
    strides = [stride] * 2
    return _case(
        "ConvTranspose", (1, 4, size, size + 1), weights=(4, 3, kernel, kernel), strides=strides, pads=pads
    )


def cases() -> dict[str, tuple[onnx.ModelProto, Arrays]]:
    """Models of one operator, by name."""
    found: dict[str, tuple[onnx.ModelProto, Arrays]] = {}
    for channels, outputs, group in ((8, 8, 2), (6, 9, 3), (8, 12, 2), (16, 8, 4), (6, 6, 6), (3, 6, 3)):
        found[f"conv {channels}-{outputs}-{group}"] = _convolution(channels, outputs, group)
    found["dilated depthwise"] = _convolution(8, 8, 8, dilations=[2, 2])
    for kernel in range(2, 8):
        for stride in range(1, 5):
            found[f"transposed {kernel}/{stride}"] = _transposed(kernel, stride, 4 + kernel % 2)
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    for padded in (0, 1):
        found[f"average pool {padded}"] = _case(
            "AveragePool", (1, 4, 9, 10), count_include_pad=padded, **pool
        )
    found["max pool"] = _case("MaxPool", (1, 4, 9, 10), **pool)
    for x, y in (
        ((2, 3, 4, 5), (5, 6)),
        ((2, 1, 4, 5), (1, 3, 5, 6)),
        ((4, 5), (2, 5, 6)),
        ((1, 4, 5), (2, 5, 6)),
        ((2, 3, 4, 5), (2, 3, 5, 6)),
    ):
        found[f"matmul {x} {y}"] = _case("MatMul", x, y)
    return found


@pytest.mark.skipif(isinstance(availability(), str), reason="no GPU accelerator")
def test_the_accelerator_computes_our_lowerings_right() -> None:
    models = cases()
    questions = []
    for model, inputs in models.values():
        graph = lower(ir.from_proto(model))
        assign_versions(graph)
        questions.append(GpuQuestion(bytes(serialize(graph)), len(graph.ops), inputs))
    wrong = []
    for (name, (model, inputs)), answer in zip(models.items(), ask_many(questions), strict=True):
        assert answer.fully_accelerated, (name, answer.words)
        assert answer.outputs is not None, name
        try:
            for found, wanted in zip(answer.outputs.values(), run_onnx(model, inputs), strict=True):
                assert_close(np.asarray(found), wanted)
        except AssertionError:
            wrong.append(name)
    assert not wrong
