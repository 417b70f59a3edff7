"""MNN: the converted file computes the model; its converter reads the Caffe networks that convkit writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from convkit.backends import get_backend, load_arrays, save_arrays
from convkit.compiler.driver import compile_model
from convkit.compiler.options import CompileOptions
from convkit.diagnostics import ConvkitError
from tests.backends.conftest import need
from tests.backends.networks import case, saved, weights
from tests.backends.test_nnie import CONVOLUTIONS

NET = [
    case("Conv", (1, 3, 16, 16), weights(8, 3, 3, 3), weights(8), pads=[1, 1, 1, 1], strides=[2, 2]),
    case("PRelu", (1, 8, 9, 12), weights(8, 1, 1)),
    case("Gelu", (2, 5, 12)),
    case("Swish", (2, 5, 12)),
    case("LayerNormalization", (2, 5, 12), weights(12), weights(12)),
    case("Resize", (1, 8, 9, 12), None, np.float32([1, 1, 2, 2]), mode="linear"),
    case("MatMul", (2, 3, 10), (2, 10, 4)),
]


def test_the_file_computes_the_model(tmp_path: Path) -> None:
    need("mnn")
    result = compile_model(saved(NET, tmp_path, opset=24), "mnn")
    assert list(result.files) == ["model.mnn"]
    found = result.report.verification
    assert found is not None
    assert found.runtime == "MNN 3.6.1, CPU"
    assert len(found.outputs) == len(NET)
    assert all(output.max_rel < 1e-3 for output in found.outputs)


def test_half_precision_and_eight_bits_make_the_file_smaller(tmp_path: Path) -> None:
    need("mnn")
    path = saved([case("Gemm", (1, 256), weights(256, 256), weights(256))], tmp_path)
    single = compile_model(path, "mnn")
    half = compile_model(path, "mnn", CompileOptions(precision="fp16"))
    bytes_ = compile_model(path, "mnn", CompileOptions(backend_options={"weight-bits": "8"}))
    sizes = [len(result.files["model.mnn"]) for result in (single, half, bytes_)]
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] < 0.4 * sizes[0]


def test_an_operator_that_the_converter_lacks_is_named(tmp_path: Path) -> None:
    need("mnn")
    path = saved([case("Relu", (1, 4)), case("Hardmax", (3, 3))], tmp_path)
    with pytest.raises(ConvkitError, match="mnn does not take this model: its converter lacks ONNX::Hardmax"):
        compile_model(path, "mnn")


def test_its_caffe_converter_reads_what_convkit_writes(tmp_path: Path) -> None:
    need("mnn")
    toolchain = get_backend("mnn").toolchain
    assert toolchain is not None
    path = saved([c for c in CONVOLUTIONS if c.op == "Conv" and len(c.inputs[0] or ()) == 4], tmp_path)
    made = compile_model(path, "hisilicon-nnie", replace(CompileOptions(), verify=False))
    for name, content in made.files.items():
        (tmp_path / name).write_bytes(content)
    session = onnxruntime.InferenceSession(path)
    rng = np.random.default_rng(0)
    feed = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in session.get_inputs()}
    wanted = session.run(None, feed)
    save_arrays(tmp_path / "inputs.npz", list(feed.values()))
    request = {
        "format": "CAFFE",
        "model": ["model.caffemodel", "model.prototxt"],
        "flags": [],
        "inputs": [t.name for t in made.graph.inputs],
        "outputs": [t.name for t in made.graph.outputs],
        "shapes": [list(array.shape) for array in wanted],
        "arrays": "inputs.npz",
    }
    toolchain.call("mnn", "compile", request, tmp_path, tmp_path / "log")
    for got, want in zip(load_arrays(tmp_path / "outputs.npz"), wanted, strict=True):
        assert np.abs(got - want).max() <= 1e-3 * np.ptp(want)
