"""Parallel branches become one convolution: numbers, operator counts, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.ir.normal import normalize
from convkit.passes import PassManager, default_pipeline
from convkit.passes.fuse.branches import MergeBranches
from tests.unit.rewriting import Net, assert_close, check, feeds_of, ops, refusal, run

MERGE = MergeBranches()


def conv(
    net: Net, x, out: int, kernel, pads=0, stride: int = 1, group: int = 1, dilation: int = 1, bias=True
):
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    w = net.randn(out, x.shape[1] // group, kh, kw)
    pads = [pads] * 4 if isinstance(pads, int) else list(pads)
    return net.Conv(
        x,
        w,
        net.randn(out) if bias else None,
        kernel_shape=[kh, kw],
        pads=pads,
        strides=[stride] * 2,
        group=group,
        dilations=[dilation] * 2,
    )


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2]),
    st.lists(st.sampled_from([(1, 0), (3, 1), (5, 2)]), min_size=2, max_size=4),
    st.permutations(["identity", "scale", "pool", "conv"]),
    st.integers(5, 8),
    st.booleans(),
)
def test_sums_of_branches(group, stride, kernels, extras, size, bias):
    net = Net()
    x = net.input(2, 4, size, size + 1)
    branches = [conv(net, x, 4, 5, 2, stride, group)]
    branches += [conv(net, x, 4, k, p, stride, group, bias=bias) for k, p in kernels]
    for extra in extras[:3]:
        if extra == "pool":
            branches.append(
                net.AveragePool(
                    x,
                    kernel_shape=[3, 3],
                    pads=[1] * 4,
                    strides=[stride] * 2,
                    count_include_pad=1,
                    dilations=[1, 1],
                    ceil_mode=0,
                )
            )
        elif stride == 1 and extra != "conv":
            branches.append(x if extra == "identity" else net.Mul(x, net.randn(4, 1, 1)))
    total = branches[0]
    for b in branches[1:]:
        total = net.Add(total, b) if net.rng.random() < 0.5 else net.Add(b, total)
    check(net.model(total), [MERGE], ["Conv"], rounding=5e-5)


def test_the_identity_gets_a_kernel_with_one_tap():
    for group in (1, 2, 4):
        net = Net()
        x = net.Relu(net.input(1, 4, 5, 5))
        y = net.Add(x, conv(net, x, 4, 3, 1, group=group))
        check(net.model(y), [MERGE], ["Relu", "Conv"])


def test_branches_apart_in_a_chain_of_sums():
    net = Net()
    x, z = net.input(1, 4, 5, 5), net.input(1, 4, 5, 5)
    y = net.Add(conv(net, x, 4, 1), net.Add(z, conv(net, x, 4, 3, 1)))
    check(net.model(net.Add(x, y)), [MERGE], ["Conv", "Add"])


def test_strips_merge_with_the_square_that_holds_them():
    net = Net()
    x = net.input(1, 4, 6, 6)
    strips = net.Add(conv(net, x, 4, (1, 3), [0, 1, 0, 1]), conv(net, x, 4, (3, 1), [1, 0, 1, 0]))
    check(net.model(net.Add(strips, conv(net, x, 4, 3, 1))), [MERGE], ["Conv"])


def test_dilated_kernels_align_where_their_taps_do():
    net = Net()
    x = net.input(1, 4, 9, 9)
    y = net.Add(conv(net, x, 4, 3, 2, dilation=2), conv(net, x, 4, 1))
    model = net.model(y)
    check(model, [MERGE], ["Conv"])
    assert tuple(model.graph[0].attributes["dilations"].value) == (2, 2)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda n, x: n.Add(conv(n, x, 4, 3, 2, dilation=2), conv(n, x, 4, 3, 1)), "more multiplications"),
        (
            lambda n, x: n.Add(conv(n, x, 4, (1, 3), [0, 1, 0, 1]), conv(n, x, 4, (3, 1), [1, 0, 1, 0])),
            "more multiplications",
        ),
        (lambda n, x: n.Add(conv(n, x, 4, 3, 1, group=4), conv(n, x, 4, 1)), "more multiplications"),
        (lambda n, x: n.Add(conv(n, x, 4, 3, 1), conv(n, x, 1, 1)), "widens"),
        (lambda n, x: n.Add(conv(n, x, 4, 9, 2), conv(n, x, 4, 1, stride=9)), "strides differ"),
        (
            lambda n, x: n.Add(
                conv(n, x, 4, 3, 1),
                n.AveragePool(x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1], dilations=[1, 1]),
            ),
            "leaves padding out",
        ),
        (lambda n, x: n.Add(conv(n, x, 4, 3, 1), n.Mul(x, n.randn(5))), "one constant a channel"),
        (lambda n, x: n.Add(x, n.Relu(x)), "does not match"),
    ],
)
def test_what_is_refused(build, reason):
    net = Net()
    y = build(net, net.input(1, 4, 5, 5))
    assert reason in refusal(net.model(y), MERGE)


def test_two_different_inputs_are_not_merged():
    net = Net()
    y = net.Add(conv(net, net.input(1, 4, 5, 5), 4, 1), conv(net, net.input(1, 4, 5, 5), 4, 1))
    assert refusal(net.model(y), MERGE) == "the pattern does not match"


def plain_block(net: Net, x, out: int, stride: int):
    """3x3 and 1x1 with BatchNormalization, and a BatchNormalization of the input where shapes allow."""
    y = net.batchnorm(conv(net, x, out, 3, 1, stride, bias=False))
    y = net.Add(y, net.batchnorm(conv(net, x, out, 1, 0, stride, bias=False)))
    if x.shape[1] == out and stride == 1:
        y = net.Add(y, net.batchnorm(x))
    return net.Relu(y)


def separable_block(net: Net, x, out: int, stride: int, branches: int = 4):
    """Depthwise: `branches` 3x3, one 1x1, an identity; then pointwise: `branches` 1x1 and an identity."""
    for width, kernel, group, s in ((x.shape[1], 3, x.shape[1], stride), (out, 1, 1, 1)):
        same = x.shape[1] == width and s == 1
        parts = [net.batchnorm(x)] if same else []
        if kernel == 3:
            parts.append(net.batchnorm(conv(net, x, width, 1, 0, s, group, bias=False)))
        for _ in range(branches):
            parts.append(net.batchnorm(conv(net, x, width, kernel, kernel // 2, s, group, bias=False)))
        total = parts[0]
        for part in parts[1:]:
            total = net.Add(total, part)
        x = net.Relu(total)
    return x


def deep(block, widths) -> Net:
    net = Net()
    x = net.input(1, 3, 32, 32)
    for i, width in enumerate(widths):
        x = block(net, x, width, 2 if i in (0, 2, 6) else 1)
    pooled = net.Reshape(net.GlobalAveragePool(x), net.const([1, int(x.shape[1])]))
    return net.model(net.Gemm(pooled, net.randn(int(x.shape[1]), 10), net.randn(10)))


@pytest.mark.parametrize(("block", "activations"), [(plain_block, 1), (separable_block, 2)])
def test_a_deep_net_ends_with_one_convolution_per_block(block, activations):
    widths = [8] * 2 + [12] * 4 + [16] * 14 + [20] * 2
    model = deep(block, widths)
    normalize(model)
    feeds = feeds_of(model)
    before = run(model, feeds)
    PassManager(default_pipeline()).run(model)
    assert_close(before, run(model, feeds), rounding=1e-4)
    found = ops(model)
    blocks = len(widths) * activations
    assert found.count("Conv") == found.count("Relu") == blocks
    assert len(found) == 2 * blocks + 3
