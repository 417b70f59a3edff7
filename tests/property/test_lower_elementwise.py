"""Elementwise operators and activations equal onnxruntime's, for every broadcast and element type."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.diagnostics import ConvkitError
from convkit.dialects.tflite.lowering import lower
from convkit.dialects.tflite.versions import assign_versions
from convkit.ir.normal import normalize
from tests.helpers import check_lowering, normal, one_node, run_tflite

_FUNCTIONS = (
    "Abs",
    "Acos",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "Neg",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
)
_INTEGERS = (np.int8, np.uint8, np.int16, np.int32, np.int64)


def _numbers(dtype: Any, *shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return normal(rng, *shape)
    low = 0 if np.dtype(dtype).kind == "u" else -100
    return np.asarray(rng.integers(low, 100, shape), dtype)


@st.composite
def broadcasts(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast with one another."""
    full = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))

    def one() -> tuple[int, ...]:
        start = draw(st.integers(0, len(full) - 1))
        return tuple(d if draw(st.booleans()) else 1 for d in full[start:])

    return one(), one()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["Add", "Sub", "Mul", "Div", "Max", "Min", "Less", "Equal", "GreaterOrEqual"]),
    broadcasts(),
    st.sampled_from(["runtime", "constant right", "constant left"]),
)
def test_binary_broadcasting(
    op_type: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], operands: str
) -> None:
    values = {"a": _numbers(np.float32, *shapes[0]), "b": _numbers(np.float32, *shapes[1], seed=1)}
    fixed = {"constant right": "b", "constant left": "a"}.get(operands, "")
    constants = {name: values[name] for name in fixed}
    inputs = {name: array for name, array in values.items() if name not in constants}
    check_lowering(one_node(op_type, inputs, constants, order=["a", "b"]), inputs, tolerance=1e-6)


@pytest.mark.parametrize("dtype", _INTEGERS)
@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Mod", "Equal", "Less"])
def test_integer_arithmetic_is_exact(op_type: str, dtype: Any) -> None:
    inputs = {"a": _numbers(dtype, 3, 40), "b": np.abs(_numbers(dtype, 3, 40, seed=1)) % 9 + dtype(1)}
    check_lowering(one_node(op_type, inputs), inputs)


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.float32])
def test_remainders_keep_their_signs(dtype: Any, fmod: int) -> None:
    if dtype is np.float32 and not fmod:
        pytest.skip("ONNX asks for fmod with floats")
    inputs = {"a": np.array([-7, 7, -7, 7, 6, 0], dtype), "b": np.array([3, 3, -3, -3, 3, 5], dtype)}
    check_lowering(one_node("Mod", inputs, fmod=fmod), inputs)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        *((op_type, {}) for op_type in _FUNCTIONS),
        ("Gelu", {"approximate": "tanh"}),
        ("Elu", {"alpha": 0.7}),
        ("Celu", {"alpha": 0.7}),
        ("Shrink", {"bias": 0.2, "lambd": 0.6}),
        ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
        ("Swish", {"alpha": 1.7}),
    ],
)
def test_functions(op_type: str, attributes: dict[str, Any]) -> None:
    x = _numbers(np.float32, 2, 3, 50) * 4
    if op_type in ("Asin", "Acos", "Atanh"):
        x = x / (np.abs(x).max() * np.float32(1.01))
    inputs = {"x": x}
    model = one_node(op_type, inputs, opset=24 if op_type == "Swish" else 22, **attributes)
    check_lowering(model, inputs, tolerance=2e-6)


@pytest.mark.parametrize("op_type", ["Log", "Sqrt", "Reciprocal", "Acosh"])
def test_functions_of_positive_numbers(op_type: str) -> None:
    inputs = {"x": np.abs(_numbers(np.float32, 4, 50)) + np.float32(1)}
    check_lowering(one_node(op_type, inputs), inputs, tolerance=1e-6)


@pytest.mark.parametrize("op_type", ["Asinh", "Atanh", "Erf", "Sinh", "Tan", "Asin", "Atan"])
def test_odd_functions_are_accurate_near_zero(op_type: str) -> None:
    inputs = {"x": _numbers(np.float32, 200) * np.float32(1e-3)}
    check_lowering(one_node(op_type, inputs), inputs, tolerance=1e-6)


@pytest.mark.parametrize("op_type", ["Softplus", "Mish", "Sigmoid", "Erf", "Gelu", "Elu"])
def test_saturating_functions_do_not_overflow(op_type: str) -> None:
    inputs = {"x": np.linspace(-200, 200, 401, dtype=np.float32)}
    check_lowering(one_node(op_type, inputs), inputs, tolerance=1e-6)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, -1.0, 0.5, 1.7])
def test_powers(exponent: float) -> None:
    inputs = {"x": np.abs(_numbers(np.float32, 3, 20)) + np.float32(0.1)}
    check_lowering(one_node("Pow", inputs, {"e": np.float32(exponent)}), inputs, tolerance=2e-6)


@pytest.mark.parametrize("op_type", ["And", "Or", "Xor", "Not"])
def test_logic(op_type: str) -> None:
    inputs = {name: _numbers(np.float32, 3, 8, seed=i) > 0 for i, name in enumerate("ab")}
    if op_type == "Not":
        del inputs["b"]
    check_lowering(one_node(op_type, inputs), inputs)


def _all_bits(dtype: Any, *shape: int, seed: int = 0) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(size), dtype).reshape(shape)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
@pytest.mark.parametrize("op_type", ["BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"])
@pytest.mark.parametrize("constant", [False, True])
def test_bits(op_type: str, dtype: Any, constant: bool) -> None:
    if op_type == "BitwiseNot":
        inputs = {"a": _all_bits(dtype, 3, 40)}
        check_lowering(one_node(op_type, inputs), inputs)
        return
    inputs, other = {"a": _all_bits(dtype, 3, 1, 40)}, {"b": _all_bits(dtype, 5, 40, seed=1)}
    if constant:
        check_lowering(one_node(op_type, inputs, other), inputs)
    else:
        check_lowering(one_node(op_type, {**inputs, **other}), {**inputs, **other})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("constant", [False, True])
def test_shifts(direction: str, dtype: Any, constant: bool) -> None:
    width = np.dtype(dtype).itemsize * 8
    counts = {"n": np.arange(width, dtype=dtype)}
    inputs = {"x": _all_bits(dtype, 4, width)}
    given_, known = (inputs, counts) if constant else ({**inputs, **counts}, {})
    check_lowering(one_node("BitShift", given_, known, direction=direction), given_)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("constant", [False, True])
def test_shifts_beyond_the_width_leave_nothing(direction: str, dtype: Any, constant: bool) -> None:
    width = np.dtype(dtype).itemsize * 8
    counts = {"n": np.array([1, width, width + 1, np.iinfo(dtype).max], dtype)}
    inputs = {"x": _all_bits(dtype, 4, 1)}
    given_, known = (inputs, counts) if constant else ({**inputs, **counts}, {})
    model = ir.from_proto(one_node("BitShift", given_, known, direction=direction))
    normalize(model)
    graph = lower(model)
    assign_versions(graph)
    (found,) = run_tflite(graph, given_)
    moved = inputs["x"][:, 0] << dtype(1) if direction == "LEFT" else inputs["x"][:, 0] >> dtype(1)
    np.testing.assert_array_equal(found[:, 0], moved)
    assert not found[:, 1:].any()


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([np.uint32, np.int64]), st.integers(0, 99), st.booleans())
def test_long_division_truncates(dtype: Any, seed: int, small: bool) -> None:
    x, y = _all_bits(dtype, 200, seed=seed).copy(), _all_bits(dtype, 200, seed=seed + 1).copy()
    y = y >> np.arange(200).astype(dtype) % (np.dtype(dtype).itemsize * 8)
    if small:
        x, y = x % 64 - (dtype(32) if np.dtype(dtype).kind == "i" else dtype(0)), y % 16
    y[(y == 0) | (y == np.array(-1).astype(dtype))] = 1  # the least number over -1 overflows
    y[0] = 1
    x[:2] = np.iinfo(dtype).max, np.iinfo(dtype).min
    inputs = {"a": x, "b": y}
    check_lowering(one_node("Div", inputs), inputs)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("constant", [False, True])
def test_powers_of_integers(dtype: Any, constant: bool) -> None:
    base, exponent = np.meshgrid(np.arange(-5, 6), np.arange(0, 14))
    inputs, other = {"x": base.astype(dtype)}, {"e": exponent.astype(dtype)}
    given_, known = (inputs, other) if constant else ({**inputs, **other}, {})
    check_lowering(one_node("Pow", given_, known, opset=15), given_)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_fractional_powers_of_integers_are_refused(dtype: Any) -> None:
    inputs = {"x": np.array([1, 4, 9], dtype)}
    check_lowering(one_node("Pow", inputs, {"e": np.float32(2)}, opset=15), inputs)
    with pytest.raises(ConvkitError, match="integer exponent"):
        check_lowering(one_node("Pow", inputs, {"e": np.float32(0.5)}, opset=15), inputs)


def test_negative_powers_of_integers() -> None:
    inputs = {
        "x": np.array([1, -1, -1, 2, -3, 1], np.int64),
        "e": np.array([-5, -5, -4, -1, -2, -70], np.int64),
    }
    check_lowering(one_node("Pow", inputs, opset=15), inputs)


@pytest.mark.parametrize("attributes", [{}, {"detect_positive": 0}, {"detect_negative": 0}])
def test_infinities(attributes: dict[str, Any]) -> None:
    inputs = {"x": np.array([1, np.nan, np.inf, -np.inf], np.float32)}
    check_lowering(one_node("IsInf", inputs, **attributes), inputs)
    check_lowering(one_node("IsNaN", inputs), inputs)


@settings(max_examples=40, deadline=None)
@given(broadcasts(), st.booleans(), st.booleans())
def test_where(shapes: tuple[tuple[int, ...], tuple[int, ...]], scalar: bool, constant: bool) -> None:
    condition, x = _numbers(np.float32, *shapes[0]) > 0, _numbers(np.float32, *shapes[1])
    y = np.array(-1e9, np.float32) if scalar else _numbers(np.float32, *shapes[0], seed=2)
    inputs = {"x": x, **({} if constant else {"c": condition}), **({} if scalar else {"z": y})}
    constants = {**({"c": condition} if constant else {}), **({"z": y} if scalar else {})}
    check_lowering(one_node("Where", inputs, constants, order=["c", "x", "z"]), inputs)


@pytest.mark.parametrize(
    ("low", "high", "codes"),
    [
        (0.0, None, ["RELU"]),
        (0.0, 6.0, ["RELU6"]),
        (-1.0, 1.0, ["RELU_N1_TO_1"]),
        (0.0, 1.0, ["RELU", "MINIMUM"]),
        (None, 0.5, ["MINIMUM"]),
        (-0.5, 0.25, ["MAXIMUM", "MINIMUM"]),
    ],
)
def test_clip_takes_the_operators_of_relu(low: float | None, high: float | None, codes: list[str]) -> None:
    inputs = {"x": _numbers(np.float32, 2, 3, 4, 5) * 4}
    bounds = {k: np.float32(v) for k, v in (("low", low), ("high", high)) if v is not None}
    order = ["x", "low" if low is not None else "", "high" if high is not None else ""]
    graph = check_lowering(one_node("Clip", inputs, bounds, order=order), inputs)
    assert [op.code for op in graph.ops] == codes


def test_clip_of_integers() -> None:
    inputs = {"x": np.array([-5, 1, 9], np.int32)}
    check_lowering(one_node("Clip", inputs, {"low": np.int32(0), "high": np.int32(6)}), inputs)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1,), (5,), (1, 3, 1, 1), (3, 4, 5)])
@pytest.mark.parametrize("constant", [True, False])
def test_prelu_slopes(shape: tuple[int, ...], constant: bool) -> None:
    x, slope = {"x": _numbers(np.float32, 2, 3, 4, 5)}, {"slope": _numbers(np.float32, *shape, seed=1)}
    inputs = x if constant else x | slope
    check_lowering(one_node("PRelu", inputs, slope if constant else {}), inputs)


@pytest.mark.parametrize("source", [np.float32, np.float16, np.int32, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("target", [1, 2, 3, 6, 7, 9, 10, 11, 12])
def test_cast(source: Any, target: int) -> None:
    inputs = {"x": np.abs(_numbers(np.float32, 4, 9) * 20).astype(source)}
    check_lowering(one_node("Cast", inputs, to=target), inputs)


def test_half_precision_functions_are_computed_in_single() -> None:
    inputs = {"x": _numbers(np.float32, 4, 9).astype(np.float16)}
    check_lowering(one_node("Exp", inputs), inputs, tolerance=1e-3)
