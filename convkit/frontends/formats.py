"""Which format a source is of, told by its content."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from enum import Enum
from pathlib import Path
from typing import Any

from convkit.diagnostics import Location, error


class Format(Enum):
    """What convkit reads; the value is the format's name in reports."""

    ONNX = "onnx"
    TFLITE = "tflite"
    TORCH_MODULE = "torch"
    TORCH_EXPORTED = "torch-pt2"
    TORCHSCRIPT = "torchscript"
    TORCH_CODE = "torch-code"
    KERAS = "keras"
    KERAS_H5 = "keras-h5"
    SAVED_MODEL = "saved-model"
    FROZEN_GRAPH = "tf-frozen-graph"


_CODE = re.compile(r"(?P<module>.+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_][\w.]*)")
_BEGINNINGS = ((4, b"TFL3", Format.TFLITE), (0, b"\x89HDF\r\n\x1a\n", Format.KERAS_H5))


def format_of(source: Any) -> Format:
    """The format of a path, bytes or object. Raises ConvkitError for what is a model without its code, or
    none at all; what is not recognized is taken for ONNX, whose reader says what is wrong.
    """
    if isinstance(source, (str, os.PathLike)):
        return _of_path(os.fspath(source))
    if isinstance(source, bytes):
        return _of_head(source[:8]) or Format.ONNX
    return _of_object(source)


def code_reference(source: Any) -> tuple[str, str] | None:
    """Module (a file or a dotted name) and name in `module.py:factory`, if the source is of that form."""
    found = _CODE.fullmatch(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else None
    if found is None or os.path.exists(os.fspath(source)):
        return None
    return found["module"], found["name"]


def _of_object(source: Any) -> Format:
    """The format of a live object; a framework that was never imported cannot have made it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        if isinstance(source, torch.export.ExportedProgram):
            return Format.TORCH_EXPORTED
        if isinstance(source, torch.jit.ScriptModule):
            return Format.TORCHSCRIPT
        if isinstance(source, torch.nn.Module):
            return Format.TORCH_MODULE
    for name in ("keras", "tf_keras"):
        keras = sys.modules.get(name)
        if keras is not None and isinstance(source, keras.Model):
            return Format.KERAS
    if type(source).__module__.split(".")[0] in ("onnx", "onnx_ir"):
        return Format.ONNX
    raise error(
        "not-a-model",
        f"an object of type {type(source).__module__}.{type(source).__qualname__} is no model",
        help="give a path, bytes, an ONNX model, a torch.nn.Module or a Keras model",
    )


def _of_path(source: str) -> Format:
    path = Path(source)
    if code_reference(source) is not None:
        return Format.TORCH_CODE
    if path.is_dir():
        return Format.SAVED_MODEL if (path / "saved_model.pb").is_file() else Format.ONNX
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError:
        return Format.ONNX  # its reader says what is wrong with the path
    if head[:4] == b"PK\x03\x04":
        return _of_zip(path)
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        raise _weights_only(path)
    if path.name == "saved_model.pb":
        return Format.SAVED_MODEL
    return _of_head(head) or Format.ONNX


def _of_head(head: bytes) -> Format | None:
    for offset, magic, found in _BEGINNINGS:
        if head[offset : offset + len(magic)] == magic:
            return found
    # Field 1 of a GraphDef is a node, of an ONNX model a number.
    return Format.FROZEN_GRAPH if head[:1] == b"\x0a" else None


def _of_zip(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as e:
        raise error("not-a-model", f"the zip archive is malformed: {e}", location=Location(str(path))) from e
    inner = {name.partition("/")[2] for name in names}
    if "config.json" in names and "model.weights.h5" in names:
        return Format.KERAS
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return Format.TORCH_EXPORTED
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return Format.TORCHSCRIPT
    if "data.pkl" in inner:
        raise _weights_only(path)
    raise error(
        "not-a-model",
        "this zip archive is neither a PyTorch nor a Keras model",
        location=Location(str(path)),
    )


def _weights_only(path: Path) -> Exception:
    return error(
        "weights-only",
        "this PyTorch file holds weights, but not the network they belong to",
        location=Location(str(path)),
        help=f"give the code and the weights: convkit ... network.py:Network --weights {path}"
        " --input x:1x3x224x224",
    )
