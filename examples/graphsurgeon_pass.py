"""An onnx-graphsurgeon function as a pass of the compiler (needs the extra `[graphsurgeon]`).

    python examples/graphsurgeon_pass.py
    convkit compile model.onnx --target mali-gpu --passes examples/graphsurgeon_pass.py

Functions that edit ONNX graphs with GraphSurgeon exist in many deployment repositories; they run
unchanged. This one replaces `Mul(x, 2)` by `Add(x, x)`.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper

import convkit


@convkit.graphsurgeon_pass
def double_by_adding(graph: gs.Graph) -> None:
    """Mul(x, 2) = Add(x, x)."""
    for node in graph.nodes:
        if node.op != "Mul":
            continue
        x, factor = node.inputs
        if isinstance(factor, gs.Constant) and factor.values.size == 1 and factor.values.item() == 2:
            node.op = "Add"
            node.inputs = [x, x]


def model() -> onnx.ModelProto:
    """y = tanh(2 relu(x))."""
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["positive"]),
            helper.make_node("Mul", ["positive", "two"], ["doubled"]),
            helper.make_node("Tanh", ["doubled"], ["y"]),
        ],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
        [numpy_helper.from_array(np.float32(2), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Compile with and without the pass, and show the operators of both."""
    for passes in ([], [double_by_adding]):
        result = convkit.compile(model(), target="mali-gpu", passes=passes)
        print(f"{len(passes)} passes:", " ".join(op.op for op in result.report.ops))


if __name__ == "__main__":
    main()
