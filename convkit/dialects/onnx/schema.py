"""ONNX operators as rules name them: operands, options with their defaults, and the names of axes."""

from __future__ import annotations

from functools import cache
from typing import Any

from convkit.dialects.onnx.view import PERMUTATIONS
from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.schema import enum_values as tflite_enum

_BINARY = """
Add And BitShift Div Equal Greater GreaterOrEqual Less LessOrEqual Mod Mul Or Pow Sub Xor
"""
_REDUCTIONS = """
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
ReduceSum ReduceSumSquare
"""
_OPERANDS = {
    "BatchNormalization": "input scale bias mean variance",
    "Clip": "input smallest largest",
    "Concat": "values*",
    "Conv": "input filter bias",
    "ConvTranspose": "input filter bias",
    "Expand": "input shape",
    "Gather": "input indices",
    "GatherElements": "input indices",
    "GatherND": "input indices",
    "Gemm": "lhs rhs bias",
    "GridSample": "input grid",
    "LayerNormalization": "input scale bias",
    "MatMul": "lhs rhs",
    "OneHot": "indices depth values",
    "PRelu": "input alpha",
    "Pad": "input paddings value axes",
    "Reshape": "input shape",
    "Resize": "input roi scales sizes",
    "Slice": "input starts ends axes steps",
    "Split": "input sizes",
    "Squeeze": "input axes",
    "Tile": "input repeats",
    "TopK": "input k",
    "Unsqueeze": "input axes",
    "Where": "condition on_true on_false",
    **dict.fromkeys(_BINARY.split(), "lhs rhs"),
    **dict.fromkeys(_REDUCTIONS.split(), "input axes"),
    **dict.fromkeys(["Max", "Min", "Mean", "Sum"], "values*"),
}
_ENUMS = {
    "auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"),
    "mode": (
        "NEAREST", "LINEAR", "CUBIC", "CONSTANT", "REFLECT", "EDGE", "WRAP", "DCR", "CRD", "BILINEAR",
        "BICUBIC",
    ),
    "coordinate_transformation_mode": (
        "HALF_PIXEL", "HALF_PIXEL_SYMMETRIC", "PYTORCH_HALF_PIXEL", "ALIGN_CORNERS", "ASYMMETRIC",
        "TF_HALF_PIXEL_FOR_NN", "TF_CROP_AND_RESIZE",
    ),
    "nearest_mode": ("ROUND_PREFER_FLOOR", "ROUND_PREFER_CEIL", "FLOOR", "CEIL"),
    "keep_aspect_ratio_policy": ("STRETCH", "NOT_LARGER", "NOT_SMALLER"),
    "padding_mode": ("ZEROS", "BORDER", "REFLECTION"),
    "approximate": ("NONE", "TANH"),
    "reduction": ("NONE", "ADD", "MUL", "MAX", "MIN"),
    "direction": ("FORWARD", "REVERSE", "BIDIRECTIONAL"),
    "perm": PERMUTATIONS,
}  # fmt: skip
_WINDOW = dict.fromkeys(("stride_h", "stride_w", "dilation_h", "dilation_w"), 1) | dict.fromkeys(
    ("kernel_h", "kernel_w", "pad_top", "pad_left", "pad_bottom", "pad_right"), 0
)
_WINDOWED = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")
_FILTER_AXES = {("Conv", "filter"): ("o", "i", "h", "w"), ("ConvTranspose", "filter"): ("i", "o", "h", "w")}
_ACTIVATION_AXES = {1: ("c",), 2: ("n", "c"), 3: ("n", "c", "w"), 4: ("n", "c", "h", "w")}
AXES = ("n", "c", "h", "w", "o", "i")


@cache
def _schemas() -> dict[str, Any]:
    """Every operator of the standard domain in its newest version."""
    from onnx import defs

    return {schema.name: schema for schema in defs.get_all_schemas() if schema.domain == ""}


def operators() -> dict[str, int]:
    """Every operator's name, with the opset its newest form came with."""
    return {name: schema.since_version for name, schema in _schemas().items()}


@cache
def roles(code: str) -> tuple[str, ...]:
    """The names of an operator's inputs, in order; an operator of one input calls it `input`."""
    return tuple(role.rstrip("*") for role in _operands(code).split())


@cache
def _operands(code: str) -> str:
    if code in _OPERANDS:
        return _OPERANDS[code]
    names = [parameter.name.lower() for parameter in _schemas()[code].inputs] if code in _schemas() else []
    return " ".join(["input", *names[1:]]) if names else ""


def tensors_of_role(op: Op, role: str) -> list[Tensor | None] | None:
    """The tensors of a named input (or `output`) of `op`, None if it has no such name."""
    if role == "output":
        return list(op.outputs)
    if role not in roles(op.code):
        return None
    index = roles(op.code).index(role)
    variadic = _operands(op.code).endswith("*") and index == len(roles(op.code)) - 1
    return op.inputs[index:] if variadic else op.inputs[index : index + 1]


def axis_size(op: Op, role: str, tensor: Tensor, axis: str) -> int | None:
    """The size of a named axis (filters: o i h w; activations: n c h w), None if it has no such axis."""
    names = _FILTER_AXES.get((op.code, role)) or _ACTIVATION_AXES.get(tensor.rank, ())
    return tensor.shape[names.index(axis)] if axis in names and len(names) == tensor.rank else None


@cache
def default_options(code: str) -> dict[str, Any]:
    """The default of every option of an operator, as the view names them; None for a list."""
    if code not in _schemas():
        return {}
    found: dict[str, Any] = {}
    for name, attribute in _schemas()[code].attributes.items():
        kind = attribute.type.name
        given = attribute.default_value
        if kind == "STRING":
            found[name] = given.s.decode().upper()
        elif kind in {"INT", "FLOAT"}:
            found[name] = given.i if kind == "INT" else given.f
    if code in _WINDOWED:
        found |= _WINDOW
    if code == "ConvTranspose":
        found |= {"output_pad_h": 0, "output_pad_w": 0}
    if code == "Transpose":
        found["perm"] = ""
    return found


def option_enum(option: str) -> str | None:
    """The enum that an option is drawn from, or None for a number."""
    return option if option in _ENUMS else None


@cache
def enum_values(enum: str) -> dict[str, int]:
    """The members of an enum, by name; types go by the names they have in TFLite."""
    if enum == "TensorType":
        return tflite_enum(enum)
    return {name: number for number, name in enumerate(_ENUMS[enum])}
