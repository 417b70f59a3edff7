"""TensorFlow and Keras in, by an interpreter that has them: this one, or the one CONVKIT_TF_PYTHON names."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pytest

import convkit
from convkit.diagnostics import ConvkitError, Diagnostic, ExitCode
from convkit.frontends import tensorflow
from convkit.ir.origin import origin_of

MODELS = """
    import os, sys
    import keras
    import tensorflow as tf

    folder = sys.argv[1]
    x = keras.Input((8, 8, 3), name="image")
    y = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(x)
    y = keras.layers.BatchNormalization(name="norm")(y)
    y = keras.layers.Dense(2, activation="gelu", name="head")(y)
    model = keras.Model(x, [y, keras.layers.Dropout(0.5, name="drop")(y)])
    model.save(f"{folder}/model.keras")
    model.save(f"{folder}/model.h5")
    model.export(f"{folder}/saved", verbose=False)
    z = keras.layers.Lambda(lambda t: t * 2, name="twice")(x)
    keras.Model(x, z).save(f"{folder}/code.keras")
    keras.Model(x, z).save(f"{folder}/code.h5")
    a = keras.Input((None, None, 1), name="any")
    keras.Model(a, keras.layers.ReLU()(a)).save(f"{folder}/open.keras")
    with tf.Graph().as_default() as graph:
        p = tf.compat.v1.placeholder(tf.float32, [None, 4], name="p")
        tf.identity(tf.math.erfc(p) + tf.nn.relu(p), name="out")
    with open(f"{folder}/frozen.pb", "wb") as file:
        file.write(graph.as_graph_def().SerializeToString())
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        python = tensorflow.interpreter()
    except ConvkitError as missing:
        pytest.skip(missing.diagnostics[0].message)
    folder = tmp_path_factory.mktemp("tensorflow")
    script = folder / "make.py"
    script.write_text(textwrap.dedent(MODELS))
    done = subprocess.run(
        [python, "-I", script, folder], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def refusal(source: object, **options: object) -> Diagnostic:
    with pytest.raises(ConvkitError) as caught:
        convkit.load(source, **options)
    return caught.value.diagnostics[0]


@pytest.mark.parametrize(("name", "format_"), [
    ("model.keras", "keras"), ("model.h5", "keras-h5"), ("saved", "saved-model"),
])  # fmt: skip
def test_a_network_in_every_format(models: Path, name: str, format_: str) -> None:
    report = convkit.compile(models / name, "mali-gpu").report
    assert report.model.format == format_
    assert [t.shape for t in report.inputs] == [(1, 8, 8, 3)]  # channels last is kept, the batch is one
    assert [t.shape for t in report.outputs] == [(1, 4, 4, 2)] * 2
    assert report.verification is not None
    assert report.verification.passed
    assert report.verification.reference.startswith(("Keras", "TensorFlow"))
    assert "image" in report.inputs[0].name


def test_layers_are_origins(models: Path) -> None:
    model = convkit.load(models / "model.keras")
    layers = {node.op_type: "".join(origin_of(node).modules) for node in model.graph}
    assert "norm" in layers["Conv"]  # tf2onnx has joined it with the convolution before
    assert "head" in layers["MatMul"]


def test_a_batch_that_is_asked_for_is_kept(models: Path) -> None:
    model = convkit.load(models / "model.keras", {"image": (3, 8, 8, 3)})
    assert [list(value.shape) for value in model.graph.inputs] == [[3, 8, 8, 3]]
    found = refusal(models / "model.keras", inputs={"image": (1, 9, 9, 3)})
    assert found.code == "input-shape"
    assert refusal(models / "model.keras", inputs={"picture": (1, 8, 8, 3)}).code == "unknown-input"


def test_open_dimensions_are_asked_for_not_guessed(models: Path) -> None:
    found = refusal(models / "open.keras")
    assert found.code == "symbolic-shape"
    assert found.help == "give it, for example: --input any:1x224x224x1"


@pytest.mark.parametrize("name", ["code.keras", "code.h5"])
def test_code_in_a_model_runs_only_with_trust(models: Path, name: str) -> None:
    found = refusal(models / name)
    assert found.code == "code-in-model"
    assert "'twice'" in found.message
    assert found.help is not None
    assert "--trust" in found.help


def test_trusted_code_runs(models: Path) -> None:
    report = convkit.compile(models / "code.keras", "mali-gpu", trust=True).report
    assert report.verification is not None
    assert report.verification.passed


def test_a_frozen_graph_and_an_operator_that_tf2onnx_leaves(models: Path) -> None:
    report = convkit.compile(models / "frozen.pb", "mali-gpu").report
    assert report.model.format == "tf-frozen-graph"
    assert [t.name for t in report.inputs] == ["p"]
    assert report.verification is not None
    assert report.verification.passed


def test_without_tensorflow_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(tensorflow.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(tensorflow.importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "m.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ConvkitError, match="needs tensorflow and tf2onnx") as caught:
        convkit.load(path)
    assert caught.value.exit_code is ExitCode.TOOLCHAIN
    assert "convkit[tf]" in str(caught.value)
