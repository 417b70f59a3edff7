"""Transforms, folded columns, running products and windows equal onnxruntime's, or numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from convkit.backend_onnx import TFLiteBackend
from tests.helpers import assert_close, check_lowering, model_of, normal, one_node


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=3),
    st.data(),
    st.sampled_from([(0, 0), (1, 0), (0, 1)]),
    st.sampled_from([None, 3, 8]),
)
def test_fourier_transforms(
    shape: list[int], data: st.DataObject, kind: tuple[int, int], length: int | None
) -> None:
    inverse, onesided = kind
    parts = 1 if onesided else data.draw(st.integers(1, 2))
    axis = data.draw(st.integers(0, len(shape) - 1))
    inputs = {"x": normal(np.random.default_rng(0), *shape, parts)}
    known = {"axis": np.array(axis, np.int64)}
    if length is not None:
        known["length"] = np.array(length, np.int64)
    order = ["x", "length" if length is not None else "", "axis"]
    model = one_node("DFT", inputs, known, order=order, opset=20, inverse=inverse, onesided=onesided)
    check_lowering(model, inputs)


@settings(max_examples=40, deadline=None)
@given(
    st.data(),
    st.lists(st.integers(1, 3), min_size=2, max_size=2),
    st.lists(st.integers(1, 2), min_size=4, max_size=4),
    st.lists(st.integers(0, 1), min_size=4, max_size=4),
)
def test_columns_are_folded(data: st.DataObject, block: list[int], steps: list[int], pads: list[int]) -> None:
    strides, dilations, image = steps[:2], steps[2:], [6, 7]
    blocks = [
        (n + pads[i] + pads[2 + i] - (block[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i, n in enumerate(image)
    ]
    channels = data.draw(st.integers(1, 3))
    inputs = {"x": normal(np.random.default_rng(0), 2, channels * block[0] * block[1], blocks[0] * blocks[1])}
    known = {"image": np.array(image, np.int64), "block": np.array(block, np.int64)}
    model = one_node("Col2Im", inputs, known, opset=18, strides=strides, dilations=dilations, pads=pads)
    check_lowering(model, inputs)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.data(), st.booleans(), st.booleans())
def test_running_products(shape: list[int], data: st.DataObject, exclusive: bool, reverse: bool) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    dtype = data.draw(st.sampled_from([np.float32, np.int32]))
    x = np.random.default_rng(0).integers(-3, 4, shape).astype(dtype)
    node = helper.make_node("CumProd", ["x", "axis"], ["y"], exclusive=int(exclusive), reverse=int(reverse))
    (found,) = TFLiteBackend.run_node(node, [x, np.array(axis, np.int64)], opset_version=26)
    turned = np.flip(x, axis) if reverse else x
    wanted = np.cumprod(turned, axis, dtype)
    if exclusive:
        wanted = np.roll(wanted, 1, axis)
        wanted[tuple(0 if i == axis % x.ndim else slice(None) for i in range(x.ndim))] = 1
    assert_close(found, np.flip(wanted, axis) if reverse else wanted)


@pytest.mark.parametrize("op_type", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows_are_constants(op_type: str, periodic: int) -> None:
    inputs = {"x": normal(np.random.default_rng(0), 3, 10)}
    window = helper.make_node(op_type, ["n"], ["w"], periodic=periodic)
    product = helper.make_node("Mul", ["x", "w"], ["y"])
    model = model_of([window, product], inputs, {"n": np.array(10, np.int64)}, ["y"], opset=17)
    graph = check_lowering(model, inputs)
    assert [op.code for op in graph.ops if op.code not in ("RESHAPE",)] == ["MUL"]
