"""Lower a small ONNX model to TFLite, run it, and compare with onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from convkit.dialects.tflite.graph import Graph
from convkit.dialects.tflite.lowering import lower
from convkit.dialects.tflite.versions import assign_versions
from convkit.dialects.tflite.writer import serialize
from convkit.ir.normal import normalize

Arrays = Mapping[str, np.ndarray]


def one_node(
    op_type: str,
    inputs: Arrays,
    constants: Arrays | None = None,
    *,
    order: Sequence[str] = (),
    outputs: Sequence[str] = ("y",),
    opset: int = 22,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node: `inputs` are graph inputs, `constants` initializers.

    `order` names the node's inputs where they are not the inputs and then the constants ("" for one
    left out).
    """
    constants = constants or {}
    node = helper.make_node(op_type, list(order or (*inputs, *constants)), list(outputs), **attributes)
    return model_of([node], inputs, constants, outputs, opset=opset)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Arrays,
    constants: Arrays,
    outputs: Sequence[str],
    *,
    opset: int = 22,
) -> onnx.ModelProto:
    """A model of these nodes with static shapes inferred."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [_info(name, array) for name, array in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    if any(not value.type.tensor_type.HasField("shape") for value in model.graph.output):
        found = run_onnx(model, inputs)  # an operator without shape inference
        del model.graph.output[:]
        model.graph.output.extend(_info(name, np.asarray(y)) for name, y in zip(outputs, found, strict=True))
    return model


def _info(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def run_onnx(model: onnx.ModelProto, inputs: Arrays) -> list[np.ndarray]:
    """The outputs that onnxruntime computes, in order, without graph optimizations."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))


def run_tflite(graph: Graph, inputs: Arrays, *, delegate: bool = True) -> list[np.ndarray]:
    """The outputs of a TFLite graph in LiteRT's interpreter, with XNNPACK or without."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        model_content=bytes(serialize(graph)), experimental_op_resolver_type=resolver, num_threads=1
    )
    interpreter.allocate_tensors()
    for detail, name in zip(interpreter.get_input_details(), graph.signature_inputs, strict=True):
        interpreter.set_tensor(detail["index"], np.asarray(inputs[name], order="C"))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]).copy() for detail in interpreter.get_output_details()]


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Equal shapes and dtypes, and numbers equal up to float rounding: a fraction of the output's range."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if not np.issubdtype(expected.dtype, np.floating):
        np.testing.assert_array_equal(actual, expected)
        return
    finite = expected[np.isfinite(expected)]
    scale = float(np.max(np.abs(finite), initial=0.0))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def check_lowering(
    model: onnx.ModelProto,
    inputs: Arrays,
    *,
    tolerance: float = 1e-5,
    prepare: Callable[[Graph], Graph | None] | None = None,
) -> Graph:
    """Normalize, lower, write and run `model`; its outputs must be onnxruntime's, with XNNPACK and without.

    `prepare` is applied to the lowered graph before versions are assigned. Returns the graph.
    """
    normal_form = ir.from_proto(model)
    normalize(normal_form)
    graph = lower(normal_form)
    if prepare is not None:
        graph = prepare(graph) or graph
    assign_versions(graph)
    expected = run_onnx(model, inputs)
    for delegate in (True, False):
        for found, wanted in zip(run_tflite(graph, inputs, delegate=delegate), expected, strict=True):
            assert_close(found, np.asarray(wanted), tolerance)
    return graph


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard normal float32 numbers."""
    return rng.standard_normal(shape, dtype=np.float32)
