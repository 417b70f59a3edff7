"""Every operator whose meaning changed between opsets computes the same after the upgrade."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from convkit.diagnostics import ConvkitError
from tests.unit.normal_form import assert_same, make_model, normal, ops

RANDOM = np.random.default_rng(7)
X = RANDOM.standard_normal((2, 4, 3, 5)).astype(np.float32)


def node(op: str, *inputs: str, outputs: tuple[str, ...] = ("y",), **attributes: object):
    return helper.make_node(op, list(inputs or ("x",)), list(outputs), **attributes)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3, -1])
@pytest.mark.parametrize("opset", [9, 12, 13])
def test_softmax_family(op: str, axis: int | None, opset: int) -> None:
    attributes = {} if axis is None else {"axis": axis}
    assert_same([node(op, **attributes)], {"x": X}, opset=opset, exact=False)


def test_flattening_softmax_needs_no_reshape_when_the_rest_is_one_wide() -> None:
    assert ops(assert_same([node("Softmax", axis=1)], {"x": X[:, :, :1, :1]}, opset=9)) == ["Softmax"]


@pytest.mark.parametrize("kind", ["L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"])
@pytest.mark.parametrize("attributes", [{}, {"axes": [1, -1]}, {"axes": [2], "keepdims": 0}])
@pytest.mark.parametrize("opset", [7, 11, 12])
def test_reductions(kind: str, attributes: dict[str, object], opset: int) -> None:
    if opset < 11 and "axes" in attributes:
        attributes = {**attributes, "axes": [a % 4 for a in attributes["axes"]]}
    assert_same([node(f"Reduce{kind}", **attributes)], {"x": X}, opset=opset, exact=False)


@pytest.mark.parametrize(
    ("op", "attributes", "opset"),
    [
        ("Clip", {"min": -0.5, "max": 0.5}, 7),
        ("Clip", {"max": 0.0}, 10),
        ("Slice", {"starts": [0, -2], "ends": [1, 99], "axes": [1, 3]}, 9),
        ("Slice", {"starts": [0, 1], "ends": [1, 3]}, 7),
        ("Pad", {"pads": [0, 1, 0, 2, 0, 0, 1, 0], "value": 2.5}, 10),
        ("Pad", {"pads": [0, 0, 1, 2, 0, 0, 1, 1], "mode": "reflect"}, 7),
        ("Pad", {"pads": [0, 0, -1, 2, 0, 0, 0, -1]}, 10),
        ("Unsqueeze", {"axes": [0, 3]}, 11),
        ("Flatten", {"axis": 2}, 9),
        ("Flatten", {"axis": -1}, 11),
        ("Dropout", {"ratio": 0.3}, 7),
        ("Dropout", {}, 12),
        ("ArgMax", {"axis": 1}, 7),
        ("ArgMax", {"axis": -1, "keepdims": 0, "select_last_index": 1}, 12),
        ("Transpose", {}, 12),
        ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}, 7),
        ("MaxPool", {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}, 10),
        ("AveragePool", {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]}, 7),
        ("AveragePool", {"kernel_shape": [2, 2], "auto_pad": "VALID"}, 11),
        ("LpPool", {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}, 11),
        ("DepthToSpace", {"blocksize": 2}, 7),
        ("LRN", {"size": 3}, 9),
    ],
)
def test_attributes_that_moved(op: str, attributes: dict[str, object], opset: int) -> None:
    exact = op != "AveragePool"  # the runtime sums in another order since opset 19
    assert_same([node(op, **attributes)], {"x": X}, opset=opset, exact=exact)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 21])
def test_split(opset: int) -> None:
    halves = ("a", "b")
    parts = [node("Split", outputs=halves, axis=1, **({"num_outputs": 2} if opset >= 18 else {}))]
    form = assert_same([*parts, node("Mul", "a", "b")], {"x": X}, opset=opset)
    assert [c.tolist() for c in (v.const_value.numpy() for v in form.graph[0].inputs[1:])] == [[2, 2]]
    if opset < 13:
        uneven = [node("Split", outputs=halves, axis=1, split=[1, 3])]
        assert_same([*uneven, node("Mul", "a", "b")], {"x": X}, opset=opset)


@pytest.mark.parametrize("opset", [7, 10, 11])
def test_top_k(opset: int) -> None:
    if opset < 10:
        assert_same([node("TopK", outputs=("y", "i"), k=3)], {"x": X}, opset=opset, outputs=("y", "i"))
    else:
        k = {"k": np.array([3], np.int64)}
        assert_same([node("TopK", "x", "k", outputs=("y", "i"))], {"x": X}, constants=k, opset=opset)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str) -> None:
    scales = [1.0, 1.0, 2.0, 3.0]
    form = assert_same([node("Upsample", mode=mode, scales=scales)], {"x": X}, opset=7, exact=False)
    assert ops(form) == ["Resize"]
    constants = {"s": np.array(scales, np.float32)}
    assert_same([node("Upsample", "x", "s", mode=mode)], {"x": X}, constants=constants, opset=9, exact=False)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [[1, 1, 2, 2], [1, 1, 0.5, 0.6], [1, 1, 1.7, 2.3]])
def test_resize_of_opset_10(mode: str, scales: list[float]) -> None:
    constants = {"s": np.array(scales, np.float32)}
    big = RANDOM.standard_normal((1, 2, 6, 10)).astype(np.float32)
    assert_same([node("Resize", "x", "s", mode=mode)], {"x": big}, constants=constants, opset=10, exact=False)


def test_resize_of_opset_10_that_shrinks_and_grows_is_refused() -> None:
    constants = {"s": np.array([1, 1, 2, 0.5], np.float32)}
    with pytest.raises(ConvkitError, match="rounding is not defined"):
        normal(make_model([node("Resize", "x", "s")], {"x": X}, constants, 10))


@pytest.mark.parametrize("mode", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("opset", [11, 13, 18, 21])
def test_resize(mode: str, opset: int) -> None:
    empty = np.empty(0, np.float32)
    constants = {"r": empty, "s": empty, "z": np.array([2, 4, 7, 9], np.int64)}
    for how in ("nearest", "linear", "cubic"):
        resize = node("Resize", "x", "r", "s", "z", mode=how, coordinate_transformation_mode=mode)
        assert_same([resize], {"x": X}, constants=constants, opset=opset, exact=False)


def test_batch_normalization_of_opset_7() -> None:
    names = ("s", "b", "m", "v")
    constants = {n: np.abs(RANDOM.standard_normal(4)).astype(np.float32) for n in names}
    assert_same(
        [node("BatchNormalization", "x", *names)], {"x": X}, constants=constants, opset=7, exact=False
    )


def test_scatter_becomes_scatter_elements() -> None:
    constants = {"i": np.array([[[[2, 0]]]], np.int64), "u": np.ones((1, 1, 1, 2), np.float32)}
    form = assert_same([node("Scatter", "x", "i", "u", axis=3)], {"x": X}, constants=constants, opset=9)
    assert ops(form) == ["ScatterElements"]


@pytest.mark.parametrize(
    ("old", "new"), [("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")]
)
def test_grid_sample_modes(old: str, new: str) -> None:
    grid = {"g": RANDOM.uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32)}
    form = assert_same(
        [node("GridSample", "x", "g", mode=old)], {"x": X}, constants=grid, opset=16, exact=False
    )
    assert form.graph[0].attributes["mode"].value == new


@pytest.mark.parametrize("axis", [1, 2])
def test_dft_axis_became_an_input(axis: int) -> None:
    signal = RANDOM.standard_normal((1, 6, 8, 1)).astype(np.float32)
    assert_same([node("DFT", axis=axis)], {"x": signal}, opset=17, exact=False)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("opset", [7, 14])
def test_recurrent_layers(kind: str, opset: int) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    sequence = RANDOM.standard_normal((3, 2, 5)).astype(np.float32)
    constants = {
        "w": RANDOM.standard_normal((1, gates * 4, 5)).astype(np.float32),
        "r": RANDOM.standard_normal((1, gates * 4, 4)).astype(np.float32),
    }
    layer = helper.make_node(kind, ["x", "w", "r", "", ""], ["y"], hidden_size=4)
    assert_same([layer], {"x": sequence}, constants=constants, opset=opset, exact=False)


def test_newer_operator_with_defaults_comes_down() -> None:
    form = normal(make_model([node("DepthToSpace", blocksize=2)], {"x": X}, opset=28))
    assert ops(form) == ["DepthToSpace"]
    form = normal(make_model([node("SpaceToDepth", blocksize=1, mode="DCR")], {"x": X}, opset=28))
    assert "mode" not in form.graph[0].attributes


def test_newer_attribute_is_spelled_out_by_the_standard() -> None:
    x = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)
    form = normal(make_model([node("SpaceToDepth", blocksize=2, mode="CRD")], {"x": x}, opset=28))
    assert form.opset_imports[""] == 24
    assert set(ops(form)) == {"Reshape", "Transpose"}


def test_newer_operator_is_spelled_out_by_the_standard() -> None:
    form = normal(make_model([node("SwiGLU", "a", "c")], {"a": X, "c": X}, opset=28))
    assert form.opset_imports[""] == 24
    assert "SwiGLU" not in ops(form)


def test_newer_operator_without_a_definition_raises_the_opset() -> None:
    form = normal(make_model([node("BitCast", to=6)], {"x": X}, opset=28))
    assert ops(form) == ["BitCast"]
    assert form.opset_imports[""] == 26


@pytest.mark.parametrize(("rank", "axis"), [(1, 1), (2, 0), (2, 2), (1, 3)])
def test_old_broadcasting_names_its_axis(rank: int, axis: int) -> None:
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    y = np.ones(x.shape[axis : axis + rank], np.float32)
    form = normal(make_model([node("Add", "x", "b", axis=axis, broadcast=1)], {"x": x, "b": y}, opset=6))
    assert "axis" not in form.graph[-1].attributes
    aligned = form.graph[-1].inputs[1]
    assert aligned is not None
    assert list(aligned.shape or ()) == [*y.shape, *[1] * (4 - axis - rank)]
