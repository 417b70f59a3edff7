"""How ONNX probes are written: models of one operator, their types and shapes inferred by onnx."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper, shape_inference

from convkit.dialects.onnx import as_graph
from convkit.dialects.tflite.graph import Graph

OPSET, IR_VERSION = 24, 12
"""Those of the normal form, whose operators a rule judges."""

F32, F16, F64, I8, U8, I16, U16, I32, I64, U32, BOOL = (
    np.dtype(n) for n in ("f4", "f2", "f8", "i1", "u1", "i2", "u2", "i4", "i8", "u4", "?")
)
KINDS = {"f32": F32, "f16": F16, "f64": F64, "i8": I8, "u8": U8, "i16": I16, "i32": I32, "i64": I64,
         "u32": U32, "bool": BOOL}  # fmt: skip


@dataclass(frozen=True)
class R:
    """A value known at run time only."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any] = F32


@dataclass(frozen=True)
class OnnxProbe:
    """A model of one node, named `op0`."""

    name: str
    model: onnx.ModelProto

    @property
    def code(self) -> str:
        """The operator's type."""
        return self.name.partition("/")[0]

    @cached_property
    def graph(self) -> Graph:
        """The judged form."""
        return as_graph(ir.from_proto(self.model))


def r(*shape: int, dtype: np.dtype[Any] = F32) -> R:
    """A run-time value of a shape."""
    return R(shape, dtype)


def ints(*numbers: int) -> np.ndarray:
    """A constant list of int64."""
    return np.array(numbers, np.int64)


def w(*shape: int, dtype: np.dtype[Any] = F32) -> np.ndarray:
    """A constant of small values, none of them zero."""
    return (np.arange(1, 1 + int(np.prod(shape))).reshape(shape) % 5 + 1).astype(dtype)


Operand = R | np.ndarray | None


def probe(
    code: str, variant: str, inputs: Sequence[Operand], outputs: int = 1, **attributes: Any
) -> Iterator[OnnxProbe]:
    """The probe, or nothing where ONNX itself has no such operator (a type, a rank).

    An R that stands there twice is one value.
    """
    names, values, constants = [], {}, []
    for index, operand in enumerate(inputs):
        if operand is None:
            names.append("")
            continue
        twin = next((i for i in range(index) if inputs[i] is operand), index)
        names.append(f"in{twin}")
        if twin != index:
            continue
        if isinstance(operand, R):
            kind = helper.np_dtype_to_tensor_dtype(operand.dtype)
            values[f"in{twin}"] = helper.make_tensor_value_info(f"in{twin}", kind, operand.shape)
        else:
            constants.append(numpy_helper.from_array(operand, f"in{twin}"))
    made = [f"out{i}" for i in range(outputs)]
    node = helper.make_node(code, names, made, name="op0", **attributes)
    graph = helper.make_graph([node], "probe", list(values.values()), [], constants)
    for name in made:
        graph.output.add().name = name
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    try:
        model = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except (shape_inference.InferenceError, onnx.checker.ValidationError):
        return
    if all(value.type.tensor_type.HasField("shape") for value in model.graph.output):
        yield OnnxProbe(f"{code}/{variant}", model)


_POSITIVE = {"Cast", "Div", "Log", "Mod", "Pow", "Reciprocal", "Sqrt"}
_INDICES = {"Gather", "GatherElements", "GatherND", "OneHot", "ScatterElements", "ScatterND"}


def feeds(made: OnnxProbe) -> dict[str, np.ndarray]:
    """Values for what is known at run time only: moderate, positive where the operator asks for that."""
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for tensor in made.graph.inputs:
        if tensor.dtype == BOOL:
            values = rng.integers(0, 2, tensor.shape)
        elif tensor.dtype.kind in "iu":
            low, high = (0, 2) if made.code in _INDICES else (1, 6)
            values = rng.integers(low, high, tensor.shape)
        else:
            values = np.clip(rng.standard_normal(tensor.shape), -1.2, 1.2)
            values = np.abs(values) + 0.5 if made.code in _POSITIVE else values
        found[tensor.name] = np.asarray(values).astype(tensor.dtype)
    return found
