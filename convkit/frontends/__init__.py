"""Models of every format come in here: told by content, brought to ONNX's operators, origins noted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from convkit.diagnostics import ConvkitError, Location
from convkit.frontends.formats import Format, format_of
from convkit.frontends.imported import Imported, ImportOptions, Runtime

__all__ = ["Format", "ImportOptions", "Imported", "Runtime", "format_of", "load_any"]

_TORCH = (Format.TORCH_CODE, Format.TORCH_EXPORTED, Format.TORCH_MODULE, Format.TORCHSCRIPT)


def load_any(source: Any, options: ImportOptions | None = None) -> Imported:
    """Import a model of any format: a path, its bytes, `module.py:factory`, or a live model.

    Raises ConvkitError for what is no model, for what cannot be imported (naming it), and "missing-extra"
    where the framework that the format needs is not installed.
    """
    options = options or ImportOptions()
    kind = format_of(source)
    if kind is Format.ONNX:
        return _from_onnx(source, options)
    if kind is Format.TFLITE:
        return _from_tflite(source, options)
    if kind in _TORCH:
        from convkit.frontends.pytorch import load_pytorch

        return load_pytorch(source, kind, options)
    from convkit.frontends.tensorflow import load_tensorflow

    return load_tensorflow(source, kind, options)


def _from_onnx(source: Any, options: ImportOptions) -> Imported:
    from convkit.frontends.onnx import load_onnx
    from convkit.verify.runners import OnnxRuntime

    model = load_onnx(source, options.inputs, options.freeze)
    return Imported(model, Format.ONNX.value, OnnxRuntime(source))


def _from_tflite(source: Any, options: ImportOptions) -> Imported:
    from convkit.frontends.onnx import load_onnx
    from convkit.frontends.tflite import read_tflite
    from convkit.frontends.tflite.reference import reference_of

    data = source if isinstance(source, bytes) else Path(os.fspath(source)).read_bytes()
    try:
        raw = read_tflite(data)
    except ConvkitError as refused:
        if isinstance(source, bytes):
            raise
        file = os.fspath(source)
        found = (
            replace(d, location=replace(d.location or Location(), file=file)) for d in refused.diagnostics
        )
        raise ConvkitError(*found) from refused
    model = load_onnx(raw, options.inputs, options.freeze)
    return Imported(model, Format.TFLITE.value, reference_of(data, raw))
