"""HiSilicon NNIE: the Caffe network, read back and run by OpenCV, computes the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convkit.compiler.driver import compile_model
from convkit.compiler.options import CompileOptions
from convkit.diagnostics import ConvkitError
from tests.backends.conftest import need
from tests.backends.networks import Case, case, saved, weights

MAP = (1, 8, 9, 12)
ASYMMETRIC = {"coordinate_transformation_mode": "asymmetric"}
CORNERS = {"coordinate_transformation_mode": "align_corners"}

CONVOLUTIONS = [
    case("Conv", MAP, weights(6, 8, 3, 3), weights(6), pads=[1, 1, 1, 1]),
    case("Conv", MAP, weights(6, 8, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2]),
    case("Conv", MAP, weights(6, 8, 3, 2), pads=[2, 1, 0, 0], strides=[2, 3]),
    case("Conv", MAP, weights(6, 8, 3, 3), pads=[4, 2, 2, 2], dilations=[2, 2]),
    case("Conv", MAP, weights(8, 1, 5, 3), weights(8), group=8, pads=[2, 1, 2, 1]),
    case("Conv", (2, 4, 11), weights(6, 2, 3), weights(6), group=2, pads=[1, 0], strides=[2]),
    case("ConvTranspose", MAP, weights(8, 5, 4, 4), weights(5), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("ConvTranspose", MAP, weights(8, 5, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    case("ConvTranspose", MAP, weights(8, 2, 3, 2), group=2, strides=[3, 2], pads=[0, 1, 2, 0]),
    case("ConvTranspose", (1, 4, 7), weights(4, 3, 4), strides=[2], pads=[1, 1]),
    case("Gemm", (3, 10), weights(4, 10), weights(4), transB=1, alpha=0.5, beta=2.0),
    case("MatMul", (2, 3, 10), weights(10, 4)),
    case("DepthToSpace", (1, 12, 4, 5), blocksize=2, mode="DCR"),
    case("DepthToSpace", (1, 18, 4, 5), blocksize=3, mode="CRD"),
    case("SpaceToDepth", (2, 3, 6, 4), blocksize=2),
    case("BatchNormalization", MAP, weights(8), weights(8), weights(8), np.abs(weights(8)) + 0.5),
]
POOLINGS = [
    case("MaxPool", MAP, kernel_shape=[2, 2], strides=[2, 2]),
    case("MaxPool", MAP, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("MaxPool", MAP, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    case("MaxPool", MAP, kernel_shape=[3, 2], strides=[1, 1], pads=[0, 0, 2, 1]),
    case("MaxPool", MAP, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    case("MaxPool", (1, 4, 13), kernel_shape=[3], strides=[2], pads=[1, 1]),
    case("AveragePool", MAP, kernel_shape=[3, 3], strides=[3, 3]),
    case("AveragePool", MAP, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", MAP, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("AveragePool", MAP, kernel_shape=[2, 4], strides=[2, 1], pads=[0, 1, 1, 2]),
    case("GlobalAveragePool", MAP),
    case("ReduceMean", MAP, np.array([2, 3]), keepdims=0),
    case("ReduceSum", (2, 3, 4, 5), np.array([1, 3])),
    case("ReduceMax", (2, 3, 4), np.array([-1])),
    case("ReduceMin", (2, 3, 4), np.array([1]), keepdims=0),
    case("ReduceL2", (2, 3, 4, 5), np.array([1])),
]
ACTIVATIONS = [
    case("LeakyRelu", MAP, alpha=0.3),
    case("Elu", MAP, alpha=0.7),
    case("PRelu", MAP, weights(8, 1, 1)),
    case("PRelu", MAP, weights(1)),
    case("Clip", MAP, np.float32(-0.5), np.float32(0.8)),
    case("Clip", MAP, None, np.float32(0.4)),
    case("HardSigmoid", MAP, alpha=0.3, beta=0.4),
    case("HardSwish", MAP),
    case("Gelu", MAP, approximate="tanh"),
    case("Mish", MAP),
    case("Softplus", MAP),
    case("Softmax", MAP, axis=1),
    case("LogSoftmax", MAP, axis=3),
    case("LRN", MAP, size=3, alpha=0.3, beta=0.6, bias=2.0),
    case("LayerNormalization", (2, 5, 12), weights(12), weights(12), epsilon=1e-3),
    case("InstanceNormalization", MAP, weights(8), weights(8)),
]
ARITHMETIC = [
    case("Add", MAP, MAP),
    case("Sub", (1, 8, 1, 1), MAP),
    case("Sub", weights(8, 1, 1), MAP),
    case("Mul", MAP, (1, 8, 1, 1)),
    case("Mul", (1, 1, 9, 12), MAP),
    case("Mul", MAP, weights(9, 1)),
    case("Div", MAP, np.float32(3)),
    case("Div", np.float32(3), (1, 4, 2, 2)),
    case("Max", MAP, MAP),
    case("Min", MAP, np.float32(0.2)),
    case("Pow", MAP, np.float32(2)),
]
MOVEMENT = [
    case("Transpose", MAP, perm=[0, 2, 3, 1]),
    case("Concat", MAP, (1, 3, 9, 12), axis=1),
    case("Slice", MAP, np.array([1, 2]), np.array([8, 12]), np.array([2, 3])),
    case("Slice", MAP, np.array([1]), np.array([8]), np.array([1]), np.array([3])),
    case("Slice", MAP, np.array([1]), np.array([9]), np.array([2]), np.array([2])),
    case("Gather", MAP, np.array([5, 0, 3]), axis=1),
    case("Pad", MAP, np.array([0, 2, 1, 0, 0, 1, 2, 3])),
    case("Pad", MAP, np.array([0, 0, 1, 0, 0, 1, 2, 3]), mode="edge"),
    case(
        "Resize",
        MAP,
        None,
        np.float32([1, 1, 2, 3]),
        mode="nearest",
        **ASYMMETRIC,
    ),
    case("Resize", MAP, None, np.float32([1, 1, 2, 2]), mode="linear"),
    case("Resize", MAP, None, np.float32([1, 1, 3, 4]), mode="linear"),
    case(
        "Resize",
        MAP,
        None,
        np.float32([1, 1, 2, 2]),
        mode="linear",
        **CORNERS,
    ),
    case("Resize", MAP, None, None, np.array([1, 8, 6, 17]), mode="cubic"),
    case("Resize", MAP, None, np.float32([1, 1, 0.5, 0.5]), mode="linear", antialias=1),
    case("Reshape", MAP, np.array([1, 8, -1])),
]


@pytest.mark.parametrize("cases", [CONVOLUTIONS, POOLINGS, ACTIVATIONS, ARITHMETIC, MOVEMENT])
def test_every_spelling_computes_the_operator(cases: list[Case], tmp_path: Path) -> None:
    need("hisilicon-nnie")
    result = compile_model(saved(cases, tmp_path), "hisilicon-nnie")
    found = result.report.verification
    assert found is not None
    assert found.runtime.startswith("OpenCV")
    assert len(found.outputs) == len(cases)
    for output in found.outputs:
        assert output.max_rel < 2e-5, output


def test_what_has_no_form_in_caffe_is_refused_by_name(tmp_path: Path) -> None:
    path = saved([case("Erf", MAP), case("Relu", MAP), case("MatMul", (2, 3), (3, 4))], tmp_path)
    with pytest.raises(ConvkitError) as refused:
        compile_model(path, "hisilicon-nnie", CompileOptions(verify=False))
    assert [d.message for d in refused.value.diagnostics] == [
        "Erf cannot be lowered to Caffe: Caffe has no such layer",
        "MatMul cannot be lowered to Caffe: input 1 is not constant",
    ]


NET = [case("Conv", (1, 3, 8, 8), weights(4, 3, 3, 3), weights(4), pads=[1, 1, 1, 1])]
UNCHECKED = CompileOptions(verify=False)


def test_the_files_are_the_pair_and_the_mapper_s_configuration(tmp_path: Path) -> None:
    options = replace(
        UNCHECKED, backend_options={"mean": "104,117,124", "scale": "0.0078125", "mode": "precision"}
    )
    first = compile_model(saved(NET, tmp_path), "hisilicon-nnie", options)
    again = compile_model(saved(NET, tmp_path), "hisilicon-nnie", options)
    assert list(first.files) == ["model.prototxt", "model.caffemodel", "model.cfg", "model.mean.txt"]
    assert first.files == again.files
    assert first.files["model.mean.txt"] == b"104\n117\n124\n"
    configuration = dict(line.split("] ") for line in first.files["model.cfg"].decode().splitlines())
    assert configuration["[compile_mode"] == "1"
    assert configuration["[data_scale"] == "0.0078125"
    assert (configuration["[image_type"], configuration["[norm_type"]) == ("1", "5")
    backend = first.report.backend
    assert backend is not None
    assert backend.commands == ("nnie_mapper_12 model.cfg",)
    assert "confidence low" in backend.notes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": "1,2"}, "2 means for 3 channels of 'x0_0'"),
        ({"scale": "0"}, "option scale is one number above 1/4096, not '0'"),
        ({"mean": "a"}, "option mean cannot be 'a'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConvkitError) as refused:
        compile_model(saved(NET, tmp_path), "hisilicon-nnie", replace(UNCHECKED, backend_options=options))
    assert refused.value.diagnostics[0].message == message
