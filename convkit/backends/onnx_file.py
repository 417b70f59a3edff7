"""Write a model as an ONNX file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx_ir as ir

from convkit.files import not_writable, write_all
from convkit.ir.origin import store_origins

ONE_FILE = 2**31 - 2**24
"""Bytes of weights that one file takes: protobuf ends at 2 GiB, and the graph needs some room."""


def write_onnx(model: ir.Model, path: Path) -> tuple[Path, ...]:
    """Write `model`, each node with its origin, whole or not at all; returns the files written.

    Weights that one file cannot hold go to `path` + ".data" beside it. Raises ConvkitError
    "output-not-writable".
    """
    store_origins(model)
    weights = sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )
    if weights <= ONE_FILE:
        write_all(path.parent, {path.name: ir.to_proto(model).SerializeToString()})
        return (path,)
    beside = path.with_name(f"{path.name}.data")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".convkit-") as folder:
            staged = Path(folder, path.name)
            ir.save(model, staged, external_data=beside.name)
            os.replace(staged.with_name(beside.name), beside)
            os.replace(staged, path)
    except OSError as refused:
        raise not_writable(path.parent, refused) from refused
    return path, beside
