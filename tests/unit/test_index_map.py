"""The algebra of views, against numpy."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convkit.passes.views.block_steps import MAX_RANK, permutation_steps
from convkit.passes.views.index_map import (
    View,
    counting,
    identity,
    make_view,
    merge_digits,
    pick,
    relative,
    split_digits,
    stack,
    take,
    transpose,
)
from convkit.passes.views.plan import Plan, plan_view

_SIZES = st.sampled_from([1, 2, 3, 4, 6, 8])


def carried_out(x: np.ndarray, plan: Plan) -> np.ndarray:
    """A plan done by numpy."""
    for step in plan:
        if step.op == "Reshape":
            x = x.reshape(step.shape)
        elif step.op == "Transpose":
            x = x.transpose(step.detail)
        elif step.op == "Gather":
            x = np.take(x, step.detail[1], axis=step.detail[0])
        elif step.op == "Slice":
            starts, steps = step.detail
            x = x[
                tuple(
                    slice(a, a + (n - 1) * p + 1, p)
                    for a, p, n in zip(starts, steps, step.shape, strict=True)
                )
            ]
        else:
            x = blocks(x, step.op, *step.detail)
        assert x.shape == step.shape
        assert x.ndim <= MAX_RANK
    return x


def blocks(x: np.ndarray, op: str, b: int, mode: str = "DCR") -> np.ndarray:
    n, c, h, w = x.shape
    if op == "SpaceToDepth":
        return (
            x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, -1, h // b, w // b)
        )
    if mode == "CRD":
        return x.reshape(n, -1, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, h * b, w * b)
    return x.reshape(n, b, b, -1, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, -1, h * b, w * b)


@st.composite
def chains(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, View]:
    """A value, what a random chain makes of it, and the view it should be."""
    x = np.arange(prod(shape := draw(st.lists(_SIZES, min_size=1, max_size=4)))).reshape(shape)
    y, view = x, identity(shape)
    for kind in draw(st.lists(st.sampled_from("trst"), min_size=1, max_size=6)):
        if kind == "t":
            perm = draw(st.permutations(range(y.ndim)))
            after, y = transpose(view, y.shape, perm), y.transpose(perm)
        elif kind == "r":
            a = draw(st.sampled_from([d for d in range(1, y.size + 1) if y.size % d == 0]))
            b = draw(st.sampled_from([d for d in range(1, y.size // a + 1) if y.size // a % d == 0]))
            after, y = view, y.reshape(a, b, -1)
        else:
            axis = draw(st.integers(0, y.ndim - 1))
            start = draw(st.integers(0, y.shape[axis] - 1))
            step = draw(st.sampled_from([1, 1, 2, 3]))
            count = draw(st.integers(1, (y.shape[axis] - 1 - start) // step + 1))
            after = take(view, y.shape, axis, start, count, step)
            y = np.take(y, start + step * np.arange(count), axis=axis)
        assume(after is not None)
        assert after is not None
        view = after
    return x, y, view


@settings(max_examples=100, deadline=None)
@given(chains())
def test_a_view_says_where_every_element_lies_and_its_plan_gets_it(
    chain: tuple[np.ndarray, np.ndarray, View],
) -> None:
    x, y, view = chain
    assert view.positions() == y.reshape(-1).tolist()
    target = y if y.ndim <= MAX_RANK else y.reshape(-1)
    plan = plan_view(x.shape, view, target.shape)
    if plan is not None:
        np.testing.assert_array_equal(carried_out(x, plan), target)
    else:
        assert view.size < x.size, "a view that keeps every element always has a plan"


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 9).flatmap(lambda n: st.permutations(range(n))))
def test_every_permutation_factors_into_steps_of_four_blocks(perm: list[int]) -> None:
    x = list(range(len(perm)))
    for blocks_ in permutation_steps(tuple(perm)):
        assert len(blocks_) <= MAX_RANK
        x = [x[i] for a, b in blocks_ for i in range(a, b)]
    assert x == list(perm)
    assert len(permutation_steps(tuple(perm))) <= (3 if len(perm) <= 6 else 5)


def test_digits_merge_and_split() -> None:
    assert merge_digits([(2, 12), (1, 7), (3, 4), (4, 1)]) == ((24, 1),)
    assert split_digits(((24, 1),), (2, 3, 4)) == [((2, 12),), ((3, 4),), ((4, 1),)]
    assert split_digits(((4, 1), (3, 4)), (3, 4)) is None


def test_window_partition_is_a_permutation_of_four_digits() -> None:
    shape = (8, 8, 5)
    split = transpose(identity(shape), (2, 4, 2, 4, 5), (0, 2, 1, 3, 4))
    assert split == make_view([(2, 160), (2, 20), (4, 40), (20, 1)])


def test_channel_shuffle_is_one_gather() -> None:
    view = transpose(identity((1, 12, 5, 5)), (1, 3, 4, 5, 5), (0, 2, 1, 3, 4))
    assert view is not None
    (step,) = plan_view((1, 12, 5, 5), view, (1, 12, 5, 5)) or ()
    assert step.op == "Gather"
    assert step.detail == (1, (0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11))


def test_pixel_shuffle_and_unshuffle_are_one_operator() -> None:
    for perm, mode in (((0, 1, 4, 2, 5, 3), "CRD"), ((0, 3, 4, 1, 5, 2), "DCR")):
        split = (2, 3, 2, 2, 5, 7) if mode == "CRD" else (2, 2, 2, 3, 5, 7)
        view = transpose(identity((2, 12, 5, 7)), split, perm)
        assert view is not None
        (step,) = plan_view((2, 12, 5, 7), view, (2, 3, 10, 14)) or ()
        assert (step.op, step.detail) == ("DepthToSpace", (2, mode))
    view = transpose(identity((2, 3, 10, 14)), (2, 3, 5, 2, 7, 2), (0, 1, 3, 5, 2, 4))
    assert view is not None
    plan = plan_view((2, 3, 10, 14), view, (2, 12, 5, 7)) or ()
    assert [s.op for s in plan] == ["SpaceToDepth", "Gather"], "torch counts channels first, ONNX last"


def test_stack_finds_the_digits_between_alike_views() -> None:
    views = [make_view([(4, 8), (2, 2)], offset) for offset in (0, 1, 100, 101)]
    assert stack(views) == (views[0], ((2, 100), (2, 1)))
    assert counting([0, 2, 4, 1, 3, 5]) == ((2, 1), (3, 2))
    assert counting([0, 2, 3]) is None
    assert counting([3, 2, 1]) is None


def test_pick_of_indices_that_count() -> None:
    assert pick(identity((6, 4)), (6, 4), 0, [0, 2, 4, 1, 3, 5]) == make_view([(2, 4), (3, 8), (4, 1)])
    assert pick(identity((6, 4)), (6, 4), 0, [0, 1, 3]) is None


def test_relative_view_of_another_order() -> None:
    whole = np.arange(24).reshape(2, 3, 4)
    a, b = (transpose(identity((2, 3, 4)), (2, 3, 4), p) for p in ((2, 0, 1), (1, 2, 0)))
    assert a is not None
    assert b is not None
    between = relative(b, a)
    assert between is not None
    flat = whole.transpose(2, 0, 1).reshape(-1)
    assert flat[between.positions()].tolist() == whole.transpose(1, 2, 0).reshape(-1).tolist()
    assert relative(make_view([(2, 1)]), make_view([(3, 1)])) is None
