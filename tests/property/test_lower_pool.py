"""Poolings of every shape equal onnxruntime's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from convkit.diagnostics import ConvkitError
from tests.helpers import check_lowering, model_of, normal, one_node
from tests.property.test_lower_conv import windows


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 2, 3]), st.booleans())
def test_max_pool(data: st.DataObject, dims: int, ceil: bool) -> None:
    window = data.draw(windows(dims))
    x = normal(np.random.default_rng(0), 2, 3, *window.pop("size"))
    check_lowering(one_node("MaxPool", {"x": x}, ceil_mode=int(ceil), **window), {"x": x})


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 2, 3]), st.booleans(), st.booleans())
def test_average_pool(data: st.DataObject, dims: int, ceil: bool, padded: bool) -> None:
    window = data.draw(windows(dims))
    x = normal(np.random.default_rng(0), 2, 3, *window.pop("size"))
    model = one_node("AveragePool", {"x": x}, ceil_mode=int(ceil), count_include_pad=int(padded), **window)
    check_lowering(model, {"x": x})


@settings(max_examples=20, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3]))
def test_lp_pool(data: st.DataObject, dims: int, p: int) -> None:
    window = data.draw(windows(dims, dilations=1))
    x = normal(np.random.default_rng(0), 2, 3, *window.pop("size"))
    check_lowering(one_node("LpPool", {"x": x}, p=p, **window), {"x": x})


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pool(op_type: str, dims: int) -> None:
    x = normal(np.random.default_rng(0), 2, 3, *(4, 5, 6)[:dims])
    check_lowering(one_node(op_type, {"x": x}, opset=20), {"x": x})


def test_no_pad_stands_before_an_average_pool() -> None:
    """The GPU delegate would merge the two and divide by fewer elements."""
    x = normal(np.random.default_rng(0), 1, 2, 7, 7)
    model = one_node("AveragePool", {"x": x}, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    assert "AVERAGE_POOL_2D" not in {op.code for op in check_lowering(model, {"x": x}).ops}
    nodes = [
        helper.make_node("Pad", ["x", "p"], ["padded"]),
        helper.make_node("AveragePool", ["padded"], ["y"], kernel_shape=[3, 3]),
    ]
    model = model_of(nodes, {"x": x}, {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, ["y"])
    assert "AVERAGE_POOL_2D" not in {op.code for op in check_lowering(model, {"x": x}).ops}


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 3]), st.sampled_from([np.float32, np.uint8, np.int8]))
def test_max_pool_of_integers(data: st.DataObject, dims: int, dtype: type) -> None:
    window = data.draw(windows(dims))
    size = window.pop("size")
    x = (normal(np.random.default_rng(0), 2, 2, *size) * 20 + 60).astype(dtype)
    check_lowering(one_node("MaxPool", {"x": x}, **window), {"x": x}, tolerance=0)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 3]), st.integers(0, 1))
def test_indices_of_the_maxima(data: st.DataObject, dims: int, by_column: int) -> None:
    window = data.draw(windows(dims))
    x = normal(np.random.default_rng(0), 2, 3, *window.pop("size"))
    order = {"storage_order": by_column} if dims == 2 else {}
    model = one_node("MaxPool", {"x": x}, outputs=("y", "i"), **window, **order)
    check_lowering(model, {"x": x}, tolerance=0)


def test_indices_of_large_windows_are_refused() -> None:
    x = normal(np.random.default_rng(0), 1, 2, 16, 16)
    model = one_node("MaxPool", {"x": x}, outputs=("y", "i"), kernel_shape=[9, 9])
    with pytest.raises(ConvkitError, match="indices of the maxima"):
        check_lowering(model, {"x": x})


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_maxima_are_put_back(dims: int) -> None:
    x = normal(np.random.default_rng(0), 2, 3, *(4, 6, 2)[:dims])
    nodes = [
        helper.make_node("MaxPool", ["x"], ["m", "i"], kernel_shape=[2] * dims, strides=[2] * dims),
        helper.make_node("MaxUnpool", ["m", "i"], ["y"], kernel_shape=[2] * dims, strides=[2] * dims),
    ]
    check_lowering(model_of(nodes, {"x": x}, {}, ["y"]), {"x": x}, tolerance=0)
