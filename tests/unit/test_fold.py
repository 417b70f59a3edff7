"""Algebraic identities: numbers before and after, and when they do not hold."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.passes.fold import clips, movement, neutral
from tests.unit.rewriting import Net, check, refusal

F = np.float32


def full(value: float, *shape: int) -> np.ndarray:
    return np.full(shape, value, F)


@pytest.mark.parametrize("op", ["Mul", "Div", "Pow"])
def test_unit_factors_vanish(op):
    rewrite = neutral.DropUnitFactor()
    net = Net()
    x = net.Relu(net.input(2, 3))
    check(net.model(net.Neg(getattr(net, op)(x, net.const(full(1, 3))))), [rewrite], ["Relu", "Neg"], 0)
    net = Net()
    y = getattr(net, op)(net.input(2, 3), net.const(F([1, 1, 2])))
    assert "not 1 throughout" in refusal(net.model(y), rewrite)
    net = Net()
    y = getattr(net, op)(net.input(1, 3), net.const(full(1, 2, 3)))
    assert "widens" in refusal(net.model(y), rewrite)


def test_a_unit_dividend_is_no_unit_factor():
    net = Net()
    y = net.Div(net.const(full(1)), net.input(2))
    assert refusal(net.model(y), neutral.DropUnitFactor()) == "the pattern does not match"


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_zero_terms_vanish(op):
    net = Net()
    y = getattr(net, op)(net.Relu(net.input(2, 3)), net.const(full(0, 1, 3)))
    check(net.model(net.Neg(y)), [neutral.DropZeroTerm()], ["Relu", "Neg"], 0)


def test_one_spelling_of_sums_and_products():
    net = Net()
    x, c = net.input(2, 3), net.positive(3)
    model = net.model(net.Sub(x, c), net.Div(x, c), net.Sub(c, x))
    check(model, [neutral.SubConstant(), neutral.DivConstant()], ["Add", "Mul", "Sub"])
    net = Net()
    ints = net.input(3, dtype=ir.DataType.INT64)
    y = net.Div(ints, net.const(np.int64([2])))
    assert refusal(net.model(y), neutral.DivConstant()) == "integer division rounds"
    for bad in (0.0, 1e-39, 3e38):
        net = Net()
        model = net.model(net.Div(net.input(2), net.const(full(bad))))
        assert "float range" in refusal(model, neutral.DivConstant())


def test_signs_go_away():
    rewrites = [neutral.NegOfNeg(), neutral.AddOfNeg(), neutral.MulOfNeg()]
    net = Net()
    x, y = net.input(2, 3), net.input(2, 3)
    out = [
        net.Add(net.Neg(x), y),
        net.Sub(x, net.Neg(y)),
        net.Neg(net.Mul(net.Neg(x), net.randn(3))),
        net.Tanh(net.Neg(net.Neg(y))),
    ]
    check(net.model(*out), rewrites, ["Sub", "Add", "Mul", "Tanh"], 0)


def test_powers_with_an_operator():
    net = Net()
    x = net.Add(net.Abs(net.input(2, 3)), net.const(full(0.1)))
    out = [net.Pow(x, net.const(full(p))) for p in (2, 0.5, -1, -0.5, 3)]
    check(
        net.model(*out),
        [neutral.PowerOfConstant()],
        ["Abs", "Add", "Mul", "Sqrt", "Reciprocal", "Sqrt", "Reciprocal", "Pow"],
    )
    net = Net()
    assert "no operator" in refusal(
        net.model(net.Pow(net.input(2), net.const(full(3)))), neutral.PowerOfConstant()
    )


def test_one_over():
    net = Net()
    x = net.Sqrt(net.Abs(net.input(2, 3)))
    check(net.model(net.Div(net.const(full(1)), x)), [neutral.ReciprocalOfDivision()], None)
    net = Net()
    y = net.Div(net.const(full(2)), net.input(2))
    assert "not one" in refusal(net.model(y), neutral.ReciprocalOfDivision())


BOUNDS = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 6.0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(clips.KINDS), BOUNDS, BOUNDS), min_size=2, max_size=4))
def test_limits_in_a_row_are_one(chain):
    net = Net()
    x = net.input(40)
    for kind, low, high in chain:
        a, b = net.const(F(low)), net.const(F(high))
        x = {
            "Relu": lambda x=x: net.Relu(x),
            "Clip": lambda x=x, a=a, b=b: net.Clip(x, a, b),
            "Max": lambda x=x, a=a: net.Max(x, a),
            "Min": lambda x=x, b=b: net.Min(b, x),
        }[kind]()
    model = net.model(x)
    check(model, [clips.MergeClips(), clips.ReluOfMax()], None, 0)
    assert len(model.graph) == 1


def test_limits_that_do_nothing_vanish_even_where_the_inner_one_is_read():
    net = Net()
    inner = net.Clip(net.input(8), net.const(F(0)), net.const(F(6)))
    model = net.model(net.Tanh(net.Relu(inner)), net.Neg(inner))
    check(model, [clips.MergeClips()], ["Clip", "Tanh", "Neg"], 0)


def test_limits_that_are_not_numbers_are_refused():
    net = Net()
    y = net.Relu(net.Max(net.input(2, 3), net.randn(3)))
    assert refusal(net.model(y), clips.MergeClips()) == "no operand is a number"
    net = Net()
    y = net.Max(net.input(2, 3), net.const(F(0.5)))
    assert "not zero and infinity" in refusal(net.model(y), clips.ReluOfMax())


def test_a_slice_of_a_concatenation():
    rewrite = movement.SliceOfConcat()

    def sliced(start: int, end: int, axis: int = 1):
        net = Net()
        parts = [net.Relu(net.input(2, n)) for n in (3, 4, 5)]
        joined = net.Concat(*parts, axis=1)
        vector = [net.const(np.int64([v])) for v in (start, end, axis, 1)]
        return net.model(net.Neg(net.Slice(joined, *vector)), joined)

    check(sliced(4, 6), [rewrite], ["Relu"] * 3 + ["Concat", "Slice", "Neg"], 0)
    check(sliced(3, 7), [rewrite], ["Relu"] * 3 + ["Concat", "Neg"], 0)
    assert "several operands" in refusal(sliced(2, 5), rewrite)
    assert "not along the axis" in refusal(sliced(0, 1, 0), rewrite)


def test_a_split_put_together_again():
    rewrite = movement.ConcatOfSplit()

    def joined(order, axis: int = 0):
        net = Net()
        parts = net.Split(net.input(6, 6), net.const(np.int64([1, 2, 3])), outputs=3, axis=0)
        return net.model(net.Relu(net.Concat(*(parts[i] for i in order), axis=axis)), net.Neg(parts[0]))

    check(joined([0, 1, 2]), [rewrite], ["Split", "Relu", "Neg"], 0)
    assert "in order" in refusal(joined([0, 2, 1]), rewrite)


def test_casts_in_a_row():
    rewrite = movement.CastOfCast()
    net = Net()
    x = net.input(4, dtype=ir.DataType.INT32)
    y = net.Cast(net.Cast(x, to=int(ir.DataType.INT64)), to=int(ir.DataType.FLOAT))
    z = net.Cast(net.Cast(x, to=int(ir.DataType.INT64)), to=int(ir.DataType.INT32))
    check(net.model(y, net.Neg(z)), [rewrite], ["Cast", "Neg"], 0)
    net = Net()
    y = net.Cast(net.Cast(net.input(4), to=int(ir.DataType.INT32)), to=int(ir.DataType.FLOAT))
    assert "loses values" in refusal(net.model(y), rewrite)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 3, 4, 5)])
def test_a_global_maximum_is_a_reduction(shape):
    net = Net()
    y = net.GlobalMaxPool(net.input(*shape))
    check(net.model(y), [movement.GlobalPoolToReduce()], ["ReduceMax"], 0)


def test_a_global_average_keeps_its_order_of_summing():
    net = Net()
    model = net.model(net.GlobalAveragePool(net.input(1, 3, 4, 5)))
    check(model, [movement.GlobalPoolToReduce()], ["GlobalAveragePool"], 0)
