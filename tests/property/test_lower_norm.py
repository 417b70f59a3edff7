"""Normalizations, softmaxes and channel-to-space shuffles equal onnxruntime's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import check_lowering, normal, one_node

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.data(), SHAPES, st.sampled_from(["Softmax", "LogSoftmax", "Hardmax"]))
def test_softmax(data: st.DataObject, shape: list[int], op_type: str) -> None:
    x = 20 * normal(np.random.default_rng(0), *shape)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check_lowering(one_node(op_type, {"x": x}, axis=axis), {"x": x})


@settings(max_examples=40, deadline=None)
@given(st.data(), SHAPES, st.booleans(), st.booleans())
def test_layer_normalization(data: st.DataObject, shape: list[int], bias: bool, moments: bool) -> None:
    rng = np.random.default_rng(0)
    x = normal(rng, *shape) + 1
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    constants = {"s": normal(rng, *shape[axis:])}
    if bias:
        constants["b"] = normal(rng, *shape[axis:])
    outputs = ["y", "mean", "inverse"] if moments else ["y"]
    check_lowering(
        one_node("LayerNormalization", {"x": x}, constants, outputs=outputs, axis=axis, epsilon=1e-2),
        {"x": x},
    )


@settings(max_examples=20, deadline=None)
@given(st.data(), SHAPES)
def test_rms_normalization(data: st.DataObject, shape: list[int]) -> None:
    rng = np.random.default_rng(0)
    x = normal(rng, *shape) + 1
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    model = one_node("RMSNormalization", {"x": x}, {"s": normal(rng, *shape[axis:])}, axis=axis, opset=23)
    check_lowering(model, {"x": x})


@pytest.mark.parametrize("space", [(7,), (5, 6), (3, 4, 5)])
@pytest.mark.parametrize("groups", [1, 2, 3, 6, None])
def test_group_normalization(space: tuple[int, ...], groups: int | None) -> None:
    rng = np.random.default_rng(0)
    x = normal(rng, 2, 6, *space) * 3 + 1
    constants = {"s": normal(rng, 6), "b": normal(rng, 6)}
    if groups is None:
        model = one_node("InstanceNormalization", {"x": x}, constants)
    else:
        model = one_node("GroupNormalization", {"x": x}, constants, num_groups=groups, opset=21)
    check_lowering(model, {"x": x})


@pytest.mark.parametrize("space", [(), (7,), (5, 6), (3, 4, 5)])
def test_batch_normalization(space: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = normal(rng, 2, 6, *space)
    constants = {name: normal(rng, 6) for name in "sbm"} | {"v": rng.random(6, np.float32) + 0.1}
    check_lowering(one_node("BatchNormalization", {"x": x}, constants), {"x": x})


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_lp_normalization(p: int, axis: int) -> None:
    x = normal(np.random.default_rng(0), 3, 4, 5)
    x[:, 0, :] = 0
    x[:, :, 0] = 0
    check_lowering(one_node("LpNormalization", {"x": x}, p=p, axis=axis), {"x": x})


@pytest.mark.parametrize("axes", [[0, 2, 3], [1], [2, 3]])
def test_mean_variance_normalization(axes: list[int]) -> None:
    x = normal(np.random.default_rng(0), 2, 3, 4, 5)
    check_lowering(one_node("MeanVarianceNormalization", {"x": x}, axes=axes), {"x": x})


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.sampled_from([1, 3, 5]), st.sampled_from([0.75, 0.5, 1.0]))
def test_lrn(channels: int, size: int, beta: float) -> None:
    x = 3 * normal(np.random.default_rng(0), 2, channels, 4, 5)
    check_lowering(one_node("LRN", {"x": x}, size=size, alpha=0.3, beta=beta, bias=1.5), {"x": x})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str, channels: int) -> None:
    x = normal(np.random.default_rng(0), 2, channels * 9, 3, 4)
    check_lowering(one_node("DepthToSpace", {"x": x}, blocksize=3, mode=mode), {"x": x})


def test_space_to_depth() -> None:
    x = normal(np.random.default_rng(0), 2, 3, 6, 8)
    check_lowering(one_node("SpaceToDepth", {"x": x}, blocksize=2), {"x": x})
