"""Conv and ConvTranspose of every shape equal onnxruntime's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.diagnostics import ConvkitError
from tests.helpers import check_lowering, normal, one_node


@st.composite
def windows(draw: st.DrawFn, dims: int, dilations: int = 2) -> dict[str, list[int]]:
    def pick(low: int, high: int, count: int = dims) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel = pick(1, 4)
    pads = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    return {
        "kernel_shape": kernel,
        "strides": pick(1, 3),
        "dilations": pick(1, dilations),
        "pads": pads,
        "size": pick(7, 9),
    }


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 2, 3]), st.sampled_from([1, 2, 3]), st.booleans())
def test_conv(data: st.DataObject, dims: int, group: int, bias: bool) -> None:
    window = data.draw(windows(dims))
    size = window.pop("size")
    per_group = data.draw(st.integers(1, 2))
    multiplier = data.draw(st.integers(1, 3))
    rng = np.random.default_rng(0)
    x = normal(rng, 2, group * per_group, *size)
    constants = {"w": normal(rng, group * multiplier, per_group, *window["kernel_shape"])}
    if bias:
        constants["b"] = normal(rng, group * multiplier)
    inputs = {"x": x}
    if data.draw(st.booleans(), label="computed filter"):
        inputs, constants = {**inputs, **constants}, {}
    check_lowering(one_node("Conv", inputs, constants, group=group, **window), inputs)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 2, 3]), st.sampled_from([1, 2, 3]), st.booleans())
def test_conv_transpose(data: st.DataObject, dims: int, group: int, bias: bool) -> None:
    window = data.draw(windows(dims))
    size = [n - 4 for n in window.pop("size")]
    room = [s - 1 for s in window["strides"]]
    output_padding = [data.draw(st.integers(0, r)) for r in room]
    per_group = data.draw(st.integers(1, 2))
    rng = np.random.default_rng(0)
    x = normal(rng, 2, group * per_group, *size)
    constants = {"w": normal(rng, group * per_group, 2, *window["kernel_shape"])}
    if bias:
        constants["b"] = normal(rng, group * 2)
    inputs = {"x": x}
    if data.draw(st.booleans(), label="computed filter"):
        inputs, constants = {**inputs, **constants}, {}
    model = one_node("ConvTranspose", inputs, constants, group=group, output_padding=output_padding, **window)
    check_lowering(model, inputs)


@pytest.mark.parametrize(("kernel", "pads", "code"), [(4, 1, "SAME"), (2, 0, "VALID"), (3, 1, "VALID")])
def test_common_transposed_convolutions_are_one_operator(kernel: int, pads: int, code: str) -> None:
    rng = np.random.default_rng(0)
    x, w = normal(rng, 1, 3, 5, 6), normal(rng, 3, 2, kernel, kernel)
    model = one_node(
        "ConvTranspose", {"x": x}, {"w": w}, kernel_shape=[kernel] * 2, strides=[2, 2], pads=[pads] * 4
    )
    graph = check_lowering(model, {"x": x})
    (op,) = (op for op in graph.ops if op.code == "TRANSPOSE_CONV")
    assert op.options["padding"] == code
    assert any(op.code == "SLICE" for op in graph.ops) == (kernel == 3)


@pytest.mark.parametrize(
    ("channels", "outputs", "group", "dense"), [(16, 16, 4, False), (6, 9, 3, True), (8, 12, 2, True)]
)
def test_groups_fill_slices_of_four_channels_or_become_dense(
    channels: int, outputs: int, group: int, dense: bool
) -> None:
    rng = np.random.default_rng(0)
    x, w = normal(rng, 1, channels, 5, 6), normal(rng, outputs, channels // group, 3, 3)
    graph = check_lowering(one_node("Conv", {"x": x}, {"w": w}, kernel_shape=[3, 3], group=group), {"x": x})
    assert graph.ops[1].code == "CONV_2D"
    assert graph.ops[1].inputs[1].shape[3] == (channels if dense else channels // group)


@pytest.mark.parametrize(("kernel", "stride", "same"), [(6, 2, True), (5, 2, False), (6, 4, False)])
def test_transposed_same_padding_is_one_that_delegates_agree_on(kernel: int, stride: int, same: bool) -> None:
    rng = np.random.default_rng(0)
    x, w = normal(rng, 1, 3, 5, 5), normal(rng, 3, 2, kernel, kernel)
    begin = (kernel - stride) // 2
    pads = [begin] * 2 + [kernel - stride - begin] * 2
    model = one_node(
        "ConvTranspose", {"x": x}, {"w": w}, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads
    )
    graph = check_lowering(model, {"x": x})
    assert any(op.options.get("padding") == "SAME" for op in graph.ops) == same


def test_conv_with_a_computed_filter() -> None:
    rng = np.random.default_rng(0)
    inputs = {"x": normal(rng, 1, 3, 8, 8), "w": normal(rng, 4, 3, 3, 3)}
    check_lowering(one_node("Conv", inputs, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), inputs)


def test_same_padding_needs_no_pad_operator() -> None:
    rng = np.random.default_rng(0)
    x, w = normal(rng, 1, 3, 8, 9), normal(rng, 4, 3, 3, 3)
    model = one_node("Conv", {"x": x}, {"w": w}, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = check_lowering(model, {"x": x})
    assert [op.code for op in graph.ops] == ["TRANSPOSE", "CONV_2D", "TRANSPOSE"]
    assert graph.ops[1].options["padding"] == "SAME"


def test_float64_is_refused() -> None:
    x, w = np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 1, 1))
    model = one_node("Conv", {"x": x}, {"w": w}, kernel_shape=[1, 1])
    with pytest.raises(
        ConvkitError, match=r"Conv cannot be lowered to TFLite: .* float32 only, 'x' is float64"
    ):
        check_lowering(model, {"x": x})
