"""Operators that move, pick and repeat values equal onnxruntime's exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.dialects.tflite.lowering.movement import merged_permutation
from tests.helpers import check_lowering, normal, one_node

_TYPES = st.sampled_from([np.float32, np.float32, np.int32, np.int64, np.uint8, np.bool_, np.float16])


def _values(shape: tuple[int, ...] | list[int], dtype: Any = np.float32) -> np.ndarray:
    return (normal(np.random.default_rng(0), *shape) * 50).astype(np.int8).astype(dtype)


def _i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=2, max_size=6).flatmap(
        lambda shape: st.tuples(st.just(shape), st.permutations(range(len(shape))))
    ),
    _TYPES,
)
def test_transpose(case: tuple[list[int], list[int]], dtype: Any) -> None:
    shape, perm = case
    inputs = {"x": _values(shape, dtype)}
    check_lowering(one_node("Transpose", inputs, perm=perm), inputs, tolerance=0)


@pytest.mark.parametrize(
    ("shape", "perm", "merged"),
    [
        ((1, 3, 2, 2, 4, 4), (0, 1, 4, 2, 5, 3), ([3, 2, 2, 4, 4], [0, 3, 1, 4, 2])),
        ((2, 3, 4, 5, 2), (0, 3, 4, 1, 2), ([2, 12, 10], [0, 2, 1])),
        ((1, 2, 1, 3, 1), (4, 1, 0, 3, 2), ([6], [0])),
    ],
)
def test_dimensions_that_stay_together_merge(
    shape: tuple[int, ...], perm: tuple[int, ...], merged: tuple[list[int], list[int]]
) -> None:
    assert merged_permutation(shape, perm) == merged


@settings(max_examples=40, deadline=None)
@given(shapes, st.data(), _TYPES)
def test_concat_and_split(shape: list[int], data: st.DataObject, dtype: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=5))
    parts = {}
    for i, size in enumerate(sizes):
        part = list(shape)
        part[axis] = size
        parts[f"x{i}"] = _values(part, dtype)
    check_lowering(one_node("Concat", parts, axis=axis), parts, tolerance=0)
    whole = {"x": np.concatenate(list(parts.values()), axis)}
    names = [f"part{i}" for i in range(len(sizes))]
    model = one_node("Split", whole, {"sizes": _i64(*sizes)}, outputs=names, axis=axis)
    check_lowering(model, whole, tolerance=0)


@settings(max_examples=40, deadline=None)
@given(shapes, st.data(), _TYPES)
def test_tile_and_expand(shape: list[int], data: st.DataObject, dtype: Any) -> None:
    inputs = {"x": _values(shape, dtype)}
    counts = data.draw(st.lists(st.integers(1, 3), min_size=len(shape), max_size=len(shape)))
    check_lowering(one_node("Tile", inputs, {"counts": _i64(*counts)}), inputs, tolerance=0)
    lead = data.draw(st.lists(st.integers(1, 2), max_size=1))
    target = lead + [d if d > 1 else n for d, n in zip(shape, counts, strict=True)]
    check_lowering(one_node("Expand", inputs, {"shape": _i64(*target)}), inputs, tolerance=0)


def test_expand_keeps_infinities_and_nan() -> None:
    inputs = {"x": np.array([[np.inf], [np.nan], [-0.0]], np.float32)}
    check_lowering(one_node("Expand", inputs, {"shape": _i64(2, 3, 4)}), inputs, tolerance=0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(2, 4), min_size=1, max_size=4),
    st.data(),
    st.sampled_from(["constant", "reflect", "edge", "wrap"]),
    st.sampled_from([np.float32, np.int32, np.uint8]),
)
def test_pad(shape: list[int], data: st.DataObject, mode: str, dtype: Any) -> None:
    inputs = {"x": _values(shape, dtype)}
    pads = data.draw(st.lists(st.integers(-1, 2), min_size=2 * len(shape), max_size=2 * len(shape)))
    if mode != "constant":
        pads = [max(p, 0) if mode == "wrap" else min(p, 1) for p in pads]
    for axis, d in enumerate(shape):  # something must be left to pad from
        if d + min(pads[axis], 0) + min(pads[axis + len(shape)], 0) < 2:
            pads[axis] = pads[axis + len(shape)] = 0
    constants = {"pads": _i64(*pads)}
    if mode == "constant" and data.draw(st.booleans()):
        constants["value"] = np.array(7, dtype)
    check_lowering(one_node("Pad", inputs, constants, mode=mode), inputs, tolerance=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data(), _TYPES)
def test_slice(shape: list[int], data: st.DataObject, dtype: Any) -> None:
    inputs = {"x": _values(shape, dtype)}
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    starts, ends, steps = [], [], []
    for axis in axes:
        n = shape[axis]
        step = data.draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        first, last = sorted((data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))))
        starts.append(first if step > 0 else last)
        ends.append(last + 1 if step > 0 else (first - 1 if first else -n - 1))
        steps.append(step)
    constants = {"starts": _i64(*starts), "ends": _i64(*ends), "axes": _i64(*axes), "steps": _i64(*steps)}
    check_lowering(one_node("Slice", inputs, constants), inputs, tolerance=0)


@settings(max_examples=60, deadline=None)
@given(shapes, st.data(), st.booleans(), _TYPES)
def test_gather(shape: list[int], data: st.DataObject, constant: bool, dtype: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    where = data.draw(st.lists(st.integers(1, 3), max_size=2))
    count = int(np.prod(where))
    picks = data.draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count))
    x, indices = {"x": _values(shape, dtype)}, {"i": np.array(picks, np.int64).reshape(where)}
    inputs = x if constant else x | indices
    graph = check_lowering(
        one_node("Gather", inputs, indices if constant else {}, axis=axis), inputs, tolerance=0
    )
    assert all(op.inputs[1].rank == 1 for op in graph.ops if op.code == "GATHER")


@pytest.mark.parametrize(
    ("indices", "codes"),
    [
        (np.int64(1), ["SLICE", "RESHAPE"]),
        (_i64(0, 1), ["SLICE"]),
        (_i64(0, 2), ["GATHER"]),
        (_i64(3, 2, 1, 0), ["REVERSE_V2"]),
        (_i64(0, 3, 1), ["GATHER"]),
    ],
)
def test_gather_of_evenly_spaced_indices_is_a_slice(indices: np.ndarray, codes: list[str]) -> None:
    inputs = {"x": _values((2, 4, 3))}
    graph = check_lowering(one_node("Gather", inputs, {"i": indices}, axis=1), inputs, tolerance=0)
    assert [op.code for op in graph.ops] == codes


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data(), st.booleans())
def test_gather_elements(shape: list[int], data: st.DataObject, constant: bool) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    where = [data.draw(st.integers(1, d)) for d in shape]
    where[axis] = data.draw(st.integers(1, 5))
    n = shape[axis]
    x = {"x": _values(shape)}
    indices = {"i": np.random.default_rng(0).integers(-n, n, where)}
    inputs = x if constant else x | indices
    model = one_node("GatherElements", inputs, indices if constant else {}, axis=axis)
    check_lowering(model, inputs, tolerance=0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data(), st.booleans())
def test_gather_nd(shape: list[int], data: st.DataObject, constant: bool) -> None:
    batch = data.draw(st.integers(0, len(shape) - 1))
    depth = data.draw(st.integers(1, len(shape) - batch))
    where = [*shape[:batch], *data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)), depth]
    rng = np.random.default_rng(0)
    index = np.stack([rng.integers(-d, d, where[:-1]) for d in shape[batch : batch + depth]], -1)
    inputs = {"x": _values(shape)} | ({} if constant else {"i": index})
    model = one_node("GatherND", inputs, {"i": index} if constant else {}, batch_dims=batch)
    check_lowering(model, inputs, tolerance=0)


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scatter(reduction: str) -> None:
    inputs = {"x": _values((3, 4, 5)), "u": _values((2, 5))}
    index = {"i": np.array([[0, 1], [2, -1]], np.int64)}
    model = one_node("ScatterND", inputs, index, order=["x", "i", "u"], reduction=reduction)
    check_lowering(model, inputs, tolerance=0)
    inputs = {"x": _values((3, 4)), "u": _values((2, 2))}
    index = {"i": np.array([[0, -1], [2, 3]], np.int64)}
    model = one_node("ScatterElements", inputs, index, order=["x", "i", "u"], axis=1, reduction=reduction)
    check_lowering(model, inputs, tolerance=0)


def test_scatter_at_repeated_places_adds_or_writes_in_order() -> None:
    inputs = {"x": _values((3, 4)), "u": _values((2, 4))}
    index = {"i": np.array([[1], [1]], np.int64)}
    model = one_node("ScatterND", inputs, index, order=["x", "i", "u"], reduction="add")
    check_lowering(model, inputs, tolerance=0)
    model = one_node("ScatterND", inputs, index, order=["x", "i", "u"])
    check_lowering(model, inputs, tolerance=0)


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [1, 2, -2])
@pytest.mark.parametrize("started", [False, True])
def test_a_cache_is_written(mode: str, axis: int, started: bool) -> None:
    update = [2, 3, 5, 4]
    update[axis] = 2
    inputs = {"x": _values((2, 3, 5, 4)), "u": _values(tuple(update))}
    if started:
        inputs["at"] = np.array([1, 0 if mode == "linear" else 2], np.int64)
    model = one_node("TensorScatter", inputs, opset=24, mode=mode, axis=axis)
    check_lowering(model, inputs, tolerance=0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.data(),
    st.sampled_from(["none", "add", "mul", "max", "min"]),
    st.booleans(),
)
def test_scatter_at_computed_places(
    shape: list[int], data: st.DataObject, reduction: str, elements: bool
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    if elements:
        axis = data.draw(st.integers(0, len(shape) - 1))
        count = data.draw(st.integers(1, shape[axis]))
        # distinct where nothing is combined, as ONNX demands
        picked = (
            rng.permutation(shape[axis])[:count]
            if reduction == "none"
            else rng.integers(0, shape[axis], count)
        )
        spread = [count if i == axis else d for i, d in enumerate(shape)]
        index = np.broadcast_to(picked.reshape([-1 if i == axis else 1 for i in range(len(shape))]), spread)
        inputs = {"x": _values(tuple(shape)), "i": index - shape[axis], "u": _values(tuple(spread))}
        model = one_node("ScatterElements", inputs, axis=axis, reduction=reduction, opset=18)
    else:
        depth = data.draw(st.integers(1, len(shape)))
        places = np.stack(
            np.unravel_index(rng.permutation(int(np.prod(shape[:depth])))[:5], shape[:depth]), -1
        )
        inputs = {"x": _values(tuple(shape)), "i": places.astype(np.int64)}
        inputs["u"] = _values((len(places), *shape[depth:]))
        model = one_node("ScatterND", inputs, reduction=reduction, opset=18)
    check_lowering(model, inputs)
