"""Helpers: small models of any opset, brought to normal form and compared with the original."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from convkit.frontends.onnx import load_onnx
from convkit.ir.normal import normalize
from convkit.ir.verify import check


def make_model(
    nodes: Sequence[onnx.NodeProto],
    feed: dict[str, np.ndarray],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model whose inputs have the types and shapes of `feed`."""
    kinds = {n: helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in feed.items()}
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(n, kinds[n], a.shape) for n, a in feed.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(f.domain, 1) for f in functions)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=8)


def normal(proto: onnx.ModelProto) -> ir.Model:
    """The normal form, with its invariants checked."""
    model = load_onnx(proto)
    normalize(model)
    check(model)
    return model


def run(proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs in onnxruntime without graph optimisation."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, feed)


def assert_same(
    nodes: Sequence[onnx.NodeProto], feed: dict[str, np.ndarray], *, exact: bool = True, **model: object
) -> ir.Model:
    """The normal form computes what the model computes; returns it."""
    proto = make_model(nodes, feed, **model)  # type: ignore[arg-type]
    form = normal(proto)
    for want, got in zip(run(proto, feed), run(ir.to_proto(form), feed), strict=True):
        assert got.dtype == want.dtype
        if exact:
            np.testing.assert_array_equal(got, want)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    return form


def ops(model: ir.Model) -> list[str]:
    """The operators in order."""
    return [node.op_type for node in model.graph]
