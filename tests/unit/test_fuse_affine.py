"""Fusion of arithmetic per channel into linear operators: numbers, and when it is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.passes.fuse import affine as fuse
from convkit.rewrite import apply_rewrites
from tests.unit.rewriting import Net, assert_close, check, feeds_of, ops, refusal, run

AFTER = [fuse.FuseBatchNorm(), fuse.FuseBias(), fuse.FuseScale()]


def conv(net: Net, x, out: int, kernel: int = 3, group: int = 1, bias: bool = True, **attributes):
    w = net.randn(out, x.shape[1] // group, kernel, kernel)
    return net.Conv(x, w, net.randn(out) if bias else None, group=group, **attributes)


def deconv(net: Net, x, out: int, group: int = 1, bias: bool = True):
    w = net.randn(x.shape[1], out // group, 3, 3)
    return net.ConvTranspose(x, w, net.randn(out) if bias else None, group=group, strides=[2, 2])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("make", [conv, deconv])
def test_batchnorm_goes_into_convolutions(make, group, bias):
    net = Net()
    y = net.batchnorm(make(net, net.input(1, 4, 5, 6), 8, group=group, bias=bias))
    expected = "Conv" if make is conv else "ConvTranspose"
    stats = check(net.model(net.Relu(y)), AFTER, [expected, "Relu"])
    assert stats.counts == {"fuse-batchnorm": 1}


def test_batchnorm_goes_into_matrix_products():
    net = Net()
    x = net.input(3, 4)
    gemm = net.Gemm(x, net.randn(6, 4), net.randn(1, 6), transB=1, alpha=0.5, beta=2.0)
    y = net.batchnorm(net.batchnorm(gemm))
    check(net.model(y, net.batchnorm(net.MatMul(x, net.randn(4, 5)))), AFTER, ["Gemm", "Gemm"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["add", "sub", "rsub", "mul", "div", "neg", "bn"]), min_size=1, max_size=4),
    st.sampled_from(["conv", "depthwise", "deconv", "gemm"]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_any_chain_of_arithmetic_is_absorbed(chain, kind, bias, seed):
    net = Net(seed)
    if kind == "gemm":
        y = net.Gemm(net.input(3, 4), net.randn(4, 8), net.randn(8) if bias else None)
        shapes = [(8,), (1, 8), ()]
    else:
        x = net.input(1, 4, 5, 5)
        if kind == "deconv":
            y = deconv(net, x, 8, 2, bias)
        else:
            y = conv(net, x, 8, group=4 if kind == "depthwise" else 1, bias=bias, pads=[1, 0, 1, 2])
        shapes = [(8, 1, 1), (1, 8, 1, 1), (), (1, 1, 1, 1)]
    for step in chain:
        c = net.positive(*shapes[int(net.rng.integers(len(shapes)))])
        y = {
            "add": lambda y=y, c=c: net.Add(c, y),
            "sub": lambda y=y, c=c: net.Sub(y, c),
            "rsub": lambda y=y, c=c: net.Sub(c, y),
            "mul": lambda y=y, c=c: net.Mul(y, c),
            "div": lambda y=y, c=c: net.Div(y, c),
            "neg": lambda y=y: net.Neg(y),
            "bn": lambda y=y: net.batchnorm(y),
        }[step]()
    model = net.model(y)
    check(model, AFTER)
    assert len(ops(model)) == 1


def test_what_is_not_per_channel_is_refused():
    net = Net()
    y = conv(net, net.input(1, 4, 5, 5), 8)
    assert "one constant a channel" in refusal(net.model(net.Add(y, net.randn(3))), fuse.FuseBias())
    net = Net()
    y = conv(net, net.input(1, 1, 5, 5), 1)
    assert "widens" in refusal(net.model(net.Mul(y, net.randn(4, 1, 1))), fuse.FuseScale())
    net = Net()
    y = conv(net, net.input(1, 4, 5, 5), 8)
    zero = net.const(np.float32(0))
    assert "finite" in refusal(net.model(net.Div(y, zero)), fuse.FuseScale())
    net = Net()
    x = net.input(1, 4, 5, 5)
    y = net.Conv(x, net.input(2, 4, 1, 1))
    assert "weights are not constant" in refusal(net.model(net.batchnorm(y)), fuse.FuseBatchNorm())
    net = Net()
    y = net.Gemm(net.input(4, 3), net.randn(3, 4), net.randn(4, 1))
    assert "bias is not one number a channel" in refusal(net.model(net.batchnorm(y)), fuse.FuseBatchNorm())
    net = Net()
    y = net.MatMul(net.input(1, 3, 4), net.randn(4, 5))
    assert "no bias input" in refusal(net.model(net.Add(y, net.randn(5))), fuse.FuseBias())
    net = Net()
    y = conv(net, net.input(1, 4, 5, 5), 8)
    assert "read elsewhere" in refusal(net.model(net.Relu(y), net.batchnorm(y)), fuse.FuseBatchNorm())


BEFORE = [fuse.FuseAffineBefore()]


@pytest.mark.parametrize("group", [1, 2, 4])
def test_arithmetic_before_a_convolution(group):
    net = Net()
    x = net.batchnorm(net.input(1, 4, 6, 6))
    check(net.model(conv(net, x, 8, group=group)), BEFORE, ["Conv"])
    net = Net()
    x = net.Mul(net.input(1, 4, 6, 6), net.randn(4, 1, 1))
    y = conv(net, x, 8, group=group, pads=[1, 1, 1, 1])
    check(net.model(y), BEFORE, ["Conv"])
    net = Net()
    x = net.Div(net.input(1, 4, 6, 6), net.positive(4, 1, 1))
    check(net.model(deconv(net, x, 8, group=group)), BEFORE, ["ConvTranspose"])


def test_arithmetic_before_a_matrix_product():
    net = Net()
    x = net.Mul(net.input(2, 3, 4), net.randn(4))
    check(net.model(net.MatMul(x, net.randn(4, 5))), BEFORE, ["MatMul"])
    net = Net()
    x = net.Sub(net.const(np.float32(1)), net.input(3, 4))
    check(net.model(net.MatMul(x, net.randn(4, 5))), BEFORE, ["Gemm"])


def test_a_shift_before_padding_is_refused():
    net = Net()
    x = net.batchnorm(net.input(1, 4, 6, 6))
    reason = refusal(net.model(conv(net, x, 8, pads=[1, 1, 1, 1])), BEFORE[0])
    assert reason == "padding is zero after the shift, not before it"
    net = Net()
    x = net.Add(net.input(1, 4, 6, 6), net.randn(4, 1, 1))
    assert "overlap unevenly" in refusal(net.model(deconv(net, x, 4)), BEFORE[0])
    net = Net()
    x = net.Mul(net.input(1, 4, 6, 6), net.randn(6))
    assert "one constant a channel" in refusal(net.model(conv(net, x, 4)), BEFORE[0])


@pytest.mark.parametrize("shape", [(2, 3), (1, 3, 7), (1, 3, 5, 4)])
def test_a_lone_batchnorm(shape):
    net = Net()
    check(net.model(net.batchnorm(net.input(*shape))), [fuse.BatchNormToMulAdd()], ["Mul", "Add"])


def test_constants_meet():
    net = Net()
    y = net.Add(net.randn(4, 1), net.Add(net.input(2, 4, 3), net.randn(1)))
    y = net.Mul(net.Mul(y, net.randn(3)), net.randn(3))
    check(net.model(y), [fuse.MergeAdds(), fuse.MergeMuls()], ["Add", "Mul"])
    net = Net()
    y = net.Add(net.Add(net.input(2, 4, 3), net.randn(4, 1)), net.randn(3))
    assert "larger" in refusal(net.model(y), fuse.MergeAdds())
    net = Net()
    tiny = net.const(np.float32(1e-30))
    y = net.Mul(net.Mul(net.input(2, 4), tiny), tiny)
    assert "float range" in refusal(net.model(y), fuse.MergeMuls())


def test_a_scale_passes_the_bias_of_a_matmul():
    net = Net()
    y = net.Add(net.MatMul(net.input(2, 3, 4), net.randn(4, 5)), net.randn(5))
    y = net.Mul(y, net.const(np.float32(0.125)))
    check(net.model(y), [*AFTER, fuse.ScaleBeforeBias()], ["MatMul", "Add"])


def test_affine_maps_in_a_row_are_one():
    net = Net()
    y = net.input(1, 4, 3, 3)
    for _ in range(3):
        y = net.Add(net.Mul(y, net.randn(4, 1, 1)), net.randn(4, 1, 1))
    rewrites = [fuse.ScaleBeforeBias(), fuse.MergeAdds(), fuse.MergeMuls()]
    check(net.model(y), rewrites, ["Mul", "Add"])
    net = Net()
    y = net.Add(net.Mul(net.input(1, 4, 3, 3), net.randn(1)), net.randn(1))
    assert "grow" in refusal(net.model(net.Mul(y, net.randn(4, 1, 1))), fuse.ScaleBeforeBias())


def test_half_precision_weights_stay_half():
    net = Net()
    import onnx_ir as ir

    x = net.input(1, 4, 5, 5, dtype=ir.DataType.FLOAT16)
    w = net.const(net.rng.standard_normal((8, 4, 3, 3)).astype(np.float16))
    y = net.Mul(net.Conv(x, w), net.const(np.float16(0.5)))
    model = net.model(y)
    feeds = feeds_of(model)
    before = run(model, feeds)
    apply_rewrites(model.graph, AFTER)
    assert ops(model) == ["Conv"]
    assert_close(before, run(model, feeds), rounding=2e-3)
