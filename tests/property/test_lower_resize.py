"""Resize in every mode equals onnxruntime's, and is TFLite's own operator where that computes the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.helpers import check_lowering, normal, one_node

COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
SCALES = st.sampled_from([0.5, 0.625, 1.0, 1.25, 2.0, 2.625, 3.0])


def resized(x: np.ndarray, scales: list[float], by_size: bool, **attributes: object):  # type: ignore[no-untyped-def]
    full = np.array([1.0] * (x.ndim - len(scales)) + scales, np.float32)
    if attributes.get("coordinate_transformation_mode") == "align_corners" and not by_size:
        assume(np.all(np.array(x.shape) * full % 1 == 0))  # else runtimes and the standard disagree
    if by_size:
        sizes = np.floor(np.array(x.shape) * full).astype(np.int64)
        return one_node("Resize", {"x": x}, {"n": sizes}, order=["x", "", "", "n"], **attributes)
    return one_node("Resize", {"x": x}, {"s": full}, order=["x", "", "s"], **attributes)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(SCALES, min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from([*COORDINATES, "half_pixel_symmetric"]),
    st.sampled_from(ROUNDINGS),
)
def test_nearest(scales: list[float], by_size: bool, coordinates: str, rounding: str) -> None:
    x = normal(np.random.default_rng(0), 2, 3, *(5, 6, 4)[: len(scales)])
    if coordinates == "half_pixel_symmetric":
        # A size that is cut off shifts the grid by a fraction that can land on a whole number: which
        # neighbour is nearest is then the order of float32 operations, that the standard leaves open.
        assume(all(n * scale % 1 == 0 for n, scale in zip(x.shape[2:], scales, strict=True)))
    model = resized(
        x, scales, by_size, mode="nearest", coordinate_transformation_mode=coordinates, nearest_mode=rounding
    )
    check_lowering(model, {"x": x})


@settings(max_examples=60, deadline=None)
@given(st.lists(SCALES, min_size=1, max_size=3), st.booleans(), st.sampled_from(COORDINATES))
def test_linear(scales: list[float], by_size: bool, coordinates: str) -> None:
    x = normal(np.random.default_rng(0), 2, 3, *(5, 6, 4)[: len(scales)])
    model = resized(x, scales, by_size, mode="linear", coordinate_transformation_mode=coordinates)
    check_lowering(model, {"x": x})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(SCALES, min_size=2, max_size=2),
    st.sampled_from(COORDINATES),
    st.sampled_from([-0.75, -0.5]),
    st.booleans(),
)
def test_cubic(scales: list[float], coordinates: str, a: float, exclude: bool) -> None:
    x = normal(np.random.default_rng(0), 2, 3, 5, 6)
    attributes = {
        "coordinate_transformation_mode": coordinates,
        "cubic_coeff_a": a,
        "exclude_outside": int(exclude),
    }
    check_lowering(resized(x, scales, False, mode="cubic", **attributes), {"x": x})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(SCALES, min_size=2, max_size=2),
    st.sampled_from(["linear", "cubic"]),
    st.booleans(),
    st.booleans(),
)
def test_antialias(scales: list[float], mode: str, by_size: bool, exclude: bool) -> None:
    x = normal(np.random.default_rng(0), 2, 3, 11, 12)
    check_lowering(
        resized(x, scales, by_size, mode=mode, antialias=1, exclude_outside=int(exclude)), {"x": x}
    )


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["nearest", "linear"]),
    st.lists(st.sampled_from([(-0.3, 0.7), (0.0, 1.0), (0.2, 1.2), (0.2, 0.7)]), min_size=2, max_size=2),
    st.sampled_from([0.0, 2.5]),
)
def test_crop_and_resize(mode: str, roi: list[tuple[float, float]], value: float) -> None:
    starts, ends = zip(*roi)
    x = normal(np.random.default_rng(0), 2, 3, 5, 6)
    constants = {
        "roi": np.array([0, 0, *starts, 1, 1, *ends], np.float32),
        "sizes": np.array([2, 3, 7, 4], np.int64),
    }
    model = one_node(
        "Resize",
        {"x": x},
        constants,
        order=["x", "roi", "", "sizes"],
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=value,
    )
    check_lowering(model, {"x": x})


@pytest.mark.parametrize(
    ("mode", "coordinates", "rounding", "options", "version"),
    [
        ("nearest", "asymmetric", "floor", (False, False), 1),
        ("nearest", "half_pixel", "round_prefer_floor", (False, False), 1),
        ("linear", "half_pixel", "round_prefer_floor", (False, True), 3),
        ("linear", "pytorch_half_pixel", "round_prefer_floor", (False, True), 3),
        ("linear", "align_corners", "round_prefer_floor", (True, False), 1),
        ("linear", "asymmetric", "round_prefer_floor", (False, False), 1),
    ],
)
def test_common_resizes_are_one_operator(
    mode: str, coordinates: str, rounding: str, options: tuple[bool, bool], version: int
) -> None:
    x = normal(np.random.default_rng(0), 1, 3, 5, 6)
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    graph = check_lowering(resized(x, [2.0, 2.0], False, mode=mode, **attributes), {"x": x})
    assert [op.code.split("_")[0] for op in graph.ops] == ["TRANSPOSE", "RESIZE", "TRANSPOSE"]
    assert (graph.ops[1].options["align_corners"], graph.ops[1].options["half_pixel_centers"]) == options
    assert graph.ops[1].version == version


def test_channels_last_resize_needs_no_transpose() -> None:
    x = normal(np.random.default_rng(0), 1, 5, 6, 3)
    scales = {"s": np.array([1, 2, 2, 1], np.float32)}
    graph = check_lowering(
        one_node("Resize", {"x": x}, scales, order=["x", "", "s"], mode="linear"), {"x": x}
    )
    assert [op.code for op in graph.ops] == ["RESIZE_BILINEAR"]
