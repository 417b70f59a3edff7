"""OpenVINO: what its reader converts, what its CPU plugin computes, and how it refuses."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from convkit import compile
from convkit.compiler import CompileOptions, check_model, compile_model
from convkit.compiler.options import Quantization
from convkit.diagnostics import ConvkitError
from convkit.quantize.quantizer import Settings
from convkit.targets import load_target
from tests.backends.conftest import need
from tests.helpers import model_of, one_node


def random(*shape: int) -> np.ndarray:
    """The same numbers for a shape each time."""
    return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


@pytest.fixture(autouse=True)
def _toolchain() -> None:
    need("openvino")


def unet() -> onnx.ModelProto:
    """Convolutions, PReLU, a transposed convolution and a skip; one input that is read last."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("PRelu", ["a", "slope"], ["p"]),
        helper.make_node("ConvTranspose", ["p", "w2"], ["u"], strides=[2, 2]),
        helper.make_node("Concat", ["u", "x"], ["c"], axis=1),
        helper.make_node("Gelu", ["c"], ["g"]),
        helper.make_node("Add", ["g", "late"], ["y"]),
    ]
    constants = {
        "w1": random(8, 3, 3, 3),
        "b1": random(8),
        "slope": random(8, 1, 1),
        "w2": random(8, 5, 2, 2),
    }
    inputs = {"x": random(1, 3, 12, 20), "late": random(1, 8, 12, 20)}
    return model_of(nodes, inputs, constants, ["y"])


def test_files_and_numbers(tmp_path: Path) -> None:
    result = compile_model(unet(), "openvino")
    assert set(result.files) == {"model.xml", "model.bin"}
    checked = result.report.verification
    assert checked is not None
    assert checked.runtime == "OpenVINO 2026.4.1, CPU plugin"
    assert checked.tolerance == 1e-3
    assert checked.worst is not None
    assert checked.worst.max_rel < 1e-5
    oracle = result.report.oracle
    assert oracle is not None
    assert (oracle.whole, oracle.agreement) == (True, 1.0)
    again = compile_model(unet(), "openvino")
    assert result.files == again.files


def test_half_precision_halves_the_weights() -> None:
    model = one_node("MatMul", {"x": random(4, 256)}, {"w": random(256, 128)})
    single, half = (
        compile_model(model, "openvino", CompileOptions(precision=p)).files["model.bin"]  # type: ignore[arg-type]
        for p in ("fp32", "fp16")
    )
    assert len(single) == 256 * 128 * 4
    assert len(half) == 256 * 128 * 2


def test_quantized_by_the_targets_scheme() -> None:
    wanted = Quantization(Settings("int8"), "random", samples=64)
    report = compile_model(unet(), "openvino", CompileOptions(quantization=wanted)).report
    assert report.verification is not None
    worst = report.verification.worst
    assert worst is not None
    assert worst.sqnr_db is not None
    assert report.quantization is not None
    claimed = report.quantization.worst
    assert claimed is not None
    assert claimed.sqnr_db is not None
    assert worst.sqnr_db > claimed.sqnr_db - 2


def test_an_input_that_nothing_reads() -> None:
    model = model_of(
        [helper.make_node("Relu", ["x"], ["y"])],
        {"x": random(2, 3), "unread": random(5)},
        {},
        ["y"],
    )
    assert compile(model, target="openvino").report.verification is not None


def test_an_operator_without_a_conversion_rule_is_named() -> None:
    model = one_node("Det", {"x": random(2, 3, 3)})
    with pytest.raises(ConvkitError) as refused:
        compile_model(model, "openvino")
    assert refused.value.diagnostics[0].code == "toolchain-refused"
    assert "no conversion rule for Det" in str(refused.value)


def test_the_oracle_tells_what_cannot_be_converted() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Det", ["r"], ["d"]),
        helper.make_node("Abs", ["d"], ["y"]),
    ]
    model = model_of(nodes, {"x": random(2, 3, 3)}, {}, ["y"])
    (report,) = check_model(model, [load_target("openvino")], CompileOptions(oracle=True))
    assert not isinstance(report, ConvkitError)
    assert [op.op for op in report.left_behind] == ["Det"]
    assert report.oracle is not None
    assert report.oracle.refused == (1,)
    assert report.oracle.agreement == 1.0


@pytest.mark.parametrize(
    ("op", "attributes", "words"),
    [
        ("Mod", {"fmod": 0}, "fmod"),
        ("Pad", {"mode": "wrap"}, "padding mode"),
    ],
)
def test_refusals_come_in_one_line(op: str, attributes: dict[str, object], words: str) -> None:
    constants = {"Mod": {"b": random(1)}, "Pad": {"p": np.array([1, 1])}}[op]
    model = one_node(op, {"x": random(6)}, constants, **attributes)
    with pytest.raises(ConvkitError) as refused:
        compile_model(model, "openvino", CompileOptions(verify=False))
    assert words in str(refused.value)
    assert "src/" not in str(refused.value)
