"""Targets whose compiler cannot be had: the file that it takes, its settings, the lines to type."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

import convkit
from convkit.backends.handover import _TOOLS
from convkit.compiler import CompileResult
from convkit.diagnostics import ConvkitError
from convkit.targets import available_targets, load_target

_INT8 = {"quantize": "int8", "calibration": "random", "samples": 2}


def _network() -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(0, 0.2, (4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Gelu", ["a"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _compile(target: str, **options: Any) -> CompileResult:
    return convkit.compile(_network(), target, **options)


def _commands(result: CompileResult) -> str:
    assert result.report.backend is not None
    return "\n".join(result.report.backend.commands)


def test_every_target_of_this_backend_has_a_tool() -> None:
    targets = [t for t in map(load_target, available_targets()) if t.backend == "handover"]
    assert {name for t in targets for name in t.lineage if name in _TOOLS} == set(_TOOLS)
    assert all(set(t.lineage) & set(_TOOLS) for t in targets)


@pytest.mark.parametrize("target", ["mediatek-apu", "samsung-npu", "google-tensor", "synaptics-synap"])
def test_a_tflite_file_that_was_verified(target: str) -> None:
    result = _compile(target)
    assert next(iter(result.files)) == "model.tflite"
    assert result.report.verification is not None
    assert result.report.verification.runtime.startswith("LiteRT")
    assert "model.tflite" in _commands(result)


@pytest.mark.parametrize(("target", "opset"), [("kirin-npu", 18), ("horizon-x3", 11), ("ambarella-cv22", 13)])
def test_an_onnx_file_of_the_opset_that_the_tool_reads(target: str, opset: int) -> None:
    result = _compile(target)
    proto = onnx.load_from_string(result.files["model.onnx"])
    onnx.checker.check_model(proto, full_check=True)
    assert [i.version for i in proto.opset_import if not i.domain] == [opset]
    assert all(node.op_type != "Gelu" for node in proto.graph.node)
    checked = result.report.verification
    assert checked is not None
    assert checked.runtime == "onnxruntime, on the file that was written"
    assert checked.passed


def test_integers_only() -> None:
    with pytest.raises(ConvkitError) as refused:
        _compile("edgetpu")
    assert refused.value.diagnostics[0].code == "integers-only"
    result = _compile("edgetpu", **_INT8)
    assert _commands(result) == "edgetpu_compiler --show_operations --min_runtime_version 13 model.tflite"


def test_floating_point_is_said_to_the_tool() -> None:
    assert "--arch=mdla3.0 --relax-fp32 -d model.dla" in _commands(_compile("mediatek-mdla3"))
    assert "--arch=mdla2.0 -d model.dla" in _commands(_compile("mediatek-mdla2", **_INT8))


def test_settings_of_horizon_name_every_input() -> None:
    settings = yaml.safe_load(_compile("horizon-x3").files["model.yaml"])
    assert settings["model_parameters"]["onnx_model"] == "model.onnx"
    assert settings["input_parameters"]["input_name"] == "image"
    assert settings["input_parameters"]["input_shape"] == "1x3x8x8"
    assert settings["calibration_parameters"]["cal_data_dir"] == "./calibration-image"


def test_synap_quantizes_what_is_in_floating_point() -> None:
    assert "quantization" in yaml.safe_load(_compile("synaptics-synap").files["model.yaml"])
    assert "quantization" not in yaml.safe_load(_compile("synaptics-synap", **_INT8).files["model.yaml"])


def test_the_source_of_the_commands_is_told() -> None:
    backend = _compile("google-tensor").report.backend
    assert backend is not None
    assert backend.notes[-1].startswith("commands from: google-ai-edge/LiteRT")
