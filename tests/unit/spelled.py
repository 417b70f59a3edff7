"""Models spelled in ONNX as exporters spell them, brought to normal form, rewritten and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from convkit.ir.facts import rank_of
from convkit.ir.normal import normalize
from convkit.rewrite import RewriteStats, all_rewrites, apply_rewrites, get_rewrite, load_package
from tests.unit.rewriting import assert_close, feeds_of, run

load_package("convkit.passes")


class Spelling:
    """`g.Conv("x", g.c(w), pads=[1, 1, 1, 1])` adds a node and gives its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def c(self, array: object) -> str:
        """A constant; Python floats become float32, ints int64."""
        value = np.asarray(array)
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        def make(*inputs: str, outputs: int = 1, **attributes: object) -> str | list[str]:
            names = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
            self.nodes.append(helper.make_node(op_type, inputs, names, **attributes))
            return names[0] if outputs == 1 else names

        return make


def model_of(make: Callable[[Spelling], Any], *, opset: int = 20, **inputs: Sequence[int]) -> ir.Model:
    """The model in normal form; inputs are float32 of these shapes, `make` returns the outputs' names."""
    g = Spelling()
    made = make(g)
    outputs = [made] if isinstance(made, str) else list(made)
    infos = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, list(s)) for n, s in inputs.items()]
    out = [helper.make_empty_tensor_value_info(n) for n in outputs]
    graph = helper.make_graph(g.nodes, "g", infos, out, g.constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    model = ir.serde.deserialize_model(proto)
    normalize(model)
    return model


def rewritten(model: ir.Model, *names: str, rounding: float = 1e-5) -> RewriteStats:
    """Apply the named rewrites in place; outputs stay, to `rounding` of their range (0: every bit)."""
    feeds = feeds_of(model)
    before = run(model, feeds)
    stats = apply_rewrites(model.graph, [get_rewrite(name) for name in names])
    assert_close(before, run(model, feeds), rounding)
    return stats


def operators(model: ir.Model) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op_type for node in model.graph)


def highest_rank(model: ir.Model) -> int:
    """The highest rank of any value that a node makes."""
    return max(rank_of(v) for node in model.graph for v in node.outputs)


def family(*prefixes: str) -> list[str]:
    """The names of all rewrites whose id starts with one of these, in the order of ids."""
    return [r.name for r in all_rewrites() if r.id.startswith(prefixes)]
