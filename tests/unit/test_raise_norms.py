"""Spelled-out normalizations become one operator each, with the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.unit.spelled import Spelling, family, model_of, operators, rewritten

RAISE = tuple(family("CK-RAISE-02"))
RNG = np.random.default_rng(5)
EPSILON = 1e-5


def centred(g: Spelling, *axes: int) -> str:
    return g.Sub("x", g.ReduceMean("x", g.c(list(axes)), keepdims=1))


def variance(g: Spelling, d: str, *axes: int, power: bool = True) -> str:
    square = g.Pow(d, g.c(2.0)) if power else g.Mul(d, d)
    return g.Add(g.ReduceMean(square, g.c(list(axes)), keepdims=1), g.c(EPSILON))


def layer(g: Spelling, spelling: int, *axes: int) -> str:
    d = centred(g, *axes)
    v = variance(g, d, *axes, power=spelling % 2 == 0)
    return [
        lambda: g.Div(d, g.Sqrt(v)),
        lambda: g.Mul(d, g.Reciprocal(g.Sqrt(v))),
        lambda: g.Mul(d, g.Pow(v, g.c(-0.5))),
        lambda: g.Mul(g.Div(g.c(1.0), g.Sqrt(v)), d),
    ][spelling]()


@pytest.mark.parametrize("spelling", range(4))
@pytest.mark.parametrize("axes", [(2,), (1, 2)])
def test_layer_norm_with_scale_and_bias(spelling: int, axes: tuple[int, ...]) -> None:
    shape = (4, 6)[-len(axes) :]

    def make(g: Spelling) -> str:
        y = g.Mul(layer(g, spelling, *axes), g.c(RNG.standard_normal(shape)))
        return g.Neg(g.Add(g.c(RNG.standard_normal(shape)), y))

    model = model_of(make, x=(2, 4, 6))
    rewritten(model, *RAISE)
    assert operators(model) == {"LayerNormalization": 1, "Neg": 1}


@pytest.mark.parametrize("power", [True, False])
def test_rms_norm(power: bool) -> None:
    def make(g: Spelling) -> str:
        y = g.Div("x", g.Sqrt(variance(g, "x", 2, power=power)))
        return g.Neg(g.Mul(y, g.c(RNG.standard_normal(6))))

    model = model_of(make, x=(2, 4, 6))
    rewritten(model, *RAISE)
    assert operators(model) == {"RMSNormalization": 1, "Neg": 1}


def test_norm_over_channels_keeps_its_layout_free_spelling() -> None:
    model = model_of(lambda g: g.Neg(layer(g, 0, 1)), x=(2, 4, 6, 6))
    before = operators(model)
    assert not rewritten(model, *RAISE).applications
    assert operators(model) == before


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm_between_reshapes(groups: int) -> None:
    def make(g: Spelling) -> str:
        y = g.Reshape("x", g.c([2, groups, -1]))
        scale, bias = (g.c(RNG.standard_normal(groups)) for _ in range(2))
        y = g.InstanceNormalization(y, scale, bias, epsilon=1e-3)
        return g.Neg(g.Reshape(y, g.c([2, 4, 6, 6])))

    model = model_of(make, x=(2, 4, 6, 6))
    rewritten(model, *RAISE)
    assert operators(model) == {"LayerNormalization" if groups == 1 else "GroupNormalization": 1, "Neg": 1}


def test_softmax_over_any_axis() -> None:
    def make(g: Spelling) -> str:
        axes = g.c([1])
        e = g.Exp(g.Sub("x", g.ReduceMax("x", axes, keepdims=1)))
        return g.Neg(g.Div(e, g.ReduceSum(e, axes, keepdims=1)))

    model = model_of(make, x=(2, 4, 6))
    rewritten(model, *RAISE)
    assert operators(model) == {"Softmax": 1, "Neg": 1}


Make = Callable[[Spelling], str]


@pytest.mark.parametrize(
    "make",
    [
        lambda g: g.Div(centred(g, 2), g.Sqrt(variance(g, centred(g, 1), 1))),
        lambda g: g.Div(centred(g, 1), g.Sqrt(variance(g, centred(g, 1), 2))),
        lambda g: g.Div("x", g.Sqrt(variance(g, "y", 2))),
        lambda g: g.Div("x", g.Sqrt(g.ReduceMean(g.Mul("x", "x"), g.c([2]), keepdims=1))),
    ],
)
def test_what_only_looks_alike_stays(make: Make) -> None:
    model = model_of(lambda g: g.Neg(make(g)), x=(2, 4, 6), y=(2, 4, 6))
    assert not rewritten(model, *RAISE).applications


def test_scale_that_is_not_along_the_normalized_axes_stays() -> None:
    def make(g: Spelling) -> str:
        y = g.LayerNormalization("x", g.c(np.ones(6)), axis=-1)
        return g.Neg(g.Mul(y, g.c(RNG.standard_normal((4, 1)))))

    model = model_of(make, x=(2, 4, 6))
    assert not rewritten(model, *RAISE).applications
