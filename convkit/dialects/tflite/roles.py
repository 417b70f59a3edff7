"""What each input of a TFLite operator is called, and what the axes of its tensors are called.

Input names are those of TFLite's kernels; a name with "*" stands for all remaining inputs.
"""

from __future__ import annotations

from functools import cache

from convkit.dialects.tflite.graph import Op, Tensor

_UNARY = """
ABS CAST CEIL COS DEPTH_TO_SPACE DEQUANTIZE ELU EXP FLOOR GELU HARD_SWISH L2_NORMALIZATION LEAKY_RELU
LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_NOT LOGISTIC LOG_SOFTMAX AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D
NEG QUANTIZE RANK RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SHAPE SIGN SIN SOFTMAX SPACE_TO_DEPTH
SQRT SQUARE SQUEEZE TANH UNPACK WHERE ZEROS_LIKE
"""
_BINARY = """
ADD ATAN2 BITWISE_XOR DIV EQUAL FLOOR_DIV FLOOR_MOD GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND
LOGICAL_OR MAXIMUM MINIMUM MUL NOT_EQUAL POW RIGHT_SHIFT SQUARED_DIFFERENCE SUB BATCH_MATMUL
"""
_REDUCTIONS = "MEAN SUM REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD"
_INPUTS = {
    "ADD_N": "values*",
    "ARG_MAX": "input axis",
    "ARG_MIN": "input axis",
    "BATCH_TO_SPACE_ND": "input block_shape crops",
    "BROADCAST_TO": "input shape",
    "CONCATENATION": "values*",
    "CONV_2D": "input filter bias",
    "CONV_3D": "input filter bias",
    "CUMSUM": "input axis",
    "DEPTHWISE_CONV_2D": "input filter bias",
    "DYNAMIC_UPDATE_SLICE": "input update start_indices",
    "EMBEDDING_LOOKUP": "indices input",
    "EXPAND_DIMS": "input axis",
    "FILL": "dims input",
    "FULLY_CONNECTED": "input weights bias",
    "GATHER": "input indices",
    "GATHER_ND": "input indices",
    "MIRROR_PAD": "input paddings",
    "ONE_HOT": "indices depth on_value off_value",
    "PACK": "values*",
    "PAD": "input paddings",
    "PADV2": "input paddings value",
    "PRELU": "input alpha",
    "RANGE": "start limit delta",
    "RESHAPE": "input shape",
    "RESIZE_BILINEAR": "input size",
    "RESIZE_NEAREST_NEIGHBOR": "input size",
    "REVERSE_SEQUENCE": "input lengths",
    "REVERSE_V2": "input axis",
    "SCATTER_ND": "indices input shape",
    "SELECT": "condition on_true on_false",
    "SELECT_V2": "condition on_true on_false",
    "SLICE": "input begin size",
    "SPACE_TO_BATCH_ND": "input block_shape paddings",
    "SPLIT": "axis input",
    "SPLIT_V": "input sizes axis",
    "STRIDED_SLICE": "input begin end strides",
    "TILE": "input multiples",
    "TOPK_V2": "input k",
    "TRANSPOSE": "input perm",
    "TRANSPOSE_CONV": "output_shape filter input bias",
    **dict.fromkeys(_UNARY.split(), "input"),
    **dict.fromkeys(_BINARY.split(), "lhs rhs"),
    **dict.fromkeys(_REDUCTIONS.split(), "input axes"),
}
# Axes of kernels; everything else is an activation and ends in (n, h, w, c).
_KERNEL_AXES = {
    ("CONV_2D", "filter"): ("o", "h", "w", "i"),
    ("TRANSPOSE_CONV", "filter"): ("o", "h", "w", "i"),
    ("DEPTHWISE_CONV_2D", "filter"): ("i", "h", "w", "o"),
    ("FULLY_CONNECTED", "weights"): ("o", "i"),
}
_ACTIVATION_AXES = {1: ("c",), 2: ("n", "c"), 3: ("n", "w", "c"), 4: ("n", "h", "w", "c")}
AXES = ("n", "h", "w", "c", "o", "i")


@cache
def input_roles(code: str) -> tuple[str, ...]:
    """The names of an operator's inputs, in order; empty for an operator without names."""
    return tuple(role.rstrip("*") for role in _INPUTS.get(code, "").split())


def tensors_of_role(op: Op, role: str) -> list[Tensor | None] | None:
    """The tensors of a named input (or `output`) of `op`, None if its operator has no such name.

    An input that the operator leaves out gives [None] or [].
    """
    if role == "output":
        return list(op.outputs)
    roles = input_roles(op.code)
    if role not in roles:
        return None
    index = roles.index(role)
    variadic = _INPUTS[op.code].endswith("*") and index == len(roles) - 1
    return op.inputs[index:] if variadic else op.inputs[index : index + 1]


def axis_size(op: Op, role: str, tensor: Tensor, axis: str) -> int | None:
    """The size of a named axis (`kernel`: o h w i; activation: n h w c), None if it has no such axis."""
    names = _KERNEL_AXES.get((op.code, role)) or _ACTIVATION_AXES.get(tensor.rank, ())
    if axis not in names or len(names) != tensor.rank:
        return None
    return tensor.shape[names.index(axis)]
