"""Spelled-out activations become one operator each, with the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from convkit.ir.facts import attr
from tests.unit.spelled import Spelling, family, model_of, operators, rewritten

RAISE = tuple(family("CK-RAISE-00"))
ROOT_HALF, ROOT_2 = math.sqrt(0.5), math.sqrt(2)
K = math.sqrt(2 / math.pi)

Make = Callable[[Spelling], str]


def only(make: Make, name: str, **attributes: float | str) -> None:
    """`make` becomes one `name`; it is read by a Neg so that an output's name plays no part."""
    model = model_of(lambda g: g.Neg(make(g)), x=(2, 3, 4, 5))
    rewritten(model, *RAISE)
    assert operators(model) == {name: 1, "Neg": 1}
    node = next(n for n in model.graph if n.op_type == name)
    for key, value in attributes.items():
        found = attr(node, key)
        assert found == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)


def erf(g: Spelling, divide: bool) -> str:
    return g.Erf(g.Div("x", g.c(ROOT_2)) if divide else g.Mul(g.c(ROOT_HALF), "x"))


@pytest.mark.parametrize(
    "make",
    [
        lambda g: g.Mul(g.Mul("x", g.c(0.5)), g.Add(erf(g, True), g.c(1.0))),
        lambda g: g.Mul(g.c(0.5), g.Mul("x", g.Add(g.c(1.0), erf(g, False)))),
        lambda g: g.Mul("x", g.Mul(g.Add(erf(g, True), g.c(1.0)), g.c(0.5))),
        lambda g: g.Div(g.Mul(g.Add(erf(g, True), g.c([1.0])), "x"), g.c(2.0)),
        lambda g: g.Mul("x", g.Add(g.Mul(erf(g, False), g.c(0.5)), g.c(0.5))),
    ],
)
def test_gelu(make: Make) -> None:
    only(make, "Gelu", approximate="none")


def cube(g: Spelling, power: bool) -> str:
    return g.Pow("x", g.c(3.0)) if power else g.Mul(g.Mul("x", "x"), "x")


@pytest.mark.parametrize(
    "make",
    [
        lambda g: g.Mul(
            g.Mul(g.c(0.5), "x"),
            g.Add(g.c(1.0), g.Tanh(g.Mul(g.c(K), g.Add("x", g.Mul(g.c(0.044715), cube(g, True)))))),
        ),
        lambda g: g.Mul(
            "x",
            g.Mul(
                g.c(0.5),
                g.Add(g.Tanh(g.Mul(g.Add(g.Mul(cube(g, False), g.c(0.044715)), "x"), g.c(K))), g.c(1.0)),
            ),
        ),
        lambda g: g.Mul(
            g.Mul("x", g.c(0.5)),
            g.Add(
                g.c(1.0),
                g.Tanh(g.Mul(g.Mul("x", g.c(K)), g.Add(g.c(1.0), g.Mul(g.Mul(g.c(0.044715), "x"), "x")))),
            ),
        ),
    ],
)
def test_tanh_gelu(make: Make) -> None:
    only(make, "Gelu", approximate="tanh")


def test_swish_and_the_sigmoid_form_of_gelu() -> None:
    only(lambda g: g.Mul("x", g.Sigmoid("x")), "Swish", alpha=1.0)
    only(lambda g: g.Mul(g.Sigmoid("x"), "x"), "Swish", alpha=1.0)
    only(lambda g: g.Mul("x", g.Sigmoid(g.Mul("x", g.c(1.702)))), "Swish", alpha=1.702)


@pytest.mark.parametrize(
    "make",
    [
        lambda g: g.Div(g.Mul("x", g.Clip(g.Add("x", g.c(3.0)), g.c(0.0), g.c(6.0))), g.c(6.0)),
        lambda g: g.Mul("x", g.Div(g.Clip(g.Add("x", g.c(3.0)), g.c(0.0), g.c(6.0)), g.c(6.0))),
        lambda g: g.Mul(g.Mul("x", g.Min(g.Relu(g.Add(g.c(3.0), "x")), g.c(6.0))), g.c(1 / 6)),
        lambda g: g.Mul("x", g.Mul(g.Min(g.Max(g.Add("x", g.c(3.0)), g.c(0.0)), g.c(6.0)), g.c(1 / 6))),
        lambda g: g.Mul("x", g.HardSigmoid("x", alpha=1 / 6, beta=0.5)),
    ],
)
def test_hardswish(make: Make) -> None:
    only(make, "HardSwish")


def test_hardsigmoid() -> None:
    clipped = "HardSigmoid"
    only(
        lambda g: g.Div(g.Clip(g.Add("x", g.c(3.0)), g.c(0.0), g.c(6.0)), g.c(6.0)),
        clipped,
        alpha=1 / 6,
        beta=0.5,
    )
    only(
        lambda g: g.Clip(g.Add(g.Mul("x", g.c(0.2)), g.c(0.5)), g.c(0.0), g.c(1.0)),
        clipped,
        alpha=0.2,
        beta=0.5,
    )


def test_mish_softplus_clip() -> None:
    only(lambda g: g.Mul("x", g.Tanh(g.Log(g.Add(g.Exp("x"), g.c(1.0))))), "Mish")
    only(lambda g: g.Log(g.Add(g.c(1.0), g.Exp("x"))), "Softplus")
    only(lambda g: g.Min(g.Max("x", g.c(-0.5)), g.c(0.5)), "Clip")


@pytest.mark.parametrize(
    "make",
    [
        lambda g: g.Mul(g.Mul("x", g.c(0.4)), g.Add(erf(g, True), g.c(1.0))),
        lambda g: g.Mul(g.Mul("x", g.c(0.5)), g.Add(g.Erf("x"), g.c(1.0))),
        lambda g: g.Mul("x", g.Sigmoid("y")),
        lambda g: g.Mul("x", g.Clip(g.Add("x", g.c(3.0)), g.c(0.0), g.c(5.0))),
        lambda g: g.Div(g.Clip(g.Add("x", g.c(3.0)), g.c(-1.0), g.c(6.0)), g.c(6.0)),
        lambda g: g.Mul("x", g.Tanh("x")),
        lambda g: g.Min(g.Max("x", g.c(0.5)), g.c(-0.5)),
        lambda g: g.Mul("r", g.Sigmoid("x")),
    ],
)
def test_what_only_looks_alike_stays(make: Make) -> None:
    model = model_of(lambda g: g.Neg(make(g)), x=(2, 3, 4, 5), y=(2, 3, 4, 5), r=(1, 5))
    before = operators(model)
    assert not rewritten(model, *RAISE).applications
    assert operators(model) == before


def test_number_in_a_wider_shape_is_not_dropped() -> None:
    model = model_of(lambda g: g.Neg(g.Min(g.Max("x", g.c([[[0.0]]])), g.c(1.0))), x=(4,))
    assert not rewritten(model, *RAISE).applications
