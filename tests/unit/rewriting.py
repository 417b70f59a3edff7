"""Small graphs as code, and the check that a rewrite keeps their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.infer import NORMAL_OPSET, infer_node
from convkit.rewrite import Rewrite, RewriteStats, apply_rewrites


class Net:
    """Builds a graph in normal form: `net.Conv(x, w, pads=[1, 1, 1, 1])` gives the output value."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs: list[ir.Value] = []
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def input(self, *shape: int, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        value = ir.val(f"x{len(self.inputs)}", shape=shape, dtype=dtype)
        self.inputs.append(value)
        return value

    def const(self, array: Any) -> ir.Value:
        name = f"c{len(self.constants)}"
        value = ir.val(name, const_value=ir.Tensor(np.asarray(array), name=name))
        self.constants.append(value)
        return value

    def randn(self, *shape: int) -> ir.Value:
        return self.const(self.rng.standard_normal(shape).astype(np.float32))

    def positive(self, *shape: int) -> ir.Value:
        return self.const(self.rng.uniform(0.5, 1.5, shape).astype(np.float32))

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)

        def make(*inputs: ir.Value | None, outputs: int = 1, **attributes: Any) -> Any:
            node = ir.node(op_type, inputs, attributes, num_outputs=outputs)
            node.name = f"n{len(self.nodes)}"
            for i, value in enumerate(node.outputs):
                value.name = f"n{len(self.nodes)}_{i}"
            infer_node(node)
            self.nodes.append(node)
            return node.outputs[0] if outputs == 1 else list(node.outputs)

        return make

    def batchnorm(self, x: ir.Value, epsilon: float = 1e-3) -> ir.Value:
        c = int(x.shape[1])  # type: ignore[index, arg-type]
        parts = self.randn(c), self.randn(c), self.randn(c), self.positive(c)
        return self.BatchNormalization(x, *parts, epsilon=epsilon)  # type: ignore[no-any-return]

    def model(self, *outputs: ir.Value) -> ir.Model:
        for i, value in enumerate(outputs):
            value.name = f"y{i}"
        graph = ir.Graph(
            self.inputs,
            outputs,
            nodes=self.nodes,
            initializers=self.constants,
            opset_imports={"": NORMAL_OPSET},
            name="net",
        )
        return ir.Model(graph, ir_version=10)


def feeds_of(model: ir.Model, seed: int = 1) -> dict[str, np.ndarray]:
    """Random inputs."""
    rng = np.random.default_rng(seed)
    return {
        str(v.name): rng.standard_normal([int(d) for d in v.shape]).astype(v.dtype.numpy())  # type: ignore
        for v in model.graph.inputs
    }


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs in onnxruntime, its own optimizations off."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    proto = ir.serde.serialize_model(model).SerializeToString()
    return onnxruntime.InferenceSession(proto, options, ["CPUExecutionProvider"]).run(None, feeds)


def ops(model: ir.Model) -> list[str]:
    """Operator types in order."""
    return [node.op_type for node in model.graph]


def assert_close(before: Iterable[np.ndarray], after: Iterable[np.ndarray], rounding: float = 2e-5) -> None:
    """Equal up to float rounding, relative to the range of each output; `rounding` 0 means bit for bit."""
    for b, a in zip(before, after, strict=True):
        assert b.shape == a.shape
        assert b.dtype == a.dtype
        if rounding == 0:
            np.testing.assert_array_equal(a, b)
        else:
            assert np.array_equal(np.isfinite(a), np.isfinite(b))
            scale = float(np.abs(b).max(initial=1e-3, where=np.isfinite(b)))
            np.testing.assert_allclose(a, b, rtol=0, atol=rounding * scale)


def check(
    model: ir.Model, rewrites: Iterable[Rewrite], expected: list[str] | None = None, rounding: float = 2e-5
) -> RewriteStats:
    """Apply; the numbers stay, the operators are `expected`, no unread constant is left."""
    feeds = feeds_of(model)
    before = run(model, feeds)
    unread = {v for v in model.graph.initializers.values() if not v.uses()}
    stats = apply_rewrites(model.graph, rewrites)
    assert_close(before, run(model, feeds), rounding)
    if expected is not None:
        assert ops(model) == expected
    for value in model.graph.initializers.values():
        assert value.uses() or value in unread, f"{value.name} is read by nobody"
    return stats


def refusal(model: ir.Model, rewrite: Rewrite) -> str:
    """The one reason why `rewrite` does not apply anywhere in the model, at the last root tried."""
    reasons = [rewrite.find(node) for node in model.graph if node.op_type in rewrite.roots]
    assert reasons, "no node is a root of this rewrite"
    assert all(not isinstance(r, tuple) for r in reasons), "the rewrite applies"
    return reasons[-1].reason  # type: ignore[union-attr]
