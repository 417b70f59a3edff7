"""One case per rule of operator versions."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from convkit.dialects.tflite.graph import Op, Quantization, Tensor
from convkit.dialects.tflite.versions import _RULES, version_of

_DTYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "i4": ml_dtypes.int4, "bool": np.bool_}
_DTYPES |= {"f32": np.float32, "f64": np.float64, "c64": np.complex64}
_DTYPES |= {
    f"{'' if s == 'i' else s}i{n}": np.dtype(f"{'' if s == 'i' else s}int{n}")
    for s in "iu"
    for n in (8, 16, 32, 64)
}


def tensor(spec: str) -> Tensor | None:
    """ "i8", "f32[1,2]", "i8q" (quantized), "i8c" (per channel), "-" for none."""
    if spec == "-":
        return None
    name, _, dims = spec.partition("[")
    quantization = None
    if name[-1] in "qc" and name not in _DTYPES:
        scale = np.full(1 if name[-1] == "q" else 2, 0.5, np.float32)
        quantization = Quantization(scale, np.zeros(scale.shape, np.int64))
        name = name[:-1]
    shape = tuple(int(d) for d in dims.rstrip("]").split(",")) if dims else (1, 1, 1, 1)
    return Tensor(spec, shape, np.dtype(_DTYPES[name]), None, quantization)


# operator, inputs, output, options, version
CASES: list[tuple[str, str, str, dict[str, object], int]] = [
    ("CONV_2D", "i16 i8 i64", "i16", {"quantized_bias_type": "INT32"}, 8),
    ("CONV_2D", "f32[1,4,4,4] f32[2,1,1,2] f32", "f32", {}, 6),
    ("CONV_2D", "i16 i16 f32", "i16", {}, 4),
    ("CONV_2D", "i8 i8 i32", "i8", {}, 3),
    ("CONV_2D", "i8 i4 i32", "i8", {}, 7),
    ("CONV_2D", "f32 i8c f32", "f32", {}, 5),
    ("CONV_2D", "f32 i8q f32", "f32", {}, 2),
    ("CONV_2D", "f32 f32 f32", "f32", {"dilation_w_factor": 2}, 1),
    ("DEPTHWISE_CONV_2D", "i16 i16 f32", "i16", {}, 5),
    ("DEPTHWISE_CONV_2D", "f32 i8c f32", "f32", {}, 6),
    ("DEPTHWISE_CONV_2D", "f32 i8q f32", "f32", {}, 4),
    ("DEPTHWISE_CONV_2D", "i8 i8 i32", "i8", {}, 3),
    ("DEPTHWISE_CONV_2D", "i8 i4 i32", "i8", {}, 7),
    ("DEPTHWISE_CONV_2D", "f32 f32 f32", "f32", {"dilation_w_factor": 1, "dilation_h_factor": 2}, 2),
    ("DEPTHWISE_CONV_2D", "f32 f32 f32", "f32", {"dilation_w_factor": 1}, 1),
    ("FULLY_CONNECTED", "i16 i4 f32", "i16", {}, 13),
    ("FULLY_CONNECTED", "f32 i8c f32", "f32", {}, 12),
    ("FULLY_CONNECTED", "i16 i8 i64", "i16", {"quantized_bias_type": "INT64"}, 11),
    ("FULLY_CONNECTED", "i16 i16 f32", "i16", {}, 7),
    ("FULLY_CONNECTED", "f32 f32", "f32", {"keep_num_dims": True}, 6),
    ("FULLY_CONNECTED", "f32 f32 f32", "f32", {"keep_num_dims": True}, 5),
    ("FULLY_CONNECTED", "i8 i8 i32", "i8", {}, 4),
    ("FULLY_CONNECTED", "i8 i4 i32", "i8", {}, 10),
    ("FULLY_CONNECTED", "f32 i8q f32", "f32", {"asymmetric_quantize_inputs": True}, 9),
    ("FULLY_CONNECTED", "f32 i8q f32", "f32", {}, 3),
    ("FULLY_CONNECTED", "f32 f32 f32", "f32", {"weights_format": "SHUFFLED4x16INT8"}, 2),
    ("FULLY_CONNECTED", "f32 f32 f32", "f32", {"weights_format": "DEFAULT"}, 1),
    ("TRANSPOSE_CONV", "i32 i8 i16 i64", "i16", {"quantized_bias_type": "INT32"}, 5),
    ("TRANSPOSE_CONV", "i32 f32 f32", "f32", {"fused_activation_function": "RELU"}, 4),
    ("TRANSPOSE_CONV", "i32 f32 f32 f32", "f32", {"fused_activation_function": "NONE"}, 3),
    ("TRANSPOSE_CONV", "i32 i8 i8", "i8", {}, 2),
    ("TRANSPOSE_CONV", "i32 f32 f32", "f32", {}, 1),
    ("GATHER", "i4 i32", "i4", {}, 7),
    ("GATHER", "f32 i16", "f32", {}, 6),
    ("GATHER", "f32 i32", "f32", {"batch_dims": 1}, 5),
    ("GATHER", "i16 i32", "i16", {}, 4),
    ("GATHER", "bool i32", "bool", {}, 3),
    ("GATHER", "i8 i32", "i8", {}, 2),
    ("GATHER", "f32 i32", "f32", {"batch_dims": 0}, 1),
    ("GATHER_ND", "bool i32", "bool", {}, 5),
    ("GATHER_ND", "f32 i16", "f32", {}, 4),
    ("GATHER_ND", "i16 i32", "i16", {}, 3),
    ("MUL", "f16 f16", "f16", {}, 8),
    ("MUL", "i16 i16", "i16", {}, 7),
    ("MUL", "ui32 ui32", "ui32", {}, 7),
    ("MUL", "c64 c64", "c64", {}, 6),
    ("MUL", "i64 i64", "i64", {}, 5),
    ("MUL", "i16q i16q", "i16q", {}, 4),
    ("MUL", "i8 i8", "i8", {}, 2),
    ("MUL", "f32 f32", "f32", {}, 1),
    ("ADD", "f16 f16", "f16", {}, 6),
    ("ADD", "i16 i16", "i16", {}, 5),
    ("ADD", "i64 i64", "i64", {}, 4),
    ("ADD", "i16q i16q", "i16q", {"pot_scale_int16": False}, 3),
    ("ADD", "i8 i8", "i8", {}, 2),
    ("ADD", "f32 f32", "f32", {}, 1),
    ("SUB", "i16q i16q", "i16q", {"pot_scale_int16": False}, 5),
    ("SUB", "i64 i64", "i64", {}, 4),
    ("SUB", "f32[1,1,1,1,2] f32", "f32", {}, 3),
    ("SUB", "f32[1,1,1,1,2] f32[1,1,1,1,2]", "f32", {}, 1),
    ("SUB", "i8 i8", "i8", {}, 2),
    ("DIV", "f32[1,1,1,1,2] f32", "f32", {}, 2),
    ("MAXIMUM", "i16 i16", "i16", {}, 4),
    ("MINIMUM", "f32[1,1,1,1,2] f32", "f32", {}, 3),
    ("MAXIMUM", "i8 i8", "i8", {}, 2),
    ("FLOOR_DIV", "i8 i8", "i8", {}, 3),
    ("FLOOR_DIV", "f32 f32", "f32", {}, 2),
    ("FLOOR_DIV", "i32 i32", "i32", {}, 1),
    ("FLOOR_MOD", "i16 i16", "i16", {}, 2),
    ("MAX_POOL_2D", "i16", "i16", {}, 3),
    ("AVERAGE_POOL_2D", "i8", "i8", {}, 2),
    ("RESIZE_BILINEAR", "i16 i32", "i16", {}, 4),
    ("RESIZE_BILINEAR", "f32 i32", "f32", {"half_pixel_centers": True}, 3),
    ("RESIZE_BILINEAR", "f32 i32", "f32", {"align_corners": True}, 1),
    ("RESIZE_NEAREST_NEIGHBOR", "f32 i32", "f32", {"align_corners": True}, 3),
    ("RESIZE_NEAREST_NEIGHBOR", "i8 i32", "i8", {}, 2),
    ("SOFTMAX", "f16", "f16", {}, 4),
    ("SOFTMAX", "i16", "i16", {}, 3),
    ("CONCATENATION", "f16 f16", "f16", {}, 6),
    ("CONCATENATION", "ui32 ui32", "ui32", {}, 4),
    ("TRANSPOSE", "f16 i32", "f16", {}, 9),
    ("TRANSPOSE", "bf16 i32", "bf16", {}, 8),
    ("TRANSPOSE", "f32[1,1,1,1,1,1,1] i32[7]", "f32[1,1,1,1,1,1,1]", {}, 8),
    ("TRANSPOSE", "f32[1,1,1,1,1,1] i32[6]", "f32[1,1,1,1,1,1]", {}, 6),
    ("TRANSPOSE", "f32[1,1,1,1,1] i32[5]", "f32[1,1,1,1,1]", {}, 4),
    ("TRANSPOSE", "bool i32[4]", "bool", {}, 3),
    ("SLICE", "f32[1,1,1,1,1] i32[5] i32[5]", "f32[1,1,1,1,1]", {}, 5),
    ("SLICE", "i16 i32[4] i32[4]", "i16", {}, 4),
    ("STRIDED_SLICE", "f32 i32 i32 i32", "f32", {"offset": True}, 8),
    ("STRIDED_SLICE", "f32 i32 i32 i32", "f32", {"new_axis_mask": 1}, 6),
    ("STRIDED_SLICE", "f32[1,1,1,1,1] i32 i32 i32", "f32", {"shrink_axis_mask": 1}, 4),
    ("STRIDED_SLICE", "bool i32 i32 i32", "bool", {}, 3),
    ("PAD", "bool i32", "bool", {}, 5),
    ("PADV2", "f32[1,1,1,1,1] i32 f32", "f32[1,1,1,1,1]", {}, 4),
    ("PAD", "i16 i32", "i16", {}, 3),
    ("MEAN", "i16 i32", "i16", {}, 3),
    ("RSQRT", "i8", "i8", {}, 2),
    ("SUM", "i8 i32", "i8", {}, 2),
    ("DEPTH_TO_SPACE", "i8", "i8", {}, 2),
    ("LESS", "i16 i16", "bool", {}, 3),
    ("EQUAL", "i16 i16", "bool", {}, 5),
    ("NOT_EQUAL", "i16 i16", "bool", {}, 4),
    ("RELU", "ui8", "ui8", {}, 2),
    ("LEAKY_RELU", "i16", "i16", {}, 2),
    ("LOGISTIC", "i16", "i16", {}, 3),
    ("ABS", "i32", "i32", {}, 5),
    ("ABS", "i16", "i16", {}, 4),
    ("ABS", "i16q", "i16q", {}, 3),
    ("EXP", "i16", "i16", {}, 2),
    ("COS", "f16", "f16", {}, 2),
    ("SIGN", "i32", "i32", {}, 2),
    ("GELU", "f16", "f16", {}, 3),
    ("GELU", "f32", "f32", {}, 1),
    ("L2_NORMALIZATION", "i8", "i8", {}, 2),
    ("SPLIT", "i32 i32", "i32", {}, 3),
    ("SPLIT", "i32 f32", "f32", {}, 1),
    ("SPLIT_V", "i8 i32 i32", "i8", {}, 2),
    ("PACK", "ui32 ui32", "ui32", {}, 4),
    ("UNPACK", "f16", "f16", {}, 5),
    ("TILE", "i8 i32", "i8", {}, 3),
    ("SPACE_TO_BATCH_ND", "f32[1,1,1] i32 i32", "f32[1,1,1]", {}, 3),
    ("BATCH_TO_SPACE_ND", "f32 i32 i32", "f32", {}, 1),
    ("REVERSE_V2", "bool i32", "bool", {}, 2),
    ("BATCH_MATMUL", "f32 i8q", "f32", {"asymmetric_quantize_inputs": True}, 4),
    ("BATCH_MATMUL", "f32 f32", "f32", {}, 1),
    ("ARG_MAX", "bool i32", "i32", {}, 3),
    ("SELECT", "bool ui32 ui32", "ui32", {}, 4),
    ("SELECT", "bool f32[1,1,1,1,1] f32", "f32[1,1,1,1,1]", {}, 3),
    ("SELECT_V2", "bool ui32 ui32", "ui32", {}, 2),
    ("TOPK_V2", "f32 i16", "f32", {}, 3),
    ("DEQUANTIZE", "i4", "f32", {}, 6),
    ("DEQUANTIZE", "f16", "f32", {}, 3),
    ("DEQUANTIZE", "i8c", "f32", {}, 5),
    ("DEQUANTIZE", "i8q", "f32", {}, 2),
    ("QUANTIZE", "f32", "i4q", {}, 4),
    ("QUANTIZE", "f32", "i8c", {}, 3),
    ("QUANTIZE", "f32", "i16q", {}, 2),
    ("QUANTIZE", "f32", "i8q", {}, 1),
    ("CAST", "bf16", "f32", {}, 7),
    ("CAST", "i4", "f32", {}, 6),
    ("CAST", "f32", "f64", {}, 5),
    ("CAST", "f32", "ui16", {}, 4),
    ("CAST", "i8", "f32", {}, 3),
    ("CAST", "ui32", "f32", {}, 2),
    ("CAST", "i64", "f32", {}, 1),
    ("EMBEDDING_LOOKUP", "i32 i8c", "f32", {}, 4),
    ("FAKE_QUANT", "f32", "f32", {"narrow_range": True}, 2),
    ("FILL", "i32 f16", "f16", {}, 4),
    ("BROADCAST_TO", "i8 i32", "i8", {}, 3),
    ("BROADCAST_TO", "f32 i32", "f32", {}, 2),
    ("DYNAMIC_UPDATE_SLICE", "f32 f32 i64", "f32", {}, 2),
    ("WHERE", "bool", "i64", {}, 1),
    ("WHERE", "f32", "i64", {}, 2),
    ("RANGE", "i64 i64 i64", "i64", {}, 2),
    ("SPARSE_TO_DENSE", "i32 i32 i64 i64", "i64", {}, 2),
    ("LSTM", "f32 f32", "f32", {"kernel_type": "BASIC"}, 2),
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", "f32 f32", "f32", {"diagonal_recurrent_tensors": True}, 4),
    ("NEG", "f32", "f32", {}, 1),
]


@pytest.mark.parametrize(("code", "inputs", "output", "options", "version"), CASES, ids=str)
def test_version(code: str, inputs: str, output: str, options: dict[str, object], version: int) -> None:
    made = tensor(output)
    assert made is not None
    assert version_of(Op(code, [tensor(s) for s in inputs.split()], [made], dict(options))) == version


def test_a_product_scaled_up_needs_version_three() -> None:
    parts = [
        Tensor(
            "t", (1,), np.dtype(np.int8), None, Quantization(np.array([s], np.float32), np.zeros(1, np.int64))
        )
        for s in (2.0, 1.0, 1.5)
    ]
    assert version_of(Op("MUL", parts[:2], parts[2:])) == 3


def test_every_operator_with_rules_has_a_case() -> None:
    covered = {case[0] for case in CASES}
    families = {id(rules): code for code, rules in _RULES.items() if code in covered}
    assert not [code for code, rules in _RULES.items() if code not in covered and id(rules) not in families]
