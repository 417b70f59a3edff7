"""View chains in graphs: fewer operators, no rank above 4, the same bits."""

from __future__ import annotations

import numpy as np

from convkit.rewrite import NoMatch, get_rewrite
from tests.unit.spelled import Spelling, family, highest_rank, model_of, operators, rewritten

VIEWS = tuple(family("CK-VIEW"))


def reshape(g: Spelling, x: str, *shape: int) -> str:
    return g.Reshape(x, g.c(list(shape)))


def test_pixel_shuffle_of_rank_six() -> None:
    def make(g: Spelling) -> str:
        x = reshape(g, "x", 1, 3, 2, 2, 5, 7)
        return g.Relu(reshape(g, g.Transpose(x, perm=[0, 1, 4, 2, 5, 3]), 1, 3, 10, 14))

    model = model_of(make, x=(1, 12, 5, 7))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"DepthToSpace": 1, "Relu": 1}


def test_channel_shuffle_of_rank_five() -> None:
    def make(g: Spelling) -> str:
        x = g.Transpose(reshape(g, "x", 2, 3, 4, 5, 6), perm=[0, 2, 1, 3, 4])
        return g.Relu(reshape(g, x, 2, 12, 5, 6))

    model = model_of(make, x=(2, 12, 5, 6))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Gather": 1, "Relu": 1}


def test_shuffle_then_take_halves_is_two_strided_slices() -> None:
    def make(g: Spelling) -> list[str]:
        x = g.Transpose(reshape(g, "x", 6, 2, 25), perm=[1, 0, 2])
        x = reshape(g, x, 2, 1, 6, 5, 5)
        return [g.Relu(g.Gather(x, g.c(0), axis=0)), g.Sigmoid(g.Gather(x, g.c(1), axis=0))]

    model = model_of(make, x=(1, 12, 5, 5))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Slice": 2, "Relu": 1, "Sigmoid": 1}
    assert highest_rank(model) == 4


def test_query_key_value_of_rank_five() -> None:
    def make(g: Spelling) -> str:
        x = g.Transpose(reshape(g, "x", 2, 9, 3, 4, 8), perm=[2, 0, 3, 1, 4])
        q, k, v = (g.Gather(x, g.c(i), axis=0) for i in range(3))
        scores = g.MatMul(q, g.Transpose(k, perm=[0, 1, 3, 2]))
        y = g.Transpose(g.MatMul(g.Softmax(scores), v), perm=[0, 2, 1, 3])
        return g.Relu(reshape(g, y, 2, 9, 32))

    model = model_of(make, x=(2, 9, 96))
    rewritten(model, *VIEWS)
    assert highest_rank(model) == 4
    assert operators(model) == {
        "Reshape": 2,
        "Transpose": 3,
        "Split": 1,
        "MatMul": 2,
        "Softmax": 1,
        "Relu": 1,
    }


def test_window_partition_and_reverse() -> None:
    def make(g: Spelling) -> str:
        x = g.Transpose(reshape(g, "x", 1, 2, 4, 2, 4, 5), perm=[0, 1, 3, 2, 4, 5])
        y = g.Relu(reshape(g, x, 4, 16, 5))
        y = g.Transpose(reshape(g, y, 1, 2, 2, 4, 4, 5), perm=[0, 1, 3, 2, 4, 5])
        return g.Sigmoid(reshape(g, y, 1, 8, 8, 5))

    model = model_of(make, x=(1, 8, 8, 5))
    rewritten(model, *VIEWS, rounding=0)
    assert highest_rank(model) == 4
    assert operators(model) == {"Reshape": 4, "Transpose": 2, "Relu": 1, "Sigmoid": 1}


def test_patch_merging_by_strided_slices_and_concat() -> None:
    def make(g: Spelling) -> str:
        parts = []
        for x, y in ((0, 0), (0, 1), (1, 0), (1, 1)):
            part = g.Slice("x", g.c([y]), g.c([99]), g.c([2]), g.c([2]))
            parts.append(g.Slice(part, g.c([x]), g.c([99]), g.c([3]), g.c([2])))
        return g.Relu(g.Concat(*parts, axis=1))

    model = model_of(make, x=(1, 3, 8, 10))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"SpaceToDepth": 1, "Gather": 1, "Relu": 1}


def test_roll_is_one_gather() -> None:
    def make(g: Spelling) -> str:
        ends = [g.Slice("x", g.c([a]), g.c([b]), g.c([1])) for a, b in ((3, 8), (0, 3))]
        return g.Relu(g.Concat(*ends, axis=1))

    model = model_of(make, x=(1, 8, 6))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Gather": 1, "Relu": 1}


def test_chain_that_is_nothing_vanishes() -> None:
    def make(g: Spelling) -> str:
        x = g.Transpose(reshape(g, "x", 2, 3, 4), perm=[2, 0, 1])
        return g.Relu(reshape(g, g.Transpose(x, perm=[1, 2, 0]), 6, 4))

    model = model_of(make, x=(6, 4))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Relu": 1}


def test_transpose_of_ones_is_a_reshape() -> None:
    def make(g: Spelling) -> str:
        return g.Relu(reshape(g, g.Transpose("x", perm=[0, 2, 3, 1]), 1, 12))

    model = model_of(make, x=(1, 12, 1, 1))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Reshape": 1, "Relu": 1}


def test_shared_inner_value_keeps_its_readers() -> None:
    def make(g: Spelling) -> list[str]:
        x = g.Transpose("x", perm=[1, 0, 2])
        return [g.Relu(x), g.Sigmoid(reshape(g, x, 3, 8))]

    model = model_of(make, x=(2, 3, 4))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Transpose": 1, "Relu": 1, "Reshape": 1, "Sigmoid": 1}


def test_elementwise_softmax_and_matmul_of_rank_five() -> None:
    rng = np.random.default_rng(1)
    mask = rng.standard_normal((1, 4, 1, 9, 9))

    def make(g: Spelling) -> str:
        x = g.Add(reshape(g, "x", 2, 4, 3, 9, 9), g.c(mask))
        y = g.MatMul(g.Softmax(x, axis=-1), reshape(g, "y", 2, 4, 3, 9, 5))
        return g.Relu(reshape(g, y, 24, 9, 5))

    model = model_of(make, x=(24, 9, 9), y=(24, 9, 5))
    rewritten(model, *VIEWS)
    assert highest_rank(model) <= 4
    assert operators(model)["Transpose"] == 0


def test_reduce_and_concat_of_rank_five() -> None:
    def make(g: Spelling) -> list[str]:
        x = reshape(g, "x", 2, 3, 4, 5, 6)
        mean = g.ReduceMean(g.Relu(x), g.c([1, 2]), keepdims=0)
        both = g.Concat(x, g.Exp(x), axis=2)
        return [g.Relu(mean), g.Relu(reshape(g, both, 2, 24, 30))]

    model = model_of(make, x=(2, 12, 30))
    rewritten(model, *VIEWS)
    assert highest_rank(model) <= 4


def test_gather_with_flat_and_with_square_indices() -> None:
    def make(g: Spelling) -> list[str]:
        return [
            g.Relu(g.Gather("x", g.c(2), axis=1)),
            g.Relu(g.Gather("x", g.c([1, 3]), axis=1)),
            g.Relu(g.Gather("x", g.c([[0, 3], [1, 1]]), axis=1)),
        ]

    model = model_of(make, x=(2, 4, 5))
    rewritten(model, *VIEWS, "gather-to-slice", rounding=0)
    assert operators(model) == {"Slice": 2, "Reshape": 2, "Gather": 1, "Relu": 3}


def test_takers_become_one_split_only_if_they_cover_the_axis() -> None:
    def make(g: Spelling) -> list[str]:
        return [g.Relu(g.Slice("x", g.c([a]), g.c([a + 2]), g.c([1]))) for a in (0, 2, 4)]

    model = model_of(make, x=(2, 6, 3))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Split": 1, "Relu": 3}
    other = model_of(make, x=(2, 8, 3))
    rewritten(other, *VIEWS, rounding=0)
    assert operators(other) == {"Slice": 3, "Relu": 3}


def test_reasons_are_given() -> None:
    model = model_of(lambda g: g.Relu(g.Transpose("x", perm=[1, 0])), x=(2, 3))
    found = get_rewrite("simplify-views").find(next(iter(model.graph)))
    assert isinstance(found, NoMatch)
    assert found.reason == "no shorter chain is known"


def test_expand_and_tile_vanish_where_the_reader_broadcasts() -> None:
    def make(g: Spelling) -> list[str]:
        wide = g.Expand("x", g.c([2, 3, 4]))
        long = g.Tile("x", g.c([2, 1, 4]))
        return [g.Relu(g.Add(wide, "y")), g.Relu(g.Mul("y", long))]

    model = model_of(make, x=(1, 3, 1), y=(2, 3, 4))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Add": 1, "Mul": 1, "Relu": 2}


def test_expand_that_gives_the_shape_stays() -> None:
    def make(g: Spelling) -> list[str]:
        both = g.Add(g.Expand("x", g.c([2, 3, 4])), g.Expand("x", g.c([2, 3, 4])))
        return [g.Relu(both), g.Relu(g.Mul(g.Tile("y", g.c([2, 1])), "y2"))]

    model = model_of(make, x=(1, 3, 1), y=(2, 3), y2=(4, 3))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Expand": 1, "Add": 1, "Tile": 1, "Mul": 1, "Relu": 2}


def test_repeated_heads_of_rank_five() -> None:
    def make(g: Spelling) -> str:
        x = g.Expand(reshape(g, "x", 2, 3, 1, 4, 5), g.c([2, 3, 2, 4, 5]))
        return g.Relu(reshape(g, x, 2, 6, 4, 5))

    model = model_of(make, x=(2, 3, 4, 5))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Reshape": 2, "Expand": 1, "Relu": 1}
    assert highest_rank(model) <= 4


def test_pad_and_reversed_slice_of_rank_five() -> None:
    def make(g: Spelling) -> list[str]:
        x = reshape(g, "x", 2, 3, 4, 5, 6)
        padded = g.Pad(x, g.c([0, 0, 1, 0, 0, 0, 0, 2, 0, 0]))
        turned = g.Slice(x, g.c([-1]), g.c([-99]), g.c([1]), g.c([-1]))
        return [g.Relu(reshape(g, padded, 6, 7, 30)), g.Relu(reshape(g, turned, 2, 3, 120))]

    model = model_of(make, x=(2, 12, 30))
    rewritten(model, *VIEWS, rounding=0)
    assert highest_rank(model) <= 4


def test_repetition_of_rank_five_by_tile() -> None:
    def make(g: Spelling) -> str:
        x = g.Tile(reshape(g, "x", 2, 3, 1, 4, 5), g.c([1, 1, 2, 1, 3]))
        return g.Relu(reshape(g, x, 2, 6, 4, 15))

    model = model_of(make, x=(2, 3, 4, 5))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Reshape": 2, "Tile": 1, "Relu": 1}
    assert highest_rank(model) <= 4


def test_views_before_an_uneven_split_of_rank_five() -> None:
    def make(g: Spelling) -> list[str]:
        x = g.Transpose(reshape(g, "x", 2, 9, 6, 4, 8), perm=[2, 0, 3, 1, 4])
        a, b = g.Split(x, g.c([2, 4]), axis=0, outputs=2)
        return [g.Relu(reshape(g, a, 4, 36, 8)), g.Sigmoid(reshape(g, b, 8, 36, 8))]

    model = model_of(make, x=(2, 9, 192))
    rewritten(model, *VIEWS, rounding=0)
    assert highest_rank(model) <= 4


def test_unfolding_with_overlap() -> None:
    def make(g: Spelling) -> str:
        rows, columns = ([[i + k for i in range(n)] for k in range(3)] for n in (6, 8))
        x = g.Gather(g.Gather("x", g.c(rows), axis=2), g.c(columns), axis=4)
        return g.Relu(reshape(g, g.Transpose(x, perm=[0, 1, 2, 4, 3, 5]), 1, 18, 48))

    model = model_of(make, x=(1, 2, 8, 10))
    rewritten(model, *VIEWS, rounding=0)
    assert highest_rank(model) <= 4
    assert operators(model)["Gather"] == 2


def test_repeated_indices_are_not_taken_for_a_permutation() -> None:
    def make(g: Spelling) -> str:
        return g.Relu(g.Transpose(g.Gather("x", g.c([0, 1, 1, 2]), axis=0), perm=[1, 0]))

    model = model_of(make, x=(4, 3))
    rewritten(model, *VIEWS, rounding=0)
    assert operators(model) == {"Gather": 1, "Transpose": 1, "Relu": 1}


def test_overlapping_windows_of_rank_six() -> None:
    def make(g: Spelling) -> str:
        rows = g.Gather("x", g.c([[0, 2, 4], [1, 3, 5], [2, 4, 6]]), axis=2)
        y = g.Gather(rows, g.c([[0, 1, 2, 3], [1, 2, 3, 4]]), axis=4)
        return g.Relu(reshape(g, g.Transpose(y, perm=[0, 1, 2, 4, 3, 5]), 2, 18, 12))

    model = model_of(make, x=(2, 3, 7, 5))
    rewritten(model, *VIEWS, rounding=0)
    assert highest_rank(model) == 4
    assert operators(model) == {"Gather": 2, "Transpose": 1, "Reshape": 2, "Relu": 1}
