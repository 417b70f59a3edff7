"""`convkit inspect` on a small model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from convkit.cli.main import main


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "first"),
            helper.make_node("Relu", ["c"], ["y"], "second"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 10, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 8, 8])],
        [weight],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_costs_by_type(model: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", str(model), "--input", "x:1x3x10x10"])
    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines()]
    assert ["in", "x", "1×3×10×10", "float32"] in rows
    assert ["Conv", "1", "13.8", "k", "216", "4.11", "kB"] in rows  # 8·8·8·27 MACs, 8·27 weights


def test_json(model: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", str(model), "--input", "x:2x3x10x10", "--json"])
    body = json.loads(result.output)
    assert body["total"]["macs"] == 2 * 8 * 8 * 8 * 27
    assert body["inputs"] == [{"name": "x", "shape": [2, 3, 10, 10], "dtype": "float32"}]
    assert [node["origin"]["nodes"] for node in body["nodes"]] == [["first"], ["second"]]
