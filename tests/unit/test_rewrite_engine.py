"""The rewrite engine: patterns, application, names, origins, ends, cost."""

from __future__ import annotations

import time

import numpy as np
import onnx_ir as ir
import pytest

from convkit.diagnostics import ConvkitError
from convkit.ir.facts import constant
from convkit.ir.origin import Origin, origin_of, set_origin
from convkit.rewrite import Exactness, NoMatch, Rewrite, apply_rewrites
from convkit.rewrite.pattern import build_pattern, matches_at, root_types
from tests.unit.rewriting import Net, check, ops, refusal, run


def find(function, value: ir.Value):
    return next(matches_at(build_pattern(function), value.producer()), None)


def law(name: str, pattern, rewrite, check=None, shares: bool = False) -> Rewrite:
    """A rewrite from plain functions."""
    members = {
        "id": f"CK-TEST-{name}",
        "name": name,
        "law": name,
        "exactness": Exactness.BITEXACT,
        "shares_interior": shares,
        "pattern": staticmethod(pattern),
        "rewrite": staticmethod(rewrite),
    }
    if check is not None:
        members["check"] = staticmethod(check)
    return type(name, (Rewrite,), members)()


double_neg = law("double-neg", lambda op, x: op.Neg(op.Neg(x)), lambda rw, m: m["x"])


def test_commutative_operands_match_in_both_orders():
    net = Net()
    x, y = net.input(2), net.input(2)
    r = net.Relu(x)
    for value in (net.Add(r, y), net.Add(y, r)):
        match = find(lambda op, a, b: op.Add(op.Relu(a), b), value)
        assert match["a"] is x
        assert match["b"] is y
    assert find(lambda op, a, b: op.Sub(op.Relu(a), b), net.Sub(y, r)) is None


def test_a_repeated_variable_is_one_value():
    net = Net()
    x, y = net.input(2), net.input(2)
    pattern = lambda op, a: op.Mul(a, op.Sigmoid(a))  # noqa: E731
    assert find(pattern, net.Mul(net.Sigmoid(x), x))["a"] is x
    assert find(pattern, net.Mul(net.Sigmoid(x), y)) is None


def test_optional_inputs_may_be_absent():
    net = Net()
    x, w, b = net.input(1, 2, 4, 4), net.randn(3, 2, 1, 1), net.randn(3)
    pattern = lambda op, x, w, b=None: op.Conv(x, w, b)  # noqa: E731
    assert find(pattern, net.Conv(x, w, b)).get("b") is b
    without = find(pattern, net.Conv(x, w))
    assert without.get("b") is None
    with pytest.raises(KeyError):
        without["b"]
    assert find(lambda op, x, w, b: op.Conv(x, w, b), net.Conv(x, w)) is None
    assert find(lambda op, x, w: op.Conv(x, w), net.Conv(x, w, b)) is None, "an input the pattern lacks"


def test_numbers_match_constants_of_one_element():
    net = Net()
    x = net.input(2)
    pattern = lambda op, x: op.Mul(x, 0.1)  # noqa: E731
    assert find(pattern, net.Mul(x, net.const(np.float32(0.1)))) is not None
    assert find(pattern, net.Mul(net.const(np.float32([[0.1]])), x)) is not None
    assert find(pattern, net.Mul(x, net.const(np.float32(0.2)))) is None
    assert find(pattern, net.Mul(x, net.const(np.float32([0.1, 0.1])))) is None


def test_const_binds_constants_only_and_chooses_the_operand():
    net = Net()
    x, y, c = net.input(2), net.input(2), net.randn(2)
    pattern = lambda op, x, c: op.Add(x, op.const(c))  # noqa: E731
    for value in (net.Add(x, c), net.Add(c, x)):
        assert find(pattern, value)["c"] is c
    assert find(pattern, net.Add(x, y)) is None


def test_any_of_names_attributes_and_domains():
    net = Net()
    x = net.input(1, 2, 3)
    pattern = lambda op, x: op.any_of(  # noqa: E731
        op.Softmax(x, axis=1, name="first"), op.Transpose(x, perm=(0, 2, 1), name="second")
    )
    assert root_types(build_pattern(pattern)) == {"Softmax", "Transpose"}
    assert set(find(pattern, net.Softmax(x, axis=1)).named) == {"first"}
    assert set(find(pattern, net.Transpose(x, perm=[0, 2, 1])).named) == {"second"}
    assert find(pattern, net.Softmax(x, axis=2)) is None
    gelu = ir.node("FastGelu", [x], domain="com.microsoft")
    assert find(lambda op, x: op.FastGelu(x), gelu.outputs[0]) is None
    assert find(lambda op, x: op.FastGelu(x, domain="com.microsoft"), gelu.outputs[0]) is not None


def test_the_side_condition_chooses_among_matches():
    net = Net()
    x = net.input(1, 2, 3)
    a, b = net.Relu(net.Tanh(x)), net.Relu(net.Abs(x))
    model = net.model(net.Add(a, b))
    swap = law(
        "abs-first",
        lambda op, p, q: op.Add(op.Relu(p), op.Relu(q)),
        lambda rw, m: rw.Relu(m["q"]),
        lambda m: {} if m["p"].producer().op_type == "Abs" else NoMatch("not abs"),
    )
    apply_rewrites(model.graph, [swap])
    assert ops(model) == ["Tanh", "Relu"]


def test_shared_interior_is_refused_unless_allowed():
    def model() -> ir.Model:
        net = Net()
        x = net.input(4)
        inner = net.Neg(x)
        return net.model(net.Neg(inner), net.Relu(inner))

    assert refusal(model(), double_neg) == "an inner value is also read elsewhere"
    allowed = law("allowed", lambda op, x: op.Neg(op.Neg(x)), lambda rw, m: rw.Abs(m["x"]), shares=True)
    shared = model()
    apply_rewrites(shared.graph, [allowed])
    assert sorted(ops(shared)) == ["Abs", "Neg", "Relu"], "the shared inner node stays"


def test_an_inner_value_that_is_an_output_is_refused():
    net = Net()
    inner = net.Neg(net.input(4))
    assert refusal(net.model(inner, net.Neg(inner)), double_neg) == "an inner value is also read elsewhere"


def test_graph_outputs_keep_their_names():
    net = Net()
    x = net.input(4)
    twice = law("tanh", lambda op, x: op.Tanh(op.Tanh(x)), lambda rw, m: rw.Relu(m["x"]))
    model = net.model(net.Neg(net.Neg(x)), net.Tanh(net.Tanh(x)))
    apply_rewrites(model.graph, [double_neg, twice])
    assert [v.name for v in model.graph.outputs] == ["y0", "y1"]
    assert sorted(ops(model)) == ["Identity", "Relu"], "an input as an output needs a node between"
    run(model, {"x0": np.zeros(4, np.float32)})


def test_two_outputs_that_become_one_value():
    net = Net()
    relu = net.Relu(net.input(4))
    model = net.model(relu, net.Neg(net.Neg(relu)))
    check(model, [double_neg], ["Relu", "Identity"], rounding=0)
    assert [v.name for v in model.graph.outputs] == ["y0", "y1"]


def test_origins_merge_and_carry_the_rewrite_id():
    net = Net()
    y = net.Tanh(net.Tanh(net.input(4)))
    for i, node in enumerate(net.nodes):
        set_origin(node, Origin(nodes=(f"tanh{i}",), modules=("body",), sources=(f"net.py:{i}",)))
    once = law("once", lambda op, x: op.Tanh(op.Tanh(x)), lambda rw, m: rw.Abs(rw.Relu(m["x"])))
    model = net.model(y)
    apply_rewrites(model.graph, [once])
    for node in model.graph:
        assert origin_of(node) == Origin(
            ("tanh1", "tanh0"), ("body",), ("net.py:1", "net.py:0"), ("CK-TEST-once",)
        )


def test_constants_fold_on_the_spot_and_leave_nothing_behind():
    net = Net()
    x = net.input(3)
    c = np.float32([1, 2, 3])
    model = net.model(net.Mul(net.Mul(x, net.const(c)), net.const(c)))
    merge = law(
        "merge",
        lambda op, x, a, b: op.Mul(op.Mul(x, op.const(a)), op.const(b)),
        lambda rw, m: rw.Mul(m["x"], rw.Mul(m["a"], m["b"])),
    )
    check(model, [merge], ["Mul"])
    (value,) = model.graph.initializers.values()
    np.testing.assert_array_equal(constant(value), c * c)


def test_multiple_outputs_are_replaced_in_order():
    net = Net()
    x = net.input(4, 2)
    a, b = net.Split(x, net.const(np.int64([1, 3])), outputs=2, axis=0)
    split = law(
        "split-to-slices",
        lambda op, x, sizes: op.Split(x, sizes),
        lambda rw, m: [
            rw.Slice(m["x"], rw.const([0]), rw.const([1]), rw.const([0])),
            rw.Slice(m["x"], rw.const([1]), rw.const([4]), rw.const([0])),
        ],
    )
    check(net.model(net.Relu(a), net.Relu(b)), [split], ["Slice", "Slice", "Relu", "Relu"], rounding=0)


def test_rewrites_far_below_an_application_are_found():
    net = Net()
    model = net.model(net.Tanh(net.Sqrt(net.Abs(net.Neg(net.Neg(net.input(4)))))))
    deep = law("deep", lambda op, x: op.Tanh(op.Sqrt(op.Abs(op.Relu(x)))), lambda rw, m: rw.Exp(m["x"]))
    relu = law("relu", lambda op, x: op.Neg(op.Neg(x)), lambda rw, m: rw.Relu(m["x"]))
    apply_rewrites(model.graph, [deep, relu])
    assert ops(model) == ["Exp"]


def test_a_cycle_ends_with_a_diagnostic():
    net = Net()
    model = net.model(net.Relu(net.input(4)))
    there = law("there", lambda op, x: op.Relu(x), lambda rw, m: rw.Abs(m["x"]))
    back = law("back", lambda op, x: op.Abs(x), lambda rw, m: rw.Relu(m["x"]))
    with pytest.raises(ConvkitError) as caught:
        apply_rewrites(model.graph, [there, back])
    assert caught.value.diagnostics[0].code == "rewrite-cycle"
    assert "there" in str(caught.value)
    assert "node n0" in str(caught.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda rw, m: rw.Concat(m["x"], m["x"], axis=0), "changed the shape of"),
        (lambda rw, m: rw.Cast(m["x"], to=7), "changed the type of"),
        (lambda rw, m: [m["x"], m["x"]], "gave 2 values for 1 outputs"),
    ],
)
def test_a_rewrite_that_does_not_fit_is_a_diagnostic(build, message):
    net = Net()
    model = net.model(net.Relu(net.input(4)))
    with pytest.raises(ConvkitError, match=message) as caught:
        apply_rewrites(model.graph, [law("bad", lambda op, x: op.Relu(x), build)])
    assert caught.value.diagnostics[0].code == "invalid-rewrite"


def test_limit_and_only_restrict_the_applications():
    def chain() -> ir.Model:
        net = Net()
        x = net.input(4)
        for _ in range(3):
            x = net.Abs(net.Neg(net.Neg(x)))
        return net.model(x)

    model = chain()
    assert len(apply_rewrites(model.graph, [double_neg], limit=2).applications) == 2
    assert ops(model).count("Neg") == 2
    model = chain()
    stats = apply_rewrites(model.graph, [double_neg], only=lambda node: node.name == "n4")
    assert [a.before for a in stats.applications] == [("n4", "n3")]
    assert stats.counts == {"double-neg": 1}


def test_time_grows_linearly_with_the_graph():
    """Also where all nodes share one constant."""
    merge = law(
        "tanh-scale",
        lambda op, x, c: op.Mul(op.Tanh(x), op.const(c)),
        lambda rw, m: rw.Mul(rw.Abs(m["x"]), m["c"]),
    )

    def seconds(count: int) -> float:
        net = Net()
        x, c = net.input(4), net.randn(4)
        for _ in range(count):
            x = net.Mul(net.Tanh(x), c)
        model = net.model(x)
        start = time.process_time()
        assert len(apply_rewrites(model.graph, [merge]).applications) == count
        return time.process_time() - start

    seconds(20)
    small = min(seconds(100) for _ in range(3))
    assert min(seconds(1000) for _ in range(3)) < 25 * small, "quadratic would be 100 times"
