"""Quantized operators give onnxruntime's integers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from convkit.backend_onnx import TFLiteBackend
from convkit.diagnostics import ConvkitError
from tests.helpers import check_lowering, normal, one_node

TYPES = st.sampled_from([np.int8, np.uint8])


def integers(rng: np.random.Generator, dtype: type, *shape: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def zero_point(dtype: type, wanted: bool) -> np.ndarray:
    return np.array(3 if wanted else 0, dtype)


@settings(max_examples=40, deadline=None)
@given(st.data(), TYPES, st.booleans(), st.booleans())
def test_quantize_and_dequantize(data: st.DataObject, dtype: type, per_axis: bool, shifted: bool) -> None:
    rng = np.random.default_rng(0)
    x = 5 * normal(rng, 2, 3, 4)
    axis = data.draw(st.sampled_from([0, 1, -1]))
    shape = (x.shape[axis],) if per_axis else ()
    # A power of two makes ties, whose rounding is part of the operator.
    scale = (
        np.full(shape, 0.25, np.float32) if data.draw(st.booleans()) else rng.random(shape, np.float32) + 0.01
    )
    zero = np.full(shape, zero_point(dtype, shifted), dtype)
    x[0, 0] = np.array([0.125, 0.375, -0.625, 1e3], np.float32)
    constants = {"s": np.asarray(scale, np.float32), "z": zero}
    check_lowering(one_node("QuantizeLinear", {"x": x}, constants, axis=axis, opset=19), {"x": x})
    q = integers(rng, dtype, 2, 3, 4)
    check_lowering(one_node("DequantizeLinear", {"q": q}, constants, axis=axis, opset=19), {"q": q})


@settings(max_examples=30, deadline=None)
@given(TYPES, TYPES, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([1, 2, 4]))
def test_qlinear_conv(xt: type, wt: type, shifted: bool, per_channel: bool, bias: bool, group: int) -> None:
    if xt == np.int8:
        wt = np.int8  # onnxruntime has no other mixture
    rng = np.random.default_rng(0)
    x = integers(rng, xt, 2, 4, 6, 7)
    w = integers(rng, wt, 8, 4 // group, 3, 3)
    if wt == np.int8:
        w //= 2  # without VNNI, onnxruntime saturates pairs of larger uint8 by int8 products
    w_zero = np.zeros((), wt) if per_channel else zero_point(wt, shifted)
    constants = {
        "xs": np.float32(0.02),
        "xz": zero_point(xt, shifted),
        "w": w,
        "ws": rng.random(8, np.float32) / 50 + 0.01 if per_channel else np.float32(0.013),
        "wz": np.full(8, w_zero) if per_channel else w_zero,
        "ys": np.float32(0.3),
        "yz": zero_point(xt, shifted),
    }
    if bias:
        constants["b"] = rng.integers(-3000, 3000, 8, np.int32)
    model = one_node(
        "QLinearConv", {"x": x}, constants, kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=group, opset=19
    )
    check_lowering(model, {"x": x})


@settings(max_examples=20, deadline=None)
@given(TYPES, st.booleans(), st.booleans(), st.sampled_from([(3, 5), (2, 3, 5)]))
def test_qlinear_matmul(dtype: type, shifted: bool, per_channel: bool, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = integers(rng, dtype, *shape)
    constants = {
        "xs": np.float32(0.02),
        "xz": zero_point(dtype, shifted),
        "w": integers(rng, dtype, 5, 6),
        "ws": rng.random(6, np.float32) / 50 + 0.01 if per_channel else np.float32(0.013),
        "wz": np.full(6, zero_point(dtype, shifted)) if per_channel else zero_point(dtype, shifted),
        "ys": np.float32(0.2),
        "yz": zero_point(dtype, shifted),
    }
    check_lowering(one_node("QLinearMatMul", {"x": x}, constants, opset=19), {"x": x})


@pytest.mark.parametrize("shifted", [False, True])
def test_integer_products(shifted: bool) -> None:
    rng = np.random.default_rng(0)
    x, w = integers(rng, np.uint8, 2, 3, 6, 6), integers(rng, np.uint8, 4, 3, 3, 3)
    zeros = {"xz": zero_point(np.uint8, shifted), "wz": zero_point(np.uint8, shifted)}
    check_lowering(
        one_node("ConvInteger", {"x": x}, {"w": w, **zeros}, kernel_shape=[3, 3], opset=19), {"x": x}
    )
    a, c = integers(rng, np.uint8, 3, 7), integers(rng, np.int8, 7, 4) // 2
    zeros = {"xz": zero_point(np.uint8, shifted), "wz": zero_point(np.int8, shifted)}
    check_lowering(one_node("MatMulInteger", {"x": a}, {"w": c, **zeros}, opset=19), {"x": a})


def test_sums_beyond_float32_are_refused() -> None:
    a, c = np.zeros((1, 3000), np.uint8), np.full((3000, 2), 100, np.int8)
    with pytest.raises(ConvkitError, match="sums of 3000 products"):
        check_lowering(one_node("MatMulInteger", {"x": a}, {"w": c}, opset=19), {"x": a})


def test_dynamic_quantize() -> None:
    x = 3 * normal(np.random.default_rng(0), 3, 5)
    model = one_node("DynamicQuantizeLinear", {"x": x}, outputs=("y", "s", "z"))
    check_lowering(model, {"x": x})


@settings(max_examples=30, deadline=None)
@given(TYPES, st.integers(1, 4), st.integers(0, 2), st.booleans())
def test_blocked_quantization(dtype: type, block: int, axis: int, constant: bool) -> None:
    rng = np.random.default_rng(0)
    x = 5 * normal(rng, 2, 7, 5)
    shape = list(x.shape)
    shape[axis] = -(-shape[axis] // block)
    scales = {"s": rng.random(shape, np.float32) + np.float32(0.05), "z": integers(rng, dtype, *shape)}
    options = {"axis": axis, "block_size": block, "opset": 21}
    for op_type, inputs in (
        ("QuantizeLinear", {"x": x}),
        ("DequantizeLinear", {"x": integers(rng, dtype, 2, 7, 5)}),
    ):
        given_, known = (inputs, scales) if constant else ({**inputs, **scales}, {})
        check_lowering(one_node(op_type, given_, known, **options), given_)


NARROW = [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2]


def _run(node: onnx.NodeProto, *inputs: np.ndarray) -> np.ndarray:
    (found,) = TFLiteBackend.run_node(node, list(inputs), opset_version=25)
    return np.asarray(found)


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("source", [np.float32, np.int8, np.uint8, np.int32, np.int64])
def test_narrow_integers_take_the_last_bits(narrow: type, source: type) -> None:
    wide = np.arange(0 if np.dtype(source).kind == "u" else -40, 41).astype(source)
    to = int(helper.np_dtype_to_tensor_dtype(np.dtype(narrow)))
    found = _run(helper.make_node("Cast", ["x"], ["y"], to=to), wide)
    assert found.dtype == narrow
    np.testing.assert_array_equal(found, wide.astype(np.int64).astype(narrow))
    back = int(helper.np_dtype_to_tensor_dtype(np.dtype(source)))
    same = _run(helper.make_node("Cast", ["x"], ["y"], to=back), found)
    np.testing.assert_array_equal(same, found.astype(source))
    turned = _run(helper.make_node("Transpose", ["x"], ["y"]), found[:40].reshape(8, 5))
    np.testing.assert_array_equal(turned, found[:40].reshape(8, 5).T)


@pytest.mark.parametrize("narrow", NARROW)
def test_narrow_quantization_saturates(narrow: type) -> None:
    limits = ml_dtypes.iinfo(narrow)  # type: ignore[no-untyped-call]
    x, scale, zero = np.linspace(-20, 20, 81, dtype=np.float32), np.float32(0.5), np.array(1, narrow)
    quantized = _run(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"]), x, scale, zero)
    wanted = np.clip(np.rint(x / scale) + 1, limits.min, limits.max)
    np.testing.assert_array_equal(quantized.astype(np.float32), wanted)
    back = _run(helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"]), quantized, scale, zero)
    np.testing.assert_array_equal(back, (wanted - 1) * scale)
