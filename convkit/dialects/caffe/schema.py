"""Caffe's layers as the published schema has them: parameters with their numbers, operands, enums and axes.

One table serves the writer (names and numbers of fields, BVLC/caffe, src/caffe/proto/caffe.proto) and the
rule language (options with defaults, named operands). `Permute` is an extension, with the number that the
common forks gave it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.schema import enum_values as tflite_enum


@dataclass(frozen=True)
class Field:
    """A field of a layer's parameters: its number, its kind, and its default (None where it has none).

    `kind` is "uint", "int", "float", "bool", "shape" (a BlobShape), "order" (a permutation such as "P0231")
    or the name of an enum; a repeated field takes a tuple.
    """

    number: int
    kind: str = "uint"
    default: Any = None


@dataclass(frozen=True)
class Layer:
    """A layer: the parameters' message (its name and number in LayerParameter), its fields, its operands.

    Operands are tops of other layers first, then the layer's own blobs; `*` marks a variadic one.
    """

    operands: str = "input"
    message: str = ""
    number: int = 0
    fields: Mapping[str, Field] = field(default_factory=dict)


_SIDES = {"pad_h": Field(9, default=0), "pad_w": Field(10, default=0)}
_CONVOLUTION = {
    "num_output": Field(1, default=0),
    "bias_term": Field(2, "bool", True),
    "dilation": Field(18),
    "group": Field(5, default=1),
    **_SIDES,
    "kernel_h": Field(11, default=0),
    "kernel_w": Field(12, default=0),
    "stride_h": Field(13, default=1),
    "stride_w": Field(14, default=1),
}
_POOLING = {
    "pool": Field(1, "pool", "MAX"),
    **_SIDES,
    "kernel_h": Field(5, default=0),
    "kernel_w": Field(6, default=0),
    "stride_h": Field(7, default=1),
    "stride_w": Field(8, default=1),
    "global_pooling": Field(12, "bool", False),
}
_AXES = {"axis": Field(1, "int", 1), "num_axes": Field(2, "int", 1)}
_POWERS = {
    name: Field(i + 1, "float", d)
    for i, (name, d) in enumerate([("power", 1.0), ("scale", 1.0), ("shift", 0.0)])
}
_BASED = {"base": Field(1, "float", -1.0), "scale": Field(2, "float", 1.0), "shift": Field(3, "float", 0.0)}

LAYERS: Mapping[str, Layer] = {
    "AbsVal": Layer(),
    "ArgMax": Layer(
        "input", "argmax_param", 103,
        {"out_max_val": Field(1, "bool", False), "top_k": Field(2, default=1), "axis": Field(3, "int")},
    ),
    "BNLL": Layer(),
    "Bias": Layer("input bias", "bias_param", 141, _AXES),
    "Concat": Layer("values*", "concat_param", 104, {"axis": Field(2, "int", 1)}),
    "Convolution": Layer("input filter bias", "convolution_param", 106, _CONVOLUTION),
    "Deconvolution": Layer("input filter bias", "convolution_param", 106, _CONVOLUTION),
    "ELU": Layer("input", "elu_param", 140, {"alpha": Field(1, "float", 1.0)}),
    "Eltwise": Layer(
        "values*", "eltwise_param", 110,
        {"operation": Field(1, "operation", "SUM"), "coeff": Field(2, "float")},
    ),
    "Exp": Layer("input", "exp_param", 111, _BASED),
    "InnerProduct": Layer(
        "input filter bias", "inner_product_param", 117,
        {"num_output": Field(1, default=0), "bias_term": Field(2, "bool", True), "axis": Field(5, "int", 1)},
    ),
    "LRN": Layer(
        "input", "lrn_param", 118,
        {
            "local_size": Field(1, default=5), "alpha": Field(2, "float", 1.0),
            "beta": Field(3, "float", 0.75), "k": Field(5, "float", 1.0),
        },
    ),
    "Log": Layer("input", "log_param", 134, _BASED),
    "PReLU": Layer("input alpha", "prelu_param", 131, {"channel_shared": Field(2, "bool", False)}),
    "Permute": Layer("input", "permute_param", 202, {"order": Field(1, "order")}),
    "Pooling": Layer("input", "pooling_param", 121, _POOLING),
    "Power": Layer("input", "power_param", 122, _POWERS),
    "ReLU": Layer("input", "relu_param", 123, {"negative_slope": Field(1, "float", 0.0)}),
    "Reshape": Layer("input", "reshape_param", 133, {"shape": Field(1, "shape")}),
    "Scale": Layer("input scale bias", "scale_param", 142, {**_AXES, "bias_term": Field(4, "bool", False)}),
    "Sigmoid": Layer(),
    "Silence": Layer("values*"),
    "Slice": Layer("input", "slice_param", 126, {"axis": Field(3, "int", 1), "slice_point": Field(2)}),
    "Softmax": Layer("input", "softmax_param", 125, {"axis": Field(2, "int", 1)}),
    "TanH": Layer(),
}  # fmt: skip
NO_LAYER = "Custom"
"""The code of an operator that has no form in Caffe; its option `operator` is the ONNX operator's name."""

_ENUMS = {
    "pool": ("MAX", "AVE", "STOCHASTIC"),
    "operation": ("PROD", "SUM", "MAX"),
}
_SPLIT = {"dilation": ("dilation_h", "dilation_w")}
"""Repeated fields that are options by side."""
_FILTER_AXES = {
    "Convolution": ("o", "i", "h", "w"),
    "Deconvolution": ("i", "o", "h", "w"),
    "InnerProduct": ("o", "i"),
}
_ACTIVATION_AXES = {1: ("n",), 2: ("n", "c"), 3: ("n", "c", "w"), 4: ("n", "c", "h", "w")}
AXES = ("n", "c", "h", "w", "o", "i")


def operators() -> dict[str, int]:
    """The types of layers, all of version 1."""
    return dict.fromkeys((*LAYERS, NO_LAYER), 1)


def roles(code: str) -> tuple[str, ...]:
    """The names of a layer's bottoms and blobs, in order."""
    return tuple(role.rstrip("*") for role in _operands(code).split())


def _operands(code: str) -> str:
    return "values*" if code == NO_LAYER else LAYERS[code].operands if code in LAYERS else ""


def tensors_of_role(op: Op, role: str) -> list[Tensor | None] | None:
    """The tensors of a named operand (or `output`) of `op`, None if it has no such name."""
    if role == "output":
        return list(op.outputs)
    if role not in roles(op.code):
        return None
    index = roles(op.code).index(role)
    return op.inputs[index:] if _operands(op.code).endswith("*") else op.inputs[index : index + 1]


def axis_size(op: Op, role: str, tensor: Tensor, axis: str) -> int | None:
    """The size of a named axis (filters: o i h w; activations: n c h w), None if it has no such axis."""
    names = _FILTER_AXES[op.code] if role == "filter" else _ACTIVATION_AXES.get(tensor.rank, ())
    return tensor.shape[names.index(axis)] if axis in names and len(names) == tensor.rank else None


def default_options(code: str) -> dict[str, Any]:
    """The default of every option of a layer that a rule may ask for."""
    if code == NO_LAYER:
        return {"operator": ""}
    found: dict[str, Any] = {}
    for name, declared in LAYERS[code].fields.items() if code in LAYERS else ():
        if name in _SPLIT:
            found |= dict.fromkeys(_SPLIT[name], 1)
        elif declared.kind == "order":
            found[name] = ""
        elif declared.default is not None:
            found[name] = declared.default
    return found


def option_enum(option: str) -> str | None:
    """The enum that an option is drawn from, or None for a number."""
    return option if option in {*_ENUMS, "order", "operator"} else None


def enum_values(enum: str) -> dict[str, int]:
    """The members of an enum, by name; types go by the names they have in TFLite."""
    if enum == "TensorType":
        return tflite_enum(enum)
    if enum == "order":
        from convkit.dialects.onnx.view import PERMUTATIONS

        return {name: number for number, name in enumerate(PERMUTATIONS)}
    if enum == "operator":
        from convkit.dialects.onnx.schema import operators as onnx_operators

        return {name: number for number, name in enumerate(onnx_operators())}
    return {name: number for number, name in enumerate(_ENUMS[enum])}


def parameters(op: Op) -> dict[str, Any]:
    """The fields to write for a layer, in the schema's order: enums, and what differs from its default.

    Of the two sides of a window both are written, or none: readers take them together.
    """
    fields = LAYERS[op.code].fields
    given = {name: op.options.get(name, declared.default) for name, declared in fields.items()}
    for name, sides in _SPLIT.items():
        if name in fields:
            sizes = tuple(op.options.get(side, 1) for side in sides)
            given[name] = None if set(sizes) == {1} else sizes
    stated = {name for name, value in given.items() if value != fields[name].default}
    stated |= {name for name, declared in fields.items() if declared.kind in _ENUMS}
    stated |= {name[:-1] + side for name in stated if name[-2:] in ("_h", "_w") for side in "hw"}
    return {name: value for name, value in given.items() if name in stated}
