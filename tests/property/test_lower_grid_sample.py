"""GridSample, RoiAlign and DeformConv equal onnxruntime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.diagnostics import ConvkitError
from tests.helpers import check_lowering, normal, one_node


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["linear", "nearest", "cubic"]),
    st.sampled_from(["zeros", "border", "reflection"]),
    st.integers(0, 1),
    st.integers(1, 2),
    st.lists(st.integers(1, 6), min_size=2, max_size=3),
    st.integers(0, 99),
)
def test_grid_sample(mode: str, padding: str, aligned: int, batch: int, size: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = size[:2] if mode == "cubic" else size
    shape = (batch, *range(2, 2 + len(size)), len(size))
    inputs = {"x": normal(rng, batch, 3, *size), "g": (rng.random(shape) * 4 - 2).astype(np.float32)}
    model = one_node("GridSample", inputs, mode=mode, padding_mode=padding, align_corners=aligned)
    check_lowering(model, inputs, tolerance=1e-4)


_REGIONS = np.array([[0, 0, 4, 3], [1.2, 0.7, 5.9, 6.1], [-3, 2, 2, 9], [4, 4, 3, 3]], np.float32)


@pytest.mark.parametrize("ratio", [1, 2, 3])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_roi_align(ratio: int, half: bool, scale: float) -> None:
    rng = np.random.default_rng(0)
    inputs = {"x": normal(rng, 2, 3, 6, 7), "rois": _REGIONS, "batch": np.array([0, 1, 1, 0], np.int64)}
    mode = "half_pixel" if half else "output_half_pixel"
    options: dict[str, Any] = {"output_height": 3, "output_width": 2, "spatial_scale": scale}
    model = one_node(
        "RoiAlign",
        inputs,
        opset=16,
        sampling_ratio=ratio,
        coordinate_transformation_mode=mode,
        **options,
    )
    check_lowering(model, inputs)


def test_a_number_of_samples_that_the_regions_decide_is_refused() -> None:
    inputs = {"x": np.zeros((1, 1, 6, 7), np.float32), "rois": _REGIONS, "batch": np.zeros(4, np.int64)}
    with pytest.raises(ConvkitError, match="sampling_ratio"):
        check_lowering(one_node("RoiAlign", inputs, opset=16), inputs)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2),
    st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]),
    st.lists(st.integers(1, 3), min_size=2, max_size=2),
    st.lists(st.integers(1, 2), min_size=4, max_size=4),
    st.lists(st.integers(0, 1), min_size=4, max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_deform_conv(
    batch: int,
    groups: tuple[int, int],
    kernel: list[int],
    steps: list[int],
    pads: list[int],
    masked: bool,
    constant: bool,
) -> None:
    rng = np.random.default_rng(0)
    group, offset_group = groups
    strides, dilations = steps[:2], steps[2:]
    size = (6, 7)
    out = [
        (n + pads[i] + pads[2 + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i, n in enumerate(size)
    ]
    taps = kernel[0] * kernel[1]
    inputs = {"x": normal(rng, batch, 4, *size), "o": normal(rng, batch, offset_group * taps * 2, *out) * 2}
    weights = {"w": normal(rng, 6, 4 // group, *kernel), "b": normal(rng, 6)}
    if masked:
        inputs["m"] = normal(rng, batch, offset_group * taps, *out)
    given_, constants = (inputs, weights) if constant else ({**inputs, **weights}, {})
    model = one_node(
        "DeformConv",
        given_,
        constants,
        order=["x", "w", "o", "b", *(["m"] if masked else [])],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=group,
        offset_group=offset_group,
    )
    check_lowering(model, given_)
