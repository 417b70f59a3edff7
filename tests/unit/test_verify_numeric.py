"""Numeric comparison: figures on known errors, and whole runs of small models on both runtimes."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from convkit.diagnostics import ConvkitError
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.writer import serialize
from convkit.report import Verification
from convkit.verify.inputs import Binding, load_inputs, random_candidates
from convkit.verify.numeric import compare, mismatch, run_reference, verify
from convkit.verify.runners import RunError, run_tflite, run_tflite_apart

F32 = np.dtype(np.float32)


def test_figures_of_a_known_error() -> None:
    want = np.array([0.0, 1.0, 2.0, 4.0], np.float32)
    found = compare("y", want, want + np.float32([0, 0, 0, 0.25]), 1e-5)
    assert found.max_abs == 0.25
    assert found.max_rel == 0.25 / 4
    assert found.sqnr_db == pytest.approx(10 * np.log10(21 / 0.0625))
    assert found.psnr_db == pytest.approx(10 * np.log10(16 / (0.0625 / 4)))
    assert found.cosine == pytest.approx(22 / np.sqrt(21 * (21 + 2 + 0.0625)), rel=1e-2)
    assert not found.passed
    assert compare("y", want, want + np.float32([0, 0, 0, 0.25]), 0.07).passed


def test_equal_is_bit_exact() -> None:
    found = compare("y", np.float32([1, -2]), np.float32([1, -2]), 0.0)
    assert (found.max_abs, found.psnr_db, found.sqnr_db, found.passed) == (0.0, None, None, True)
    assert found.cosine == pytest.approx(1)


def test_range_holds_zero() -> None:
    """An output of one element, or of values far from zero, is judged by its magnitude."""
    assert compare("y", np.float32([1000.0]), np.float32([1000.001]), 1e-5).passed
    assert not compare("y", np.float32([1000.0]), np.float32([1001.0]), 1e-5).passed
    assert compare("y", np.float32([0.0]), np.float32([1e-6]), 1e-5).passed


def test_not_a_number_must_match() -> None:
    want = np.float32([np.nan, np.inf, -np.inf, 1])
    assert compare("y", want, want.copy(), 1e-5).passed
    found = compare("y", want, np.float32([0, np.inf, np.inf, np.nan]), 1e-5)
    assert (found.mismatches, found.passed) == (3, False)


def test_integers_and_booleans_must_be_equal() -> None:
    found = compare("y", np.int64([1, 2, 3]), np.int32([1, 2, 4]), 1.0)
    assert (found.mismatches, found.passed, found.max_abs) == (1, False, 1.0)
    assert compare("y", np.array([True, False]), np.array([True, False]), 0).passed


def test_bfloat16_is_a_float() -> None:
    want = np.array([1.0, 2.0], ml_dtypes.bfloat16)
    assert compare("y", want, np.float32([1.0, 2.001]), 1e-2).passed


def test_empty_output() -> None:
    assert compare("y", np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), 1e-5).passed


def test_shape_difference_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'y' has shape \(1, 2\), the reference \(2, 1\)"):
        compare("y", np.zeros((2, 1)), np.zeros((1, 2)), 1e-5)


def test_random_inputs_are_fixed_and_in_range() -> None:
    bindings = [
        Binding("x", (2, 3), F32),
        Binding("ids", (50,), np.dtype(np.int64)),
        Binding("mask", (50,), np.dtype(np.bool_)),
    ]
    first, second = (dict(random_candidates(bindings)) for _ in range(2))
    assert len(first) == 2
    for described, values in first.items():
        for name, array in values.items():
            np.testing.assert_array_equal(array, second[described][name])
    normal, positive = first.values()
    assert normal["x"].dtype == np.float32
    assert normal["x"].min() < 0
    assert positive["x"].min() >= 0.5
    assert set(np.unique(normal["ids"])) == set(range(8))
    assert set(np.unique(positive["ids"])) == {0, 1}


def _onnx(op: str, path: Path, **attributes: object) -> Path:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 5])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _tflite(code: str) -> bytes:
    x, y = (Tensor(name, (1, 4, 5, 3), F32) for name in "xy")
    return bytes(serialize(Graph([x], [y], [Op(code, [x], [y])], ["x"], ["y"])))


def _verify(model: Path, artifact: bytes, inputs: list[Binding], outputs: list[Binding]) -> Verification:
    return verify(run_reference(model, inputs), artifact, inputs, outputs)


_NHWC = [Binding(name, (1, 3, 4, 5), F32, (0, 2, 3, 1)) for name in "xy"]


def test_verify_maps_layouts(tmp_path: Path) -> None:
    found = _verify(_onnx("Tanh", tmp_path / "m.onnx"), _tflite("TANH"), _NHWC[:1], _NHWC[1:])
    assert found.passed
    assert found.worst is not None
    assert found.worst.max_rel < 1e-6
    assert found.inputs == "random inputs, normal, seed 0"
    assert mismatch(found) is None


def test_verify_finds_a_wrong_operator(tmp_path: Path) -> None:
    found = _verify(_onnx("Tanh", tmp_path / "m.onnx"), _tflite("LOGISTIC"), _NHWC[:1], _NHWC[1:])
    said = mismatch(found)
    assert said is not None
    assert said.code == "wrong-numbers"
    assert "output 'y' does not match onnxruntime" in said.message


def test_inputs_outside_of_the_domain_are_replaced(tmp_path: Path) -> None:
    found = _verify(_onnx("Log", tmp_path / "m.onnx"), _tflite("LOG"), _NHWC[:1], _NHWC[1:])
    assert found.inputs == "random inputs in [0.5, 1), seed 0"
    assert found.passed


def test_broken_reference_is_a_diagnostic(tmp_path: Path) -> None:
    with pytest.raises(ConvkitError, match="reference-failed"):
        _verify(_onnx("NoSuchOp", tmp_path / "m.onnx"), _tflite("TANH"), _NHWC[:1], _NHWC[1:])


def test_broken_artifact_is_a_diagnostic(tmp_path: Path) -> None:
    model = _onnx("Tanh", tmp_path / "m.onnx")
    with pytest.raises(ConvkitError, match="artifact-failed"):
        _verify(model, b"not a model at all, but long enough", _NHWC[:1], _NHWC[1:])


def test_foreign_artifact_runs_apart(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(_tflite("TANH"))
    x = np.linspace(-2, 2, 60, dtype=np.float32).reshape(1, 4, 5, 3)
    (apart,) = run_tflite_apart(path, [x])
    np.testing.assert_array_equal(apart, run_tflite(path, [x])[0])
    path.write_bytes(b"rubbish")
    with pytest.raises(RunError):
        run_tflite_apart(path, [x])


def test_int64_interface_is_converted_and_guarded() -> None:
    binding = Binding("ids", (2,), np.dtype(np.int64))
    assert binding.to_artifact(np.int64([1, 2]), np.dtype(np.int32)).dtype == np.int32
    with pytest.raises(OverflowError, match="'ids' do not fit int32"):
        binding.to_artifact(np.int64([1, 2**40]), np.dtype(np.int32))


def test_load_inputs(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.zeros((2, 3)))
    assert load_inputs(path, [Binding("x", (2, 3), F32)])["x"].dtype == np.float32
    for bindings, code in (
        ([Binding("z", (2, 3), F32)], "inputs-names"),
        ([Binding("x", (2, 4), F32)], "inputs-shape"),
        ([Binding("x", (2, 3), np.dtype(np.int32))], "inputs-dtype"),
    ):
        with pytest.raises(ConvkitError, match=code):
            load_inputs(path, bindings)
    with pytest.raises(ConvkitError, match="inputs-not-found"):
        load_inputs(tmp_path / "none.npz", [])
    path.write_bytes(b"PK rubbish")
    with pytest.raises(ConvkitError, match="inputs-not-npz"):
        load_inputs(path, [])
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ConvkitError, match="inputs-not-npz"):
        load_inputs(tmp_path / "one.npy", [])
