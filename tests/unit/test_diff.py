"""Two models side by side: what is equal, what departs and where first, what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import convkit
from convkit.cli.main import main
from convkit.diagnostics import ConvkitError, ExitCode


def network(bend: float = 0.0, names: tuple[str, str] = ("x", "y")) -> onnx.ModelProto:
    """Conv, Relu, Conv, Sigmoid; `bend` is added to the second filter."""
    rng = np.random.default_rng(0)
    filters = [rng.normal(0, 0.3, (4, c, 3, 3)).astype(np.float32) for c in (3, 4)]
    filters[1] += np.float32(bend)
    x, y = names
    nodes = [
        helper.make_node("Conv", [x, "w0"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="act"),
        helper.make_node("Conv", ["b", "w1"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], [y], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 3, 8, 10])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 4, 8, 10])],
        [numpy_helper.from_array(f, f"w{i}") for i, f in enumerate(filters)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_model_and_its_artifact_agree_layer_by_layer() -> None:
    model = network()
    artifact = bytes(convkit.compile(model, "mali-gpu").artifact)
    found = convkit.diff(model, artifact, layers=True)
    assert found.passed
    assert found.runtimes[0].startswith("onnxruntime")
    assert found.runtimes[1].startswith("LiteRT")
    assert len(found.layers) >= 2
    assert found.first_departure is None


def test_the_interface_may_have_its_channels_elsewhere() -> None:
    model = network()
    artifact = bytes(convkit.compile(model, "mali-gpu", io_layout="nhwc").artifact)
    assert convkit.diff(model, artifact).passed


def test_the_first_layer_that_departs_is_found() -> None:
    found = convkit.diff(network(), network(bend=0.01), layers=True)
    assert not found.passed
    assert found.first_departure is not None
    assert found.first_departure.name == "second"
    assert found.layers[0].max_abs == 0
    assert found.outputs[0].cosine is not None
    assert found.outputs[0].sqnr_db is not None


def test_other_names_are_matched_by_position_and_real_inputs_are_taken(tmp_path: Path) -> None:
    data = tmp_path / "in.npz"
    np.savez(data, x=np.ones((1, 3, 8, 10), np.float32))
    found = convkit.diff(network(), network(names=("u", "v")), data=data)
    assert found.passed
    assert found.inputs == f"inputs from {data}"


def test_models_of_other_interfaces_are_refused() -> None:
    other = network()
    other.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 4, 8, 10]))
    with pytest.raises(ConvkitError, match="one model has 2 outputs, the other 1"):
        convkit.diff(network(), other)


def test_the_command(tmp_path: Path) -> None:
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    onnx.save(network(), one)
    onnx.save(network(bend=0.01), two)
    assert CliRunner().invoke(main, ["diff", str(one), str(one), "-q"]).exit_code == 0
    done = CliRunner().invoke(main, ["diff", str(one), str(two), "--layers"])
    assert done.exit_code == ExitCode.FINDING
    assert "that departs is second" in done.output
    done = CliRunner().invoke(main, ["diff", str(one), str(two), "--layers", "--json"])
    body = json.loads(done.output)
    assert body["schema"] == "convkit.diff/1"
    assert body["first_departure"] == "second"
    assert CliRunner().invoke(main, ["diff", str(one), str(two), "--tolerance", "1"]).exit_code == 0
