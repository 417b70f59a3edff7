"""Weights in float16: the form, what is left alone, and that every runtime computes with it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import helper

from convkit.dialects.tflite.graph import Graph
from convkit.dialects.tflite.lowering import lower
from convkit.dialects.tflite.precision import to_fp16_weights
from convkit.dialects.tflite.versions import assign_versions
from tests.helpers import Arrays, assert_close, model_of, normal, run_onnx, run_tflite


def small_model(rng: np.random.Generator) -> tuple[object, Arrays, Graph]:
    inputs = {"x": normal(rng, 1, 8, 6, 6)}
    constants = {
        "w": normal(rng, 8, 8, 3, 3),
        "b": normal(rng, 8),
        "d": normal(rng, 8, 1, 3, 3),
        "table": normal(rng, 1, 8, 12, 12),
        "half": np.float32(0.5),
        "t": normal(rng, 8, 8, 2, 2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "d"], ["e"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8),
        helper.make_node("ConvTranspose", ["e", "t"], ["f"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Add", ["f", "table"], ["g"]),
        helper.make_node("Mul", ["g", "half"], ["y"]),
    ]
    constants = {k: v.astype(np.float16).astype(np.float32) for k, v in constants.items()}
    model = model_of(nodes, inputs, constants, ["y"])
    return model, inputs, lower(ir.from_proto(model))


def test_numbers_that_float16_holds_are_unchanged() -> None:
    model, inputs, graph = small_model(np.random.default_rng(0))
    saved = to_fp16_weights(graph)
    assign_versions(graph)
    (expected,) = run_onnx(model, inputs)
    for delegate in (True, False):
        (found,) = run_tflite(graph, inputs, delegate=delegate)
        assert_close(found, expected)
    stored = [op for op in graph.ops if op.code == "DEQUANTIZE"]
    assert {op.version for op in stored} == {3}
    assert all(op.inputs[0].dtype == np.float16 and op.output.dtype == np.float32 for op in stored)
    assert saved == sum(op.inputs[0].nbytes for op in stored)


def test_scalars_and_large_values_stay() -> None:
    _, _, graph = small_model(np.random.default_rng(0))
    conv = next(op for op in graph.ops if op.code == "CONV_2D")
    conv.inputs[2].data = np.full(8, 7e4, np.float32)
    to_fp16_weights(graph)
    assert conv.inputs[2].dtype == np.float32
    assert conv.inputs[2].data is not None
    (mul,) = (op for op in graph.ops if op.code == "MUL")
    assert mul.inputs[1].data is not None
    (add,) = (op for op in graph.ops if op.code == "ADD")
    assert add.inputs[1].data is None


def test_a_shared_weight_is_stored_once_and_the_second_run_does_nothing() -> None:
    rng = np.random.default_rng(0)
    inputs = {"x": normal(rng, 2, 8)}
    nodes = [helper.make_node("MatMul", [a, "w"], [c]) for a, c in (("x", "h"), ("h", "y"))]
    model = model_of(nodes, inputs, {"w": normal(rng, 8, 8)}, ["y"])
    graph = lower(ir.from_proto(model))
    first, second = (op for op in graph.ops if op.code == "FULLY_CONNECTED")
    second.inputs[1] = first.inputs[1]
    to_fp16_weights(graph)
    assert first.inputs[1] is second.inputs[1]
    assert [op.code for op in graph.ops].index("DEQUANTIZE") == 0
    count = len(graph.ops)
    assert to_fp16_weights(graph) == 0
    assert len(graph.ops) == count
