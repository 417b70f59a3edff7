"""The format of a model is told by its content."""

from __future__ import annotations

import zipfile
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from convkit.diagnostics import ConvkitError
from convkit.frontends import Format, format_of


def relu() -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    return helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y]))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x1c\x00\x00\x00TFL3", Format.TFLITE),
        (b"\x89HDF\r\n\x1a\n", Format.KERAS_H5),
        (b"\x0a\x10\x0a\x05input", Format.FROZEN_GRAPH),
        (relu().SerializeToString(), Format.ONNX),
        (b"anything else", Format.ONNX),
    ],
)
def test_by_the_first_bytes(tmp_path: Path, content: bytes, expected: Format) -> None:
    path = tmp_path / "model.bin"  # the suffix says nothing
    path.write_bytes(content)
    assert format_of(path) is expected
    assert format_of(content) is expected


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (("config.json", "metadata.json", "model.weights.h5"), Format.KERAS),
        (("net/constants.pkl", "net/code/__torch__.py", "net/data.pkl"), Format.TORCHSCRIPT),
        (("net/archive_format", "net/models/model.json"), Format.TORCH_EXPORTED),
        (("serialized_exported_program.json",), Format.TORCH_EXPORTED),
    ],
)
def test_zip_archives_by_their_members(tmp_path: Path, members: tuple[str, ...], expected: Format) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"")
    assert format_of(path) is expected


def test_weights_without_their_network_are_refused_with_what_to_type(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"")
    with pytest.raises(ConvkitError, match="weights-only") as caught:
        format_of(path)
    assert f"--weights {path}" in str(caught.value)


def test_a_foreign_zip_and_a_foreign_object_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"")
    with pytest.raises(ConvkitError, match="neither a PyTorch nor a Keras model"):
        format_of(path)
    with pytest.raises(ConvkitError, match="an object of type builtins"):
        format_of(3)


def test_a_saved_model_is_a_folder(tmp_path: Path) -> None:
    assert format_of(tmp_path) is Format.ONNX  # whose reader says that this is a folder
    (tmp_path / "saved_model.pb").touch()
    assert format_of(tmp_path) is Format.SAVED_MODEL


def test_code_is_a_module_and_a_name() -> None:
    assert format_of("net.py:Net") is Format.TORCH_CODE
    assert format_of("package.nets:make") is Format.TORCH_CODE
    assert format_of(relu()) is Format.ONNX
