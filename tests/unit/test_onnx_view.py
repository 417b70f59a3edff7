"""The ONNX dialect: what a target that reads ONNX judges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from convkit.compiler import CompileOptions, compile_model
from convkit.diagnostics import ConvkitError
from convkit.dialects.cost import macs
from convkit.dialects.onnx import as_graph
from convkit.dialects.onnx.schema import axis_size, default_options, roles, tensors_of_role
from convkit.report import Verdict
from convkit.targets import load_rule_file


def _model() -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.ones((6, 4, 3, 5), np.float32), "w")
    options = {"strides": [2, 1], "pads": [1, 2, 1, 2]}
    nodes = [
        helper.make_node(
            "Conv", ["x", "w"], ["c"], name="conv", kernel_shape=[3, 5], dilations=[1, 1], **options
        ),
        helper.make_node("Transpose", ["c"], ["t"], name="turn", perm=[0, 2, 3, 1]),
        helper.make_node("Erf", ["t"], ["y"], name="erf"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 6])
    graph = helper.make_graph(nodes, "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return onnx.shape_inference.infer_shapes(model)


def test_nodes_are_seen_as_operators_with_named_sizes() -> None:
    graph = as_graph(ir.serde.deserialize_model(_model()))
    conv, turn, erf = graph.ops
    assert [op.code for op in graph.ops] == ["Conv", "Transpose", "Erf"]
    wanted = {"kernel_h": 3, "kernel_w": 5, "stride_h": 2, "stride_w": 1, "pad_top": 1, "pad_left": 2}
    assert wanted.items() <= conv.options.items()
    assert turn.options == {"perm": "P0231"}
    assert (conv.version, erf.options) == (18, {})
    assert conv.inputs[1] is not None
    assert conv.inputs[1].is_constant
    assert conv.output is turn.inputs[0]
    assert conv.output.shape == (1, 6, 4, 8)
    assert macs(conv) == 6 * 4 * 8 * 4 * 3 * 5
    assert (graph.signature_inputs, graph.signature_outputs) == (["x"], ["y"])


def test_operands_and_axes_have_names() -> None:
    (conv, *_) = as_graph(ir.serde.deserialize_model(_model())).ops
    assert roles("Conv") == ("input", "filter", "bias")
    assert roles("Erf") == ("input",)
    assert tensors_of_role(conv, "bias") == []
    (kernel,) = tensors_of_role(conv, "filter") or []
    assert kernel is not None
    assert [axis_size(conv, "filter", kernel, axis) for axis in "oihw"] == [6, 4, 3, 5]
    assert default_options("Resize")["coordinate_transformation_mode"] == "HALF_PIXEL"
    assert default_options("Conv")["stride_h"] == 1


RULES = """target t
title "T"
dialect onnx
precision float32
confidence low
dtypes FLOAT32
source s = "somewhere"
op Conv { T-CONV-001 fallback when kernel.h > 1 and output.c == 6 "a kernel of {kernel.h}x{kernel.w}" cite s }
op Transpose { T-TURN-001 fallback when perm in {P0312} "{perm}" cite s }
"""


def test_a_model_is_checked_for_a_target_that_reads_onnx_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "t.rules").write_text(RULES)
    target = load_rule_file(tmp_path / "t.rules")
    result = compile_model(_model().SerializeToString(), target, CompileOptions(verify=False))
    assert result.report.verdict is Verdict.PARTIAL
    conv = next(op for op in result.report.ops if op.op == "Conv")
    assert [reason.message for reason in conv.reasons] == ["a kernel of 3x5"]
    assert conv.macs == 6 * 4 * 8 * 4 * 3 * 5
    assert conv.origin.nodes == ("conv",)
    for attempt in (
        lambda: result.save(tmp_path),
        lambda: compile_model(_model().SerializeToString(), target),
    ):
        with pytest.raises(ConvkitError, match="for t a model is judged, not written"):
            attempt()


@pytest.mark.parametrize(
    ("body", "message", "help"),
    [
        (
            'op Conv2D { T-A-001 fallback "x" cite s }',
            "the operator 'Conv2D' is not known",
            "did you mean Conv?",
        ),
        (
            'op Resize { T-A-001 fallback when mode == NEARES "x" cite s }',
            "the mode 'NEARES' is not known",
            None,
        ),
        (
            'op Conv { T-A-001 fallback when version_ > 2 "x" cite s }',
            "the name 'version_' is not known",
            None,
        ),
        (
            'op Conv { T-A-001 fallback when per_channel(filter) "x" cite s }',
            "'per_channel' is not known",
            None,
        ),
    ],
)
def test_mistakes_are_named_in_the_terms_of_the_dialect(
    tmp_path: Path, body: str, message: str, help: str | None
) -> None:
    (tmp_path / "t.rules").write_text(RULES[: RULES.index("op Conv")] + body)
    with pytest.raises(ConvkitError) as caught:
        load_rule_file(tmp_path / "t.rules")
    (found,) = caught.value.diagnostics
    assert message in found.message
    assert help is None or found.help == help
