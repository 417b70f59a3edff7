"""`convkit compile` and `convkit check` as a user runs them, on a small network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import convkit
from convkit.cli.main import main
from convkit.report import schema
from convkit.verify.runners import Reference, run_tflite
from tests.conftest import REPOSITORY


def _network(path: Path) -> Path:
    """Conv, BatchNormalization, PRelu, MaxPool, ConvTranspose, and a sum: 1x3x16x16 to 1x4x16x16."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int, low: float = -0.5, high: float = 0.5) -> TensorProto:
        return numpy_helper.from_array(rng.uniform(low, high, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], "norm"),
        helper.make_node("PRelu", ["n", "slope"], ["p"], "prelu"),
        helper.make_node("MaxPool", ["p"], ["m"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["m", "t"], ["u"], "up", strides=[2, 2]),
        helper.make_node("Add", ["u", "p"], ["y"], "sum"),
    ]
    weights = [
        weight("w", 4, 3, 3, 3), weight("scale", 4), weight("shift", 4), weight("mean", 4),
        weight("var", 4, low=0.5, high=1.5), weight("slope", 4, 1, 1), weight("t", 4, 4, 2, 2),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 16, 16])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _network(tmp_path_factory.mktemp("model") / "net.onnx")


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _report(folder: Path) -> dict[str, Any]:
    body = json.loads((folder / "report.json").read_text())
    jsonschema.Draft202012Validator(schema()).validate(body)
    return dict(body)


def test_compile_writes_a_verified_file_and_its_report(model: Path, tmp_path: Path) -> None:
    result = _run("compile", model, "-t", "mali-gpu", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip().startswith("✔ ACCELERATED")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["net.tflite", "report.json"]
    report = _report(tmp_path / "out")
    assert report["verdict"] == "accelerated"
    (checked,) = report["verification"]["outputs"]
    assert checked["max_rel"] <= 1e-5
    (artifact,) = report["artifacts"]
    content = Path(artifact["path"]).read_bytes()
    assert artifact["size"] == len(content)
    assert artifact["sha256"] == hashlib.sha256(content).hexdigest()
    assert report["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()


def test_the_file_computes_the_model(model: Path, tmp_path: Path) -> None:
    """Independent of convkit's own verification: both runtimes on inputs made here."""
    _run("compile", model, "-t", "mali-gpu", "-o", tmp_path, "--no-verify")
    x = np.random.default_rng(7).standard_normal((1, 3, 16, 16)).astype(np.float32)
    expected = Reference(model).run({"x": x})["y"]
    (actual,) = run_tflite(tmp_path / "net.tflite", [x])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * np.ptp(expected))


def test_channels_last_interface(model: Path, tmp_path: Path) -> None:
    result = _run("compile", model, "-t", "mali-gpu", "-o", tmp_path, "--io-layout", "nhwc")
    assert result.exit_code == 0, result.output
    report = _report(tmp_path)
    assert [t["shape"] for t in (*report["inputs"], *report["outputs"])] == [[1, 16, 16, 3], [1, 16, 16, 4]]
    assert "TRANSPOSE" not in [op["op"] for op in report["ops"]]


def test_compiling_twice_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _run("compile", model, "-t", "mali-gpu", "-o", tmp_path / name)
    assert (tmp_path / "a/net.tflite").read_bytes() == (tmp_path / "b/net.tflite").read_bytes()


def test_half_precision_weights_halve_the_file(model: Path, tmp_path: Path) -> None:
    result = _run("compile", model, "-t", "mali-gpu", "-o", tmp_path, "--precision", "fp16")
    assert result.exit_code == 0, result.output
    (checked,) = _report(tmp_path)["verification"]["outputs"]
    assert 0 < checked["max_rel"] < 1e-2


def test_real_inputs(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((1, 3, 16, 16), np.float32))
    result = _run(
        "compile", model, "-t", "mali-gpu", "-o", tmp_path / "out", "--inputs", tmp_path / "data.npz"
    )
    assert result.exit_code == 0, result.output
    assert _report(tmp_path / "out")["verification"]["inputs"] == f"inputs from {tmp_path / 'data.npz'}"


def test_json_on_stdout_is_the_report(model: Path, tmp_path: Path) -> None:
    result = _run("compile", model, "-t", "mali-gpu", "-o", tmp_path, "--json")
    assert result.stdout == (tmp_path / "report.json").read_text()


def test_quiet_prints_nothing(model: Path, tmp_path: Path) -> None:
    assert _run("compile", model, "-t", "mali-gpu", "-o", tmp_path, "-q").output == ""


def test_check_passes_and_writes_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = _run("check", model, "-t", "mali-gpu", "-t", "adreno-gpu")
    assert result.exit_code == 0, result.output
    assert "mali-gpu" in result.output
    assert list(tmp_path.iterdir()) == []


def _reversing(path: Path) -> Path:
    """A network with an operator that the GPU delegate has not: ReverseSequence."""
    lengths = numpy_helper.from_array(np.int64([5, 2]), "lengths")
    reverse = helper.make_node("ReverseSequence", ["r", "lengths"], ["y"], "back", batch_axis=0, time_axis=1)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"]), reverse],
        "reversing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])],
        [lengths],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_check_finds_a_fallback(tmp_path: Path) -> None:
    path = _reversing(tmp_path / "reverse.onnx")
    assert _run("check", path, "-t", "mali-gpu", "-q").exit_code == 1
    assert _run("check", path, "-t", "mali-gpu", "-q", "--fail-on", "never").exit_code == 0
    result = _run("check", path, "-t", "mali-gpu", "--json")
    (report,) = json.loads(result.stdout)["reports"]
    (refused,) = [op for op in report["ops"] if op["op"] == "REVERSE_SEQUENCE"]
    assert refused["verdict"] == "fallback"
    assert refused["reasons"]
    assert refused["origin"]["nodes"] == ["back"]


def test_public_api(model: Path, tmp_path: Path) -> None:
    assert convkit.load(model).graph.num_nodes() > 0
    assert convkit.check(model, "mali-gpu").verdict == "accelerated"
    result = convkit.compile(onnx.load(model), target="mali-gpu")
    report = result.save(tmp_path, "net")
    assert (tmp_path / "net.tflite").read_bytes() == bytes(result.artifact)
    assert report.artifacts[0].size == len(result.artifact)
    assert _report(tmp_path)["verdict"] == "accelerated"


@pytest.mark.parametrize(
    ("example", "without", "with_it"),
    [("custom_rewrite", "SOFTMAX", ""), ("graphsurgeon_pass", "MUL", "ADD")],
)
def test_examples_run(example: str, without: str, with_it: str, capsys: pytest.CaptureFixture[str]) -> None:
    if example == "graphsurgeon_pass":
        pytest.importorskip("onnx_graphsurgeon")
    scope: dict[str, Any] = {"__name__": example}
    exec(compile((REPOSITORY / f"examples/{example}.py").read_text(), example, "exec"), scope)
    scope["main"]()
    plain, changed = (line.split(": ")[1].split() for line in capsys.readouterr().out.splitlines())
    assert without in plain
    assert without not in changed
    assert not with_it or with_it in changed


def test_passes_from_a_file(tmp_path: Path) -> None:
    scope: dict[str, Any] = {"__name__": "example"}
    example = REPOSITORY / "examples/custom_rewrite.py"
    exec(compile(example.read_text(), str(example), "exec"), scope)
    onnx.save(scope["classifier"](), tmp_path / "c.onnx")
    result = _run(
        "compile", tmp_path / "c.onnx", "-t", "mali-gpu", "-o", tmp_path / "out", "--passes", example
    )
    assert result.exit_code == 0, result.output
    report = _report(tmp_path / "out")
    assert "MY-ARGMAX-001" in [entry["id"] for entry in report["rewrites"]]
    assert "SOFTMAX" not in [op["op"] for op in report["ops"]]
