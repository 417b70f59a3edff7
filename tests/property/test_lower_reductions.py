"""Reductions, extreme elements and running sums equal onnxruntime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import check_lowering, normal, one_node

_SIMPLE = ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd"]
_COMPOSED = ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.data(),
    st.sampled_from(_SIMPLE + _COMPOSED),
    st.integers(0, 1),
)
def test_reductions(shape: list[int], data: st.DataObject, op_type: str, keepdims: int) -> None:
    inputs = {"x": np.abs(normal(np.random.default_rng(0), *shape)) + np.float32(0.5)}
    axes = data.draw(st.none() | st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    constants = {} if axes is None else {"axes": np.array(axes, np.int64)}
    check_lowering(one_node(op_type, inputs, constants, keepdims=keepdims), inputs, tolerance=2e-6)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1"])
def test_integer_reductions(op_type: str, dtype: Any) -> None:
    inputs = {"x": np.arange(-4, 20).reshape(2, 3, 4).astype(dtype)}
    check_lowering(one_node(op_type, inputs, {"axes": np.array([1], np.int64)}), inputs)


def test_log_sum_exp_does_not_overflow() -> None:
    inputs = {"x": np.array([[500, 501, 499], [-500, -400, -300]], np.float32)}
    check_lowering(one_node("ReduceLogSumExp", inputs, {"axes": np.array([1], np.int64)}), inputs)


@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceSumSquare", "ReduceL2"])
def test_no_axes_may_mean_none(op_type: str) -> None:
    inputs = {"x": normal(np.random.default_rng(0), 2, 3)}
    model = one_node(op_type, inputs, {"axes": np.zeros(0, np.int64)}, noop_with_empty_axes=1)
    check_lowering(model, inputs)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.data(),
    st.sampled_from(["ArgMax", "ArgMin"]),
    st.integers(0, 1),
    st.integers(0, 1),
)
def test_extreme_indices(
    shape: list[int], data: st.DataObject, op_type: str, keepdims: int, last: int
) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    dtype = data.draw(st.sampled_from([np.float32, np.int32]))
    inputs = {"x": np.round(normal(np.random.default_rng(0), *shape)).astype(dtype)}
    model = one_node(op_type, inputs, axis=axis, keepdims=keepdims, select_last_index=last)
    check_lowering(model, inputs)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data(), st.integers(0, 1))
def test_top_k(shape: list[int], data: st.DataObject, largest: int) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    k = data.draw(st.integers(1, shape[axis]))
    inputs = {
        "x": np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(np.float32)
    }
    model = one_node(
        "TopK", inputs, {"k": np.array([k], np.int64)}, outputs=["v", "i"], axis=axis, largest=largest
    )
    check_lowering(model, inputs, tolerance=0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data(), st.integers(0, 1), st.integers(0, 1))
def test_cumulative_sums(shape: list[int], data: st.DataObject, exclusive: int, reverse: int) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    dtype = data.draw(st.sampled_from([np.float32, np.int32, np.int64]))
    inputs = {"x": np.round(normal(np.random.default_rng(0), *shape) * 9).astype(dtype)}
    model = one_node(
        "CumSum", inputs, {"axis": np.array(axis, np.int64)}, exclusive=exclusive, reverse=reverse
    )
    check_lowering(model, inputs)
