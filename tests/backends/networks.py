"""Models of single operators side by side: each case has inputs and an output of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One operator: inputs are shapes (computed values), arrays (constants) or None (left out)."""

    op: str
    inputs: Sequence[Shape | np.ndarray | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def case(op: str, *inputs: Shape | np.ndarray | None, **attributes: Any) -> Case:
    """A case, briefly."""
    return Case(op, inputs, attributes)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Random constants."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def side_by_side(cases: Sequence[Case], opset: int = 20) -> onnx.ModelProto:
    """One model of all cases; outputs are called `<number>_<operator>`."""
    inputs, constants, nodes, outputs = [], [], [], []
    for number, each in enumerate(cases):
        names = []
        for at, given in enumerate(each.inputs):
            name = f"x{number}_{at}"
            if isinstance(given, tuple):
                inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, given))
            elif given is not None:
                constants.append(numpy_helper.from_array(np.asarray(given), name))
            names.append("" if given is None else name)
        output = f"y{number}_{each.op}"
        nodes.append(helper.make_node(each.op, names, [output], **each.attributes))
        outputs.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "cases", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def saved(cases: Sequence[Case], folder: Path, opset: int = 20) -> Path:
    """The model of these cases, in a file."""
    path = folder / "cases.onnx"
    onnx.save(side_by_side(cases, opset), path)
    return path
