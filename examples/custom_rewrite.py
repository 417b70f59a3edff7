"""A rewrite of your own, used three ways.

    python examples/custom_rewrite.py                                              # as an argument to compile
    convkit compile model.onnx --target mali-gpu --passes examples/custom_rewrite.py     # on the command line

The third is an entry point of your package, `[project.entry-points."convkit.passes"]`, which names a
module like this one.

The law: a network that ends in Softmax and ArgMax needs no Softmax, because softmax keeps the order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

import convkit
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewriter


class ArgMaxOfSoftmax(convkit.Rewrite):
    """Drop a Softmax that only an ArgMax along the same axis reads.

    Two logits that are nearly equal can round to one probability, and then the first index wins:
    the result is that of exact arithmetic, so this is `reassociated`, not `bitexact`.
    """

    id = "MY-ARGMAX-001"
    name = "argmax-of-softmax"
    law = "ArgMax(Softmax(x, axis), axis) = ArgMax(x, axis)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any) -> Pattern:
        return op.ArgMax(op.Softmax(x, name="softmax"), name="argmax")

    def check(self, match: Match) -> Facts | NoMatch:
        rank = len(match["x"].shape or ())
        axes = [match.node(name).attributes["axis"].as_int() % rank for name in ("softmax", "argmax")]
        if axes[0] != axes[1]:
            return NoMatch(f"the axes differ: {axes[0]} and {axes[1]}", match.root)
        return {"attributes": {key: value.value for key, value in match.root.attributes.items()}}

    def rewrite(self, rw: Rewriter, match: Match, **facts: Any) -> ir.Value:
        return rw.ArgMax(match["x"], **facts["attributes"])


def classifier() -> onnx.ModelProto:
    """A model to try it on: one convolution, global pooling, Softmax, ArgMax."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((10, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [1])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Compile with and without the rewrite, and show the operators of both."""
    for passes in ([], [ArgMaxOfSoftmax()]):
        result = convkit.compile(classifier(), target="mali-gpu", passes=passes)
        print(f"{len(passes)} custom rewrites:", " ".join(op.op for op in result.report.ops))


if __name__ == "__main__":
    main()
