"""Half-precision models compute in float32 and keep their interface."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from convkit.dialects.tflite.lowering import lower
from convkit.dialects.tflite.versions import assign_versions
from convkit.ir.normal import normalize
from tests.helpers import Arrays, assert_close, model_of, normal, run_onnx, run_tflite


def small(dtype: type) -> tuple[onnx.ModelProto, Arrays]:
    rng = np.random.default_rng(0)

    def rounded(*shape: int) -> np.ndarray:
        return normal(rng, *shape).astype(np.float16).astype(dtype)

    inputs = {"x": rounded(1, 4, 6, 6)}
    constants = {"w": rounded(8, 4, 3, 3), "b": rounded(8), "h": np.asarray(0.5, dtype)}
    to = TensorProto.FLOAT16 if dtype == np.float16 else TensorProto.FLOAT
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Cast", ["r"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["f"], ["g"], to=to),
        helper.make_node("Mul", ["g", "h"], ["y"]),
        helper.make_node("Softmax", ["r"], ["z"], axis=1),
        helper.make_node("Shape", ["r"], ["s"]),
        helper.make_node("Reshape", ["y", "s"], ["v"]),
    ]
    return model_of(nodes, inputs, constants, ["v", "z", "r"]), inputs


@pytest.mark.parametrize("delegate", [True, False])
def test_the_interface_is_half_and_the_arithmetic_is_not(delegate: bool) -> None:
    half, inputs = small(np.float16)
    single, wide = small(np.float32)
    model = ir.from_proto(half)
    normalize(model)
    graph = lower(model)
    assert len(lower(model).ops) == len(graph.ops)
    assign_versions(graph)
    assert [t.dtype for t in graph.inputs + graph.outputs] == [np.float16] * 4
    assert graph.signature_outputs == ["v", "z", "r"]
    assert {
        op.code for op in graph.ops if any(t is not None and t.dtype == np.float16 for t in op.inputs)
    } == {"CAST"}
    found = run_tflite(graph, inputs, delegate=delegate)
    for ours, exact in zip(found, run_onnx(single, wide), strict=True):
        assert_close(ours, exact.astype(np.float16), tolerance=2**-11)


def test_single_precision_is_left_alone() -> None:
    single, _ = small(np.float32)
    model = ir.from_proto(single)
    normalize(model)
    before = [node.op_type for node in model.graph]
    lower(model)
    assert [node.op_type for node in model.graph] == before
