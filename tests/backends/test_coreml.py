"""Core ML: the package is reloaded, and what it says is computed by coremltools and NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from convkit.compiler.driver import compile_model
from convkit.compiler.options import CompileOptions
from convkit.diagnostics import ConvkitError
from tests.backends.conftest import need
from tests.backends.networks import Case, case, saved, weights
from tests.backends.test_nnie import ACTIVATIONS, ARITHMETIC, CONVOLUTIONS, MAP, MOVEMENT, POOLINGS

MORE = [
    case("MatMul", (2, 3, 10), (2, 10, 4)),
    case("Gelu", MAP),
    case("Erf", MAP),
    case("Expand", (1, 3, 1), np.array([2, 3, 4])),
    case("Tile", (1, 3, 2), np.array([2, 1, 3])),
    case("CumSum", (2, 3, 4), np.array(1), reverse=1),
    case("Slice", (2, 9), np.array([7]), np.array([-10]), np.array([1]), np.array([-2])),
    case("Pad", MAP, np.array([0, 0, 1, 2, 0, 0, 2, 1]), mode="reflect"),
    case("Gather", (4, 5), np.array([-1, 0]), axis=1),
    case("Where", np.array([[True, False], [False, True]]), (2, 2), (2, 2)),
    case("LogSoftmax", (2, 5), axis=1),
    case("ReduceLogSumExp", (2, 5), np.array([1])),
    case("LSTM", (5, 2, 3), weights(1, 16, 3), weights(1, 16, 4), weights(1, 32), hidden_size=4),
]


@pytest.mark.parametrize("cases", [CONVOLUTIONS, POOLINGS, ACTIVATIONS, ARITHMETIC, MOVEMENT, MORE])
def test_every_lowering_computes_the_operator(cases: list[Case], tmp_path: Path) -> None:
    need("coreml")
    result = compile_model(saved(cases, tmp_path), "coreml")
    found = result.report.verification
    assert found is not None
    assert found.runtime.startswith("coremltools 9.0 evaluating the reloaded program")
    assert len(found.outputs) == len(cases)
    for output in found.outputs:
        assert output.max_rel < 2e-5, output


def test_a_package_is_whole_and_the_same_every_time(tmp_path: Path) -> None:
    need("coreml")
    path = saved(CONVOLUTIONS[:2], tmp_path)
    first, again = (compile_model(path, "coreml").files for _ in range(2))
    assert set(first) == {
        "model.mlpackage/Manifest.json",
        "model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
        "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    }
    assert first == again
    manifest = json.loads(first["model.mlpackage/Manifest.json"])
    assert manifest["rootModelIdentifier"] in manifest["itemInfoEntries"]


@pytest.mark.parametrize("ios", ["16", "18"])
def test_half_precision_is_what_is_computed(ios: str, tmp_path: Path) -> None:
    need("coreml")
    path = saved([case("Conv", (1, 32, 8, 8), weights(32, 32, 3, 3), weights(32))], tmp_path)
    options = CompileOptions(precision="fp16", backend_options={"ios": ios})
    result = compile_model(path, "coreml", options)
    assert len(result.files["model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"]) < 2.2 * 32 * 32 * 9
    found = result.report.verification
    assert found is not None
    assert 1e-5 < found.outputs[0].max_rel < 1e-2


def test_a_name_that_is_a_word_of_core_ml_s_is_changed(tmp_path: Path) -> None:
    need("coreml")
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    net (float[1,4] state, float[1,4] x) => (float[1,4] y) { y = Sub(state, x) }""")
    result = compile_model(model, "coreml")
    backend, found = result.report.backend, result.report.verification
    assert backend is not None
    assert found is not None
    assert found.outputs[0].max_abs == 0
    assert any(note.startswith("state is called state_") for note in backend.notes)


def test_what_an_ml_program_cannot_say_is_refused_by_name(tmp_path: Path) -> None:
    need("coreml")
    path = saved([case("Relu", (2, 4)), case("Det", (3, 3))], tmp_path)
    with pytest.raises(ConvkitError, match="there is no lowering to an ML program for Det 'y1_Det'"):
        compile_model(path, "coreml")
