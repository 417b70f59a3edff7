"""Reshapes move to other views; attention's scales and norms' scales fold."""

from __future__ import annotations

import numpy as np

from tests.unit.spelled import Spelling, family, model_of, operators, rewritten

VIEWS = tuple(family("CK-VIEW"))
RNG = np.random.default_rng(3)


def weights(g: Spelling, *shape: int) -> str:
    return g.c(RNG.standard_normal(shape))


def test_reshape_sinks_below_a_product_to_the_next_view() -> None:
    def make(g: Spelling) -> str:
        y = g.MatMul(g.Transpose("x", perm=[1, 0, 2]), weights(g, 8, 12))
        y = g.Relu(g.Add(y, weights(g, 12)))
        y = g.Reshape(y, g.c([6, 3, 4]))
        return g.Neg(g.Transpose(y, perm=[1, 0, 2]))

    model = model_of(make, x=(1, 6, 8))
    stats = rewritten(model, *VIEWS)
    assert stats.counts["reshape-after"] == 3
    assert operators(model) == {"MatMul": 1, "Add": 1, "Relu": 1, "Reshape": 1, "Transpose": 1, "Neg": 1}


def test_reshape_rises_above_a_gemm_to_the_view_before() -> None:
    def make(g: Spelling) -> str:
        y = g.Reshape(g.Transpose("x", perm=[0, 2, 1, 3]), g.c([6, 8]))
        y = g.Gemm(y, weights(g, 5, 8), weights(g, 5), transB=1, alpha=0.5, beta=2.0)
        return g.Neg(g.Reshape(y, g.c([1, 6, 5])))

    model = model_of(make, x=(1, 2, 6, 4))
    rewritten(model, *VIEWS)
    assert operators(model) == {"Transpose": 1, "Reshape": 1, "MatMul": 1, "Add": 1, "Neg": 1}


def test_reshape_stays_where_no_view_follows() -> None:
    def make(g: Spelling) -> str:
        return g.Neg(g.MatMul(g.Reshape("x", g.c([6, 8])), weights(g, 8, 5)))

    model = model_of(make, x=(1, 6, 8))
    assert not rewritten(model, *VIEWS).applications


def test_reshape_that_changes_the_rows_stays() -> None:
    def make(g: Spelling) -> str:
        y = g.MatMul(g.Reshape("x", g.c([6, 8])), weights(g, 8, 6))
        return g.Neg(g.Transpose(y, perm=[1, 0]))

    model = model_of(make, x=(6, 2, 4))
    assert not rewritten(model, *VIEWS).applications


def test_two_scales_of_a_product_are_one_before_the_transpose() -> None:
    def make(g: Spelling) -> str:
        k = g.Mul(g.Transpose("k", perm=[0, 1, 3, 2]), g.c([0.25]))
        return g.Neg(g.MatMul(g.Mul("q", g.c(0.5)), k))

    model = model_of(make, q=(1, 2, 6, 4), k=(1, 2, 6, 4))
    rewritten(model, *family("CK-FUSE-03"))
    assert operators(model) == {"Mul": 1, "Transpose": 1, "MatMul": 1, "Neg": 1}
    product = next(n for n in model.graph if n.op_type == "MatMul")
    assert "Transpose" in {v.producer().op_type for v in product.inputs}  # type: ignore[union-attr]


def test_scale_and_bias_of_a_norm_go_into_the_product() -> None:
    def make(g: Spelling) -> str:
        y = g.LayerNormalization("x", weights(g, 8), weights(g, 8), axis=-1)
        return g.Neg(g.MatMul(y, weights(g, 8, 5)))

    model = model_of(make, x=(2, 6, 8))
    rewritten(model, "norm-scale-into-product")
    assert operators(model) == {"LayerNormalization": 1, "MatMul": 1, "Add": 1, "Neg": 1}
    norm = next(n for n in model.graph if n.op_type == "LayerNormalization")
    assert len(norm.inputs) == 2
    assert (norm.inputs[1].const_value.numpy() == 1).all()  # type: ignore[union-attr]


def test_norm_with_another_reader_keeps_its_scale() -> None:
    def make(g: Spelling) -> list[str]:
        y = g.LayerNormalization("x", weights(g, 8), weights(g, 8), axis=-1)
        return [g.Neg(g.MatMul(y, weights(g, 8, 5))), g.Abs(y)]

    model = model_of(make, x=(2, 6, 8))
    assert not rewritten(model, "norm-scale-into-product").applications
