"""Patterns equal onnxruntime's; element types that a kernel lacks are computed in wider ones or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convkit.diagnostics import ConvkitError
from tests.helpers import check_lowering, normal, one_node


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_one_hot_counts_negative_indices_from_the_end(axis: int, dtype: Any) -> None:
    inputs = {"i": np.array([[0, -1, 4], [2, -7, 9]], np.int64)}
    constants = {"depth": np.array(5, np.int64), "values": np.array([2, 3], dtype)}
    check_lowering(one_node("OneHot", inputs, constants, axis=axis), inputs)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [-1, 0, 2])
def test_triangles(upper: int, k: int) -> None:
    inputs = {"x": normal(np.random.default_rng(0), 2, 4, 5)}
    inputs["x"][0] = np.inf
    check_lowering(one_node("Trilu", inputs, {"k": np.array(k, np.int64)}, upper=upper), inputs)


def test_eye() -> None:
    inputs = {"x": normal(np.random.default_rng(0), 3, 4)}
    check_lowering(one_node("EyeLike", inputs, k=1), inputs)


@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0)])
def test_reversed_sequences(time: int, batch: int) -> None:
    inputs = {"x": normal(np.random.default_rng(0), 4, 4, 3), "n": np.array([1, 4, 2, 3], np.int64)}
    check_lowering(one_node("ReverseSequence", inputs, time_axis=time, batch_axis=batch), inputs)


@pytest.mark.parametrize("op_type", ["Softplus", "ReduceSum", "Sqrt", "Where"])
def test_half_precision_is_computed_in_single_where_the_kernel_lacks_it(op_type: str) -> None:
    inputs = {"x": np.abs(normal(np.random.default_rng(0), 3, 4)).astype(np.float16)}
    if op_type == "Where":
        inputs = {"c": inputs["x"] > 1, "x": inputs["x"], "z": -inputs["x"]}
    check_lowering(one_node(op_type, inputs), inputs, tolerance=1e-3)


@pytest.mark.parametrize(("op_type", "dtype"), [("Div", np.uint64), ("Exp", np.float64), ("Add", np.float64)])
def test_an_element_type_without_a_kernel_is_refused(op_type: str, dtype: Any) -> None:
    x = np.array([1, 2], dtype)
    inputs = {"x": x} if op_type == "Exp" else {"x": x, "z": x}
    with pytest.raises(ConvkitError, match=f"does not take {np.dtype(dtype)}"):
        check_lowering(one_node(op_type, inputs), inputs)
