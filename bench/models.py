"""The models that are measured: four exported ones, the corpus, and synthetic chains for scale."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
EXPORTED = ("unet_prelu_tconv", "vapsr_pixelnorm", "mobilenet_v2", "vit_tiny")


def shared() -> Path:
    """The folder with the corpus; CONVKIT_SHARED overrides it."""
    return Path(os.environ.get("CONVKIT_SHARED", ROOT.parent / "shared"))


def exported(name: str) -> Path:
    """The ONNX file of one of `EXPORTED`."""
    return shared() / "models/onnx" / f"{name}.onnx"


def chain(nodes: int, path: Path, channels: int = 4, size: int = 8) -> Path:
    """Write a residual chain of `nodes` operators, half 3x3 convolutions, half additions, to `path`."""
    rng = np.random.default_rng(0)
    scale = 0.1 / np.sqrt(9 * channels)
    made, weights, last = [], [], "x"
    for i in range(nodes // 2):
        weight = (scale * rng.standard_normal((channels, channels, 3, 3))).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        made.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1, 1, 1, 1]))
        made.append(helper.make_node("Add", [last, f"c{i}"], [f"a{i}"], f"add{i}"))
        last = f"a{i}"
    shape = [1, channels, size, size]
    graph = helper.make_graph(
        made,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
